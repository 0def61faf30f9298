/**
 * The process behind a background mount. It is told what to serve over its channel, answers once, and ends with the mount.
 * If the command does not say then that it wants the mount, it was killed or gave up: the mount is taken down again.
 */
import { messageOf, TimebandError } from '../../bands/errors.ts';
import { toWireError } from '../../bands/workers/tasks.ts';
import { wipeGrant } from '../keys/key-ring.ts';
import { Repository } from '../repository.ts';
import { type ServeAnswer, type ServeMessage, WANTED } from './messages.ts';
import { type ServedMount, serveMount } from './serve.ts';

for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined); // a log that cannot be written ends no mount

function log(line: string): void {
  process.stderr.write(`${new Date().toISOString()} ${line}\n`);
}

/** Calls `done` when it is on its way; whether it arrives shows when the channel closes. */
function answer(message: ServeAnswer, done: () => void = () => undefined): void {
  if (process.connected) process.send?.(message, done);
}

/** Whether the command wants the mount: not if it went away before it said so. */
function isWanted(): Promise<boolean> {
  return new Promise((resolve) => {
    process.once('message', (message) => resolve(message === WANTED));
    process.once('disconnect', () => resolve(false));
    if (!process.connected) resolve(false);
  });
}

function hangUp(): void {
  if (process.connected) process.disconnect();
}

async function serve({ root, key, request }: ServeMessage): Promise<void> {
  const repository = await Repository.open(root, key);
  wipeGrant(key);
  const mount = await serveMount(repository, request, log);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => takeDown(mount));
  const wanted = isWanted();
  answer({ mountPoint: mount.mountPoint });
  if (!(await wanted)) takeDown(mount);
  hangUp();
  await mount.gone;
  repository.close();
}

function takeDown(mount: ServedMount): void {
  mount.down().catch((error: unknown) => log(`still mounted: ${messageOf(error)}`));
}

process.once('message', (message: ServeMessage) => {
  serve(message).catch((error: unknown) => {
    log(messageOf(error));
    const known = error instanceof TimebandError ? error : new TimebandError(messageOf(error), { code: 'MOUNT_FAILED', cause: error });
    answer({ error: toWireError(known) }, hangUp);
  });
});
