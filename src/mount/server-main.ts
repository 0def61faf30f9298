/** The process behind a mount in the background. */
import { serveInBackground } from '../background/serve.ts';
import { serveMount } from './serve.ts';

serveInBackground(serveMount);
