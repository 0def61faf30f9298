/**
 * The process behind a mount or server in the background. It is told what to serve over its channel, answers once, and ends
 * with the service. If the command does not say then that it wants it, it was killed or gave up: the service is taken down again.
 */
import { rmSync } from 'node:fs';
import { messageOf, TimebandError } from '../../bands/errors.ts';
import { toWireError } from '../../bands/workers/tasks.ts';
import { wipeGrant } from '../keys/key-ring.ts';
import { Repository } from '../repository.ts';
import { limitCoreDumps } from '../sources/libc.ts';
import { NOT_IN_ORDER, type RepositoryMessage, type ServeAnswer, WANTED } from './messages.ts';

/** What is up. */
export interface Service {
  /** Settles when it is gone, whoever took it down. @throws what kept it from making everything durable */
  readonly gone: Promise<void>;
  /** @throws TimebandError MOUNT_BUSY and it stays up */
  down(): Promise<void>;
}

/** Brings up what a message asks for. */
export type Serve<Message> = (message: Message, log: (line: string) => void) => Promise<Service>;

/** Brings up something of a repository. */
export function serveFrom<Request>(
  serve: (repository: Repository, request: Request, log: (line: string) => void) => Promise<Service>,
): Serve<RepositoryMessage<Request>> {
  limitCoreDumps(); // before there is a key
  return async ({ root, key, request }, log) => {
    const repository = await Repository.open(root, key);
    wipeGrant(key);
    const service = await serve(repository, request, log);
    return { gone: service.gone.finally(() => repository.close()), down: () => service.down() };
  };
}

/** Waits for the command's message, and serves what it asks for. The whole of a program; its argument is its log, until it has a task. */
export function serveInBackground<Message>(serve: Serve<Message>): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined); // a log that cannot be written ends no service
  const leave = (): void => rmSync(process.argv[2] ?? '', { force: true }); // the command was killed
  if (!process.connected) leave();
  process.once('disconnect', leave);
  process.once('message', (message: Message) => {
    process.off('disconnect', leave);
    run(serve, message).catch((error: unknown) => {
      log(messageOf(error));
      const known = error instanceof TimebandError ? error : new TimebandError(messageOf(error), { code: 'MOUNT_FAILED', cause: error });
      answer({ error: toWireError(known) }, hangUp);
    });
  });
}

function log(line: string): void {
  process.stderr.write(`${new Date().toISOString()} ${line}\n`);
}

/** Calls `done` when it is on its way; whether it arrives shows when the channel closes. */
function answer(message: ServeAnswer, done: () => void = () => undefined): void {
  if (process.connected) process.send?.(message, done);
}

/** Whether the command wants the service: not if it went away before it said so. */
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

async function run<Message>(serve: Serve<Message>, message: Message): Promise<void> {
  const service = await serve(message, log);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => takeDown(service));
  const wanted = isWanted();
  answer({ isUp: true });
  if (!(await wanted)) takeDown(service);
  hangUp();
  await service.gone.catch((error: unknown) => log(`${NOT_IN_ORDER}${messageOf(error)}`)); // whoever takes it down looks there
}

function takeDown(service: Service): void {
  service.down().catch((error: unknown) => {
    if (error instanceof TimebandError && error.code === 'MOUNT_BUSY') log(`still up: ${error.message}`);
  });
}
