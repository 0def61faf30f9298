/** The process behind an NBD server in the background. */
import { readersPool } from '../../bands/workers/band-pool.ts';
import { serveFrom, serveInBackground } from '../background/serve.ts';
import { type NbdRequest, serveNbd } from './serve.ts';

const pool = readersPool(); // its threads load while the process is told what to serve

serveInBackground(
  serveFrom((repository, request: NbdRequest, log) => serveNbd(repository, request, { pool, log })),
  () => pool.close(),
);
