/** The process behind an NBD server in the background. */
import { serveFrom, serveInBackground } from '../background/serve.ts';
import { serveNbd } from './serve.ts';

serveInBackground(serveFrom(serveNbd));
