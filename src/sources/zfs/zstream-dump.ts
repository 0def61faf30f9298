/**
 * Reads what `zstream dump -v` prints of an incremental stream between two snapshots of a zvol, and gives the parts of the
 * volume that the stream touches. That text is made for people, so whatever is not understood completely means that
 * nothing is known: an unknown record, a line that fits nowhere, another snapshot than asked for, a stream that is cut
 * (the program then ends with status 0 all the same), or totals that do not agree with what was read. Pure.
 */
import { Bitmap } from '../../../bands/format/bitmap.ts';
import { type ByteRange, MIN_BAND_BYTES, mergeRanges } from '../../../bands/format/geometry.ts';

/** Of a zvol: object 1 is its data, object 2 holds properties such as its size. */
const DATA_OBJECT = 1;
const PROPERTIES_OBJECT = 2;
/** The type of a stream (dmu_objset_type_t) of a zvol. */
const TYPE_ZVOL = '3';
const MAX_SHOWN = 80;

export interface ExpectedStream {
  readonly fromGuid: bigint;
  readonly toGuid: bigint;
  /** Of the newer snapshot. */
  readonly sizeBytes: number;
}

export type StreamChanges = { readonly ranges: readonly ByteRange[] } | { readonly reason: string };

type Values = ReadonlyMap<string, string>;

export class ZstreamDump {
  readonly #expected: ExpectedStream;
  /** A bit for each run of the least band size: finer would be rounded up anyway, and memory stays small. */
  readonly #touched: Bitmap;
  readonly #header = new Map<string, string>();
  readonly #counts = new Map<string, number>();
  readonly #totals = new Map<string, number>();
  #state: 'start' | 'header' | 'records' | 'ended' | 'summary' = 'start';
  /** A record whose further lines, which are indented, may follow. */
  #pending: string | undefined;
  #problem: string | undefined;

  constructor(expected: ExpectedStream) {
    this.#expected = expected;
    this.#touched = new Bitmap(Math.ceil(expected.sizeBytes / MIN_BAND_BYTES));
  }

  /** Takes the next line, without its end. */
  line(text: string): void {
    if (this.#problem !== undefined || text.trim() === '') return;
    const isIndented = /^\s/.test(text);
    if (isIndented && this.#pending !== undefined) {
      this.#pending += ` ${text.trim()}`;
      return;
    }
    this.#finishRecord();
    if (this.#state === 'header' && isIndented) this.#takeHeader(text);
    else if (this.#state === 'summary' && isIndented) this.#takeTotal(text);
    else this.#takeUnindented(text);
  }

  /** Call after the last line. */
  end(): StreamChanges {
    this.#finishRecord();
    if (this.#problem === undefined) this.#checkWhole();
    if (this.#problem !== undefined) return { reason: this.#problem };
    const { sizeBytes } = this.#expected;
    const runs = [...this.#touched].map((i) => ({ offset: i * MIN_BAND_BYTES, length: Math.min(MIN_BAND_BYTES, sizeBytes - i * MIN_BAND_BYTES) }));
    return { ranges: mergeRanges(runs) };
  }

  #fail(reason: string): void {
    this.#problem ??= `the stream between the snapshots could not be read: ${reason}`;
  }

  #notUnderstood(text: string): void {
    this.#fail(`${JSON.stringify(text.slice(0, MAX_SHOWN))} is not understood`);
  }

  #takeUnindented(text: string): void {
    if (this.#state === 'start' && text === 'BEGIN record') {
      this.#count('BEGIN');
      this.#state = 'header';
    } else if (this.#state === 'ended' && text === 'SUMMARY:') this.#state = 'summary';
    else if (this.#state === 'header' || this.#state === 'records') {
      this.#state = 'records';
      this.#pending = text;
    } else this.#notUnderstood(text);
  }

  #takeHeader(text: string): void {
    const [, key, value] = /^\s+(\w+) = (.*)$/.exec(text) ?? [];
    if (key === undefined || value === undefined || this.#header.has(key)) this.#notUnderstood(text);
    else this.#header.set(key, value);
  }

  /** `Total DRR_WRITE records = 3 (49152 bytes)`, `Total records = 9`; other totals do not matter. */
  #takeTotal(text: string): void {
    const [, kind, count] = /^\s+Total (?:DRR_(\w+) )?records = (\d+)\b/.exec(text) ?? [];
    if (count !== undefined) this.#totals.set(kind ?? '', Number(count));
    else if (!/^\s+Total [\w ]+ = \d+ \(0x[0-9a-f]+\)$/.test(text)) this.#notUnderstood(text);
  }

  #count(kind: string): void {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
  }

  #finishRecord(): void {
    const text = this.#pending;
    this.#pending = undefined;
    if (text === undefined || this.#problem !== undefined) return;
    const [, kind = '', rest = ''] = /^([A-Z_]+)\b(.*)$/.exec(text) ?? [];
    const values = valuesOf(rest);
    this.#count(kind);
    if (values === undefined || !this.#takeRecord(kind, values)) this.#notUnderstood(text);
  }

  /** @returns whether the record was understood */
  #takeRecord(kind: string, values: Values): boolean {
    const object = integer(values.get('object'));
    switch (kind) {
      case 'END':
        this.#state = 'ended';
        return true;
      case 'OBJECT':
        return object === DATA_OBJECT || object === PROPERTIES_OBJECT;
      case 'FREEOBJECTS':
        return isBesideData(integer(values.get('firstobj')), integer(values.get('numobjs')));
      case 'WRITE':
        return this.#touch(object, values.get('offset'), values.get('logical_size') ?? values.get('length'));
      case 'WRITE_BYREF':
      case 'WRITE_EMBEDDED':
      case 'FREE':
        return this.#touch(object, values.get('offset'), values.get('length'));
      default:
        return false; // REDACT, OBJECT_RANGE, SPILL, and what there is in later versions
    }
  }

  /** Marks a range; a length of -1, or beyond all numbers, goes to the end. */
  #touch(object: number | undefined, offsetText: string | undefined, lengthText: string | undefined): boolean {
    const offset = integer(offsetText);
    if (offset === undefined || lengthText === undefined || !/^(?:-1|\d+)$/.test(lengthText)) return false;
    if (object === PROPERTIES_OBJECT) return true;
    if (object !== DATA_OBJECT) return false;
    const { sizeBytes } = this.#expected;
    const end = lengthText === '-1' ? sizeBytes : Math.min(offset + Number(lengthText), sizeBytes);
    if (end > offset) this.#touched.setRange(Math.floor(offset / MIN_BAND_BYTES), Math.ceil(end / MIN_BAND_BYTES));
    return true;
  }

  #checkWhole(): void {
    if (this.#state !== 'summary') this.#fail('it is cut');
    const { fromGuid, toGuid } = this.#expected;
    const isExpected = hexOf(this.#header.get('fromguid')) === fromGuid && hexOf(this.#header.get('toguid')) === toGuid;
    if (!isExpected) this.#fail('it is of other snapshots');
    if (this.#header.get('type') !== TYPE_ZVOL) this.#fail('it is not of a zvol');
    const all = [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
    if (this.#totals.get('') !== all) this.#fail(`${all} records were read where it counts ${this.#totals.get('')}`);
    for (const [kind, count] of this.#totals)
      if (kind !== '' && (this.#counts.get(kind) ?? 0) !== count)
        this.#fail(`${this.#counts.get(kind) ?? 0} ${kind} records were read where it counts ${count}`);
  }
}

/** `object = 1 checksum type = 7 …` as a map; undefined if a key occurs twice. */
function valuesOf(text: string): Values | undefined {
  const values = new Map<string, string>();
  for (const [, key = '', value = ''] of text.matchAll(/([a-z_]+(?: type)?) = (\S+)/g)) {
    if (values.has(key)) return undefined;
    values.set(key, value);
  }
  return values;
}

function integer(text: string | undefined): number | undefined {
  const value = text !== undefined && /^\d+$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(value) ? value : undefined;
}

function isBesideData(first: number | undefined, count: number | undefined): boolean {
  return first !== undefined && (first > DATA_OBJECT || (count !== undefined && first + count <= DATA_OBJECT));
}

function hexOf(text: string | undefined): bigint | undefined {
  return text !== undefined && /^[0-9a-f]{1,16}$/.test(text) ? BigInt(`0x${text}`) : undefined;
}
