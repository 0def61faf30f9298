/** The commands `serve-nbd` and `stop-nbd`, as a program calls them. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TimebandError } from '../../bands/errors.ts';
import { BackgroundServer } from '../background/start.ts';
import { type ProcessIdentity, stateOf } from '../host.ts';
import type { Repository } from '../repository.ts';
import { ServiceRegistry } from '../service-registry.ts';
import type { NbdRequest } from './serve.ts';

const PROGRAM = new URL('./server-main.js', import.meta.url);
const EXIT_WAIT_MS = 60_000;
const POLL_MS = 25;

interface ServerRecord {
  readonly server: ProcessIdentity;
  readonly repository: string;
}

/** Which servers this user has up. */
export function nbdRegistry(stateDirectory: string): ServiceRegistry<ServerRecord> {
  return new ServiceRegistry(path.join(stateDirectory, 'nbd'), 'the socket');
}

export interface StartNbdOptions {
  readonly stateDirectory: string;
  readonly request: NbdRequest;
  /** Aborted: what was begun is undone. */
  readonly signal: AbortSignal;
}

/** Serves sessions in the background. @throws TimebandError as `serveNbd`, MOUNT_FAILED, INTERRUPTED */
export async function startNbd(repository: Repository, { stateDirectory, request, signal }: StartNbdOptions): Promise<void> {
  const registry = nbdRegistry(stateDirectory);
  const { socket } = request;
  await using _lock = await registry.lock(socket, 'serve-nbd');
  const known = await registry.get(socket);
  if (known !== undefined && stateOf(known.server) === 'running')
    throw new TimebandError(
      `process ${known.server.pid} serves at ${socket} already. End it with "timeband stop-nbd ${socket}", or name another place.`,
      {
        code: 'LOCKED',
        path: socket,
      },
    );
  const message = { root: repository.layout.root, key: repository.exportKey(), request };
  const onStarted = (server: ProcessIdentity): Promise<void> => registry.put(socket, { server, repository: repository.layout.root });
  try {
    await using server = await BackgroundServer.start(PROGRAM, registry.directory);
    await server.serve(message, { path: socket, logFile: await registry.newLogFile(socket), onStarted, signal });
  } catch (error) {
    await registry.remove(socket);
    throw error;
  }
}

/** Ends a server in the background, and waits until it has ended. @throws TimebandError NOT_MOUNTED, LOCKED, MOUNT_BUSY, IO_ERROR (what was written may be lost) */
export async function stopNbd(stateDirectory: string, socket: string): Promise<void> {
  const registry = nbdRegistry(stateDirectory);
  await using _lock = await registry.lock(socket, 'stop-nbd');
  const record = await registry.get(socket);
  if (record === undefined || stateOf(record.server) !== 'running') {
    await registry.remove(socket);
    throw new TimebandError(`no server of yours that "timeband serve-nbd" started serves at ${socket}.`, { code: 'NOT_MOUNTED', path: socket });
  }
  process.kill(record.server.pid, 'SIGTERM');
  const deadline = performance.now() + EXIT_WAIT_MS;
  while (stateOf(record.server) === 'running') {
    if (performance.now() > deadline)
      throw new TimebandError(`process ${record.server.pid} that serves at ${socket} was told to end, but still runs.`, {
        code: 'MOUNT_BUSY',
        path: socket,
      });
    await sleep(POLL_MS);
  }
  const problem = await registry.problemAtEnd(socket);
  await registry.remove(socket);
  if (problem === undefined) return;
  throw new TimebandError(`the server at ${socket} has ended, but what was written last may not be in its overlay: ${problem}`, {
    code: 'IO_ERROR',
    path: socket,
  });
}
