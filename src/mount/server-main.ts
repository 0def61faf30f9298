/**
 * The process behind a background mount. It is told what to serve over its channel, answers once, and ends with the mount.
 * If nobody is there any more to take the answer, the command was killed or gave up: the mount is taken down again.
 */
import { messageOf, TimebandError } from '../../bands/errors.ts';
import { wipeKeys } from '../../bands/format/keys.ts';
import { toWireError } from '../../bands/workers/tasks.ts';
import { Repository } from '../repository.ts';
import type { ServeAnswer, ServeMessage } from './messages.ts';
import { type ServedMount, serveMount } from './serve.ts';

for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined); // a log that cannot be written ends no mount

function log(line: string): void {
  process.stderr.write(`${new Date().toISOString()} ${line}\n`);
}

/** @returns whether somebody was there to be told */
function answer(message: ServeAnswer): Promise<boolean> {
  return new Promise((resolve) => {
    if (!process.connected) return resolve(false);
    process.send?.(message, (error: Error | null) => {
      if (process.connected) process.disconnect();
      resolve(error === null);
    });
  });
}

async function serve({ root, masterKey, request }: ServeMessage): Promise<void> {
  const repository = await Repository.open(root, { masterKey });
  wipeKeys(masterKey);
  const mount = await serveMount(repository, request, log);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => takeDown(mount));
  if (!(await answer({ mountPoint: mount.mountPoint }))) takeDown(mount);
  await mount.gone;
  repository.close();
}

function takeDown(mount: ServedMount): void {
  mount.down().catch((error: unknown) => log(`still mounted: ${messageOf(error)}`));
}

process.once('message', (message: ServeMessage) => {
  serve(message).catch(async (error: unknown) => {
    log(messageOf(error));
    const known = error instanceof TimebandError ? error : new TimebandError(messageOf(error), { code: 'MOUNT_FAILED', cause: error });
    await answer({ error: toWireError(known) });
  });
});
