/** The process behind a mount in the background. */
import { serveFrom, serveInBackground } from '../background/serve.ts';
import { serveMount } from './serve.ts';

serveInBackground(serveFrom(serveMount));
