/** The process behind a background mount. It is told what to serve over its channel, answers once, and ends with the mount. */
import { messageOf, TimebandError } from '../../bands/errors.ts';
import { wipeKeys } from '../../bands/format/keys.ts';
import { toWireError } from '../../bands/workers/tasks.ts';
import { currentProcess } from '../host.ts';
import { Repository } from '../repository.ts';
import type { ServeAnswer, ServeMessage } from './messages.ts';
import { type ServedMount, serveMount } from './serve.ts';

for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined); // a log that cannot be written ends no mount

function log(line: string): void {
  process.stderr.write(`${new Date().toISOString()} ${line}\n`);
}

function answer(message: ServeAnswer): void {
  process.send?.(message, () => process.disconnect());
}

async function serve({ root, masterKey, request }: ServeMessage): Promise<void> {
  const repository = await Repository.open(root, { masterKey });
  wipeKeys(masterKey);
  const mount = await serveMount(repository, request, log);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => takeDown(mount));
  answer({ mountPoint: mount.mountPoint, server: currentProcess() });
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
    answer({ error: toWireError(known) });
  });
});
