/** How people name a session: NAME@SESSION, where SESSION is an id, `latest`, `latest~2`, a tag, or a date or time. Pure. */
import { TimebandError } from '../bands/errors.ts';
import { parseSessionId } from '../bands/format/session-id.ts';

export type SessionSpec =
  | { readonly kind: 'id'; readonly id: string }
  | { readonly kind: 'back'; readonly steps: number }
  | { readonly kind: 'time'; readonly text: string }
  | { readonly kind: 'tag'; readonly tag: string };

const DATE_OR_TIME = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,3}))?)?(Z)?)?$/;

/** @throws TimebandError USAGE for a date or time that does not exist */
export function parseSessionSpec(text: string): SessionSpec {
  if (parseSessionId(text) !== undefined) return { kind: 'id', id: text };
  const back = /^latest(?:~(\d{1,9}))?$/.exec(text);
  if (back !== null) return { kind: 'back', steps: Number(back[1] ?? 0) };
  if (!DATE_OR_TIME.test(text)) return { kind: 'tag', tag: text };
  if (notAfterMs(text) === undefined) throw new TimebandError(`"${text}" is not a date or time that exists.`, { code: 'USAGE' });
  return { kind: 'time', text };
}

/**
 * The last millisecond that `text` covers: a day for a date, a minute or second for a time; in local time, or UTC with
 * a "Z" behind. Undefined if there is no such day or time.
 */
export function notAfterMs(text: string): number | undefined {
  const match = DATE_OR_TIME.exec(text);
  if (match === null) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((part) => (part === undefined ? undefined : Number(part)));
  const millisecond = match[7] === undefined ? 999 : Number(match[7].padEnd(3, '0'));
  const fields = [year ?? 0, (month ?? 0) - 1, day ?? 0, hour ?? 23, minute ?? 59, second ?? 59, millisecond] as const;
  const date = match[8] === 'Z' ? new Date(Date.UTC(...fields)) : new Date(...fields);
  const isReal =
    match[8] === 'Z'
      ? date.getUTCDate() === fields[2] && date.getUTCMonth() === fields[1]
      : date.getDate() === fields[2] && date.getMonth() === fields[1];
  return isReal && fields[3] < 24 && fields[4] < 60 && fields[5] < 60 ? date.getTime() : undefined;
}

/** Splits `NAME@SESSION`; without an "@" there is no session. */
export function splitVolumeAndSession(text: string): { readonly name: string; readonly session: string | undefined } {
  const at = text.indexOf('@');
  if (at < 0) return { name: text, session: undefined };
  const session = text.slice(at + 1);
  if (at === 0 || session === '') throw new TimebandError(`"${text}": give NAME or NAME@SESSION, as in work/private@latest~1.`, { code: 'USAGE' });
  return { name: text.slice(0, at), session };
}
