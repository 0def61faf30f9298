/** The process behind a mount in the background. */
import { readersPool } from '../../bands/workers/band-pool.ts';
import { serveFrom, serveInBackground } from '../background/serve.ts';
import { type ServeRequest, serveMount } from './serve.ts';

const pool = readersPool(); // its threads load while the key is derived

serveInBackground(
  serveFrom((repository, request: ServeRequest, log) => serveMount(repository, request, { pool, log })),
  () => pool.close(),
);
