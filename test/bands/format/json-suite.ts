/** What every JSON codec must do: its pinned text, its faulty texts, any value there and back, any damage refused or faithful. */
import test from 'ava';
import fc from 'fast-check';
import type { JsonCodec } from '../../../bands/format/json-record.ts';
import type { Padding } from '../../../bands/format/padding.ts';
import { isSame, sameBytes } from '../../support/bytes.ts';
import { isRefused, takesAnyBytes } from './any-bytes.ts';
import type { FaultyText } from './vectors.ts';

export interface JsonCase<T> {
  readonly codec: JsonCodec<T>;
  /** The pinned text and the value that it stands for. */
  readonly text: string;
  readonly value: T;
  readonly faults: readonly FaultyText[];
  /** Any value that the codec takes. */
  readonly values: fc.Arbitrary<T>;
  readonly indent?: number;
}

type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

export const encodeText = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Any string, lone surrogates included. */
export const anyText: fc.Arbitrary<string> = fc
  .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 30 })
  .map((units) => String.fromCharCode(...units));
/** Any time that a Date can hold. */
export const anyTime: fc.Arbitrary<number> = fc.integer({ min: -8.64e15, max: 8.64e15 });
export const anyBytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });

const strangeValues: fc.Arbitrary<Json> = fc.oneof(
  fc.constantFrom<Json[]>(
    null,
    true,
    false,
    -1,
    -0,
    0.5,
    2 ** 31,
    2 ** 53,
    1e300,
    '',
    '00',
    [],
    {},
    [[]],
    [null],
    'latest',
    '2026-02-30T00:00:00.000Z',
  ),
  fc.string(),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.array(fc.string(), { maxLength: 4 }),
);

/** Replaces, removes, adds or moves one field of one object at any depth. */
function changeOne(json: Json, choices: { readonly pick: number; readonly how: number; readonly value: Json }): Json {
  let left = choices.pick;
  const walk = (node: Json): Json => {
    if (typeof node !== 'object' || node === null) return node;
    if (Array.isArray(node)) return node.map((item: Json) => (left-- === 0 ? choices.value : walk(item)));
    const entries = Object.entries(node).flatMap(([name, value]): [string, Json][] => {
      if (left-- !== 0) return [[name, walk(value)]];
      if (choices.how === 0) return [];
      return choices.how === 1 ? [[`${name}2`, value]] : [[name, choices.value]];
    });
    return Object.fromEntries(choices.how === 3 ? entries.reverse() : entries);
  };
  return walk(json);
}

/** Ways to pad that every band size allows. */
export const anyPadding: fc.Arbitrary<Padding | undefined> = fc.constantFrom<Padding | undefined>(undefined, 'padme', 4096, 65_536, 262_144);

export function testJsonCodec<T>(what: string, { codec, text, value, faults, values, indent }: JsonCase<T>): void {
  test(`${what}: the pinned text stands for its value, both ways`, (t) => {
    t.deepEqual(codec.decode(encodeText(text)), value);
    t.is(new TextDecoder().decode(codec.encode(value)), text);
  });

  test(`${what}: a text with one fault is refused with its code`, (t) => {
    for (const fault of faults)
      t.true(
        isRefusedOrNamed(() => codec.decode(encodeText(fault.text)), fault),
        fault.name,
      );
  });

  test(`${what}: any value comes back equal, and has one form`, (t) => {
    fc.assert(
      fc.property(values, (any) => {
        const bytes = codec.encode(any);
        const decoded = codec.decode(bytes);
        t.deepEqual(decoded, any);
        return isSame(codec.encode(decoded), bytes);
      }),
    );
  });

  test(`${what}: any bytes are refused or decode to what encodes to them`, (t) => {
    takesAnyBytes(t, { ...codec, code: 'RECORD_CORRUPT', samples: [encodeText(text)] }, 1000);
  });

  test(`${what}: a field removed, renamed, moved or of any other value is refused or faithful`, (t) => {
    const changes = fc.record({ pick: fc.nat(40), how: fc.nat(5), value: strangeValues });
    const isSound = (change: { pick: number; how: number; value: Json }): boolean => {
      const bytes = encodeText(`${JSON.stringify(changeOne(JSON.parse(text) as Json, change), null, indent)}\n`);
      let back: Uint8Array | undefined;
      const refused = isRefused(() => {
        back = codec.encode(codec.decode(bytes));
      }, 'RECORD_CORRUPT');
      return refused || (back !== undefined && isSame(back, bytes));
    };
    fc.assert(fc.property(changes, isSound), { numRuns: 1000 });
    t.pass();
  });

  test(`${what}: encoding is a function of the value alone`, (t) => {
    sameBytes(t, codec.encode(value), codec.encode(structuredClone(value)));
  });
}

function isRefusedOrNamed(decode: () => unknown, fault: FaultyText): boolean {
  try {
    return isRefused(decode, fault.error);
  } catch (cause) {
    throw new Error(`fault "${fault.name}" gave another error`, { cause });
  }
}
