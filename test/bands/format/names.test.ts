import test from 'ava';
import fc from 'fast-check';
import { nodePrimitives } from '../../../bands/crypto/node-primitives.ts';
import { decodeName, encodeNames, NAME_PATTERN, type NameKind } from '../../../bands/format/names.ts';
import { noblePrimitives } from '../../../bands/format/noble-primitives.ts';
import { fill, hex } from '../../support/bytes.ts';
import { readVectors } from './vectors.ts';

interface NameVectors {
  readonly namesKey: string;
  readonly vectors: readonly { readonly kind: NameKind; readonly number: number; readonly name: string }[];
  readonly faults: readonly { readonly name: string; readonly text: string }[];
}

const { namesKey, vectors, faults } = readVectors<NameVectors>('names');
const key = hex(namesKey);
const kinds = fc.constantFrom<NameKind[]>('band', 'page');

for (const [by, primitives] of Object.entries({ node: nodePrimitives, noble: noblePrimitives })) {
  test(`${by}: the names of the vectors come out, and lead back to their numbers`, (t) => {
    for (const { kind, number, name } of vectors) {
      t.deepEqual(encodeNames(primitives, key, { kind, first: number, count: 1 }), [name]);
      t.is(decodeName(primitives, key, { kind, name }), number);
    }
  });

  test(`${by}: a text that names no band under this key gives nothing`, (t) => {
    for (const fault of faults) t.is(decodeName(primitives, key, { kind: 'band', name: fault.text }), undefined, fault.name);
  });

  test(`${by}: any number comes back from its name, and from no name of the other kind`, (t) => {
    const comesBack = (kind: NameKind, number: number): boolean => {
      const [name = ''] = encodeNames(primitives, key, { kind, first: number, count: 1 });
      const other = kind === 'band' ? 'page' : 'band';
      return (
        NAME_PATTERN.test(name) &&
        decodeName(primitives, key, { kind, name }) === number &&
        decodeName(primitives, key, { kind: other, name }) === undefined
      );
    };
    fc.assert(fc.property(kinds, fc.nat(Number.MAX_SAFE_INTEGER), comesBack));
    t.pass();
  });

  test(`${by}: any text gives a number or nothing`, (t) => {
    const texts = fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-f]{32}$/), fc.stringMatching(/^[0-9a-fA-F]{31,33}$/));
    fc.assert(
      fc.property(texts, (name) => {
        const number = decodeName(primitives, key, { kind: 'band', name });
        return number === undefined || encodeNames(primitives, key, { kind: 'band', first: number, count: 1 })[0] === name;
      }),
    );
    t.pass();
  });
}

test('names made together are those made one by one, without collisions', (t) => {
  const together = encodeNames(nodePrimitives, key, { kind: 'band', first: 250, count: 1000 });
  const single = together.map((_, i) => encodeNames(nodePrimitives, key, { kind: 'band', first: 250 + i, count: 1 })[0]);
  const pages = encodeNames(nodePrimitives, key, { kind: 'page', first: 250, count: 1000 });
  t.deepEqual(together, single);
  t.is(new Set([...together, ...pages]).size, 2000);
  t.deepEqual(encodeNames(nodePrimitives, key, { kind: 'band', first: 5, count: 0 }), []);
});

test('another key gives other names', (t) => {
  const range = { kind: 'band', first: 0, count: 100 } as const;
  const names = new Set([...encodeNames(nodePrimitives, key, range), ...encodeNames(nodePrimitives, fill('other', 32), range)]);
  t.is(names.size, 200);
});
