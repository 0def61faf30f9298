/**
 * What a sync and the process that serves a tracked image tell each other over its socket: JSON, a line each. Requests are
 * answered in their order. A frozen point lasts until it is thawed, or until the connection that asked for it ends.
 */
import { TimebandError } from '../../bands/errors.ts';
import type { WireError } from '../../bands/workers/tasks.ts';
import type { SessionToken, SourceOwner } from '../sources/source.ts';
import type { AsidePart } from './frozen-point.ts';
import type { TrackedSession } from './tracked-image.ts';

export const SOCKET_NAME = 'control';
/** The bitmap of 64 TiB is smaller. */
const MAX_LINE_LENGTH = 67_108_864;

/** Each request and its answer, by name. */
export interface ControlTasks {
  freeze: { readonly task: { readonly isDryRun: boolean }; readonly answer: FrozenAnswer };
  changes: { readonly task: { readonly token: SessionToken }; readonly answer: ChangesAnswer };
  /** What of a range lies in the aside file by now. */
  parts: { readonly task: { readonly offset: number; readonly length: number }; readonly answer: { readonly parts: readonly AsidePart[] } };
  bind: { readonly task: { readonly token: SessionToken }; readonly answer: null };
  keepOnly: { readonly task: { readonly token: SessionToken }; readonly answer: null };
  forget: { readonly task: { readonly owner: SourceOwner }; readonly answer: { readonly sessions: number } };
  thaw: { readonly task: Record<never, never>; readonly answer: null };
  status: { readonly task: Record<never, never>; readonly answer: StatusAnswer };
}

export type ControlName = keyof ControlTasks;

export interface FrozenAnswer {
  /** The backing file or device, and what tells it from another that has taken its name. */
  readonly image: string;
  readonly identity: string;
  readonly sizeBytes: number;
  readonly aside: string;
}

/** The bitmap in base64, or why there is none. */
export type ChangesAnswer = { readonly bitmap: string } | { readonly reason: string };

export interface StatusAnswer {
  readonly image: string;
  readonly sizeBytes: number;
  readonly sessions: readonly TrackedSession[];
  /** While a sync reads the image: what was put aside for it. */
  readonly asideBytes: number | null;
  readonly doubt: string | null;
}

export type ControlAnswer = { readonly value: unknown } | { readonly error: WireError };

/** Cuts what comes over a socket into messages. */
export class LineReader {
  #rest = '';

  /** @throws TimebandError IO_ERROR on what is no message */
  *take(text: string): Generator<unknown> {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > MAX_LINE_LENGTH) throw new TimebandError('a message without an end', { code: 'IO_ERROR' });
    for (const line of lines) yield parse(line);
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new TimebandError('what came over the socket is no message', { code: 'IO_ERROR', cause });
  }
}

export function encodeLine(message: unknown): string {
  return `${JSON.stringify(message)}\n`;
}
