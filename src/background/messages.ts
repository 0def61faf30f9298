/** What the command line and a process that serves something in the background tell each other over the channel between them. */
import type { WireError } from '../../bands/workers/tasks.ts';
import type { KeyGrant } from '../keys/key-ring.ts';

/** Something of a repository. The key travels over the channel: never in arguments or the environment, where others could see it. */
export interface RepositoryMessage<Request> {
  readonly root: string;
  readonly key: KeyGrant;
  readonly request: Request;
}

export function hasKey(message: object): message is RepositoryMessage<unknown> {
  return 'key' in message;
}

export type ServeAnswer = { readonly isUp: true } | { readonly error: WireError };

/** What the log of a service says, before the reason, if it could not make everything durable in the end. */
export const NOT_IN_ORDER = 'not ended in order: ';

/** Said when the answer has come: from then on the service stays, whatever becomes of the command. */
export const WANTED = 'wanted';
