/** What the command line and the process that serves a mount tell each other over the channel between them. */
import type { WireError } from '../../bands/workers/tasks.ts';
import type { KeyGrant } from '../keys/key-ring.ts';
import type { ServeRequest } from './serve.ts';

/** The key travels over the channel: never in arguments or the environment, where others could see it. */
export interface ServeMessage {
  readonly root: string;
  readonly key: KeyGrant;
  readonly request: ServeRequest;
}

export type ServeAnswer = { readonly mountPoint: string } | { readonly error: WireError };

/** Said when the answer has come: from then on the mount stays, whatever becomes of the command. */
export const WANTED = 'wanted';
