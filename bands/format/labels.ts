/** A session's labels: the part that may change after the session was made. FORMAT.md, "Labels". */
import { TimebandError } from '../errors.ts';
import { type JsonCodec, jsonCodec } from './json-record.ts';
import { parseSessionId } from './session-id.ts';

export interface Labels {
  /** Sorted, without duplicates. */
  readonly tags: readonly string[];
  readonly note: string;
  /** No prune removes a protected session. */
  readonly isProtected: boolean;
  /** When `check` last found the session whole, and whether it read the data. */
  readonly verified: { readonly atMs: number; readonly withData: boolean } | undefined;
}

export const NO_LABELS: Labels = { tags: [], note: '', isProtected: false, verified: undefined };

/** Why `tag` cannot be a tag, or undefined if it can: a tag must not be mistaken for another way to name a session. */
export function tagProblem(tag: string): string | undefined {
  if (!/^[\p{L}\p{N}][\p{L}\p{N}._-]{0,99}$/u.test(tag)) return 'use 1 to 100 letters, digits, ".", "_" or "-", beginning with a letter or digit';
  if (tag === 'latest' || parseSessionId(tag) !== undefined || /^\d{4}-\d\d(?!\d)/.test(tag)) return 'it reads like a session, a date or "latest"';
  return undefined;
}

/** @throws TimebandError USAGE */
export function checkTag(tag: string): void {
  const problem = tagProblem(tag);
  if (problem !== undefined) throw new TimebandError(`"${tag}" cannot be a tag: ${problem}.`, { code: 'USAGE' });
}

export const labelsCodec: JsonCodec<Labels> = jsonCodec('labels', {
  toJson: (labels) => ({
    format: 'timeband-labels',
    version: 1,
    tags: labels.tags,
    note: labels.note,
    protected: labels.isProtected,
    verified: labels.verified === undefined ? null : { at: new Date(labels.verified.atMs).toISOString(), data: labels.verified.withData },
  }),
  fromJson(fields) {
    fields.constant('format', 'timeband-labels');
    fields.constant('version', 1);
    const tags = fields.strings('tags');
    const isSorted = tags.every((tag, i) => tagProblem(tag) === undefined && (i === 0 || (tags[i - 1] ?? '') < tag));
    if (!isSorted) throw new TimebandError('labels: the tags are not valid, sorted and distinct', { code: 'RECORD_CORRUPT' });
    return {
      tags,
      note: fields.string('note'),
      isProtected: fields.boolean('protected'),
      verified: fields.optional('verified', (verified) => ({ atMs: verified.time('at'), withData: verified.boolean('data') })),
    };
  },
});
