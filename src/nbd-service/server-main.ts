/** The process behind an NBD server in the background. */
import { serveInBackground } from '../background/serve.ts';
import { serveNbd } from './serve.ts';

serveInBackground(serveNbd);
