/** Starting the process that serves a mount, and waiting until the mount is up or has failed. */
import { fork } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { TimebandError } from '../../bands/errors.ts';
import { FILE_MODE } from '../../bands/store/files.ts';
import { fromWireError } from '../../bands/workers/tasks.ts';
import type { ProcessIdentity } from '../host.ts';
import type { ServeAnswer, ServeMessage } from './messages.ts';

const SERVER = fileURLToPath(new URL('./server-main.js', import.meta.url));

export interface StartedServer {
  readonly mountPoint: string;
  readonly server: ProcessIdentity;
}

/** @throws TimebandError as the server found it, or MOUNT_FAILED with what it logged */
export async function startServer(message: ServeMessage, logFile: string): Promise<StartedServer> {
  await using log = await open(logFile, 'w', FILE_MODE);
  const child = fork(SERVER, [], { detached: true, serialization: 'advanced', stdio: ['ignore', log.fd, log.fd, 'ipc'], execArgv: [], cwd: '/' });
  const answer = await new Promise<ServeAnswer | undefined>((resolve, reject) => {
    child.once('message', (value: ServeAnswer) => resolve(value));
    child.once('exit', () => resolve(undefined));
    child.once('error', reject);
    child.send(message, (error) => {
      if (error !== null) reject(error);
    });
  });
  child.unref();
  if (answer === undefined) throw await diedError(logFile);
  if ('error' in answer) throw fromWireError(answer.error);
  return answer;
}

async function diedError(logFile: string): Promise<TimebandError> {
  const text = (await readFile(logFile, 'utf8')).trim();
  return new TimebandError(`the process that was to serve the mount ended at once${text === '' ? '' : `: ${text}`}`, {
    code: 'MOUNT_FAILED',
    path: logFile,
  });
}
