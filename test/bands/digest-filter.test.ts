/** The filter of digests: what was added is known, what was not is seldom taken for known, and it never grows beyond its bound. */
import { createHash } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import { addDigest, createDigestFilter, mayKnow } from '../../bands/workers/digest-filter.ts';

function digestOf(label: string): Uint8Array {
  return createHash('sha256').update(label).digest();
}

test('every digest that was added is known, whatever the size of the filter', (t) => {
  fc.assert(
    fc.property(fc.nat({ max: 200_000 }), fc.array(fc.uint8Array({ minLength: 32, maxLength: 32 }), { maxLength: 50 }), (count, digests) => {
      const filter = createDigestFilter(count);
      for (const digest of digests) addDigest(filter, digest);
      return digests.every((digest) => mayKnow(filter, digest));
    }),
    { numRuns: 50 },
  );
  t.pass();
});

test('an empty filter knows nothing, and one that is as full as foreseen errs less than once in fifty times', (t) => {
  const count = 50_000;
  const filter = createDigestFilter(count);
  t.false(mayKnow(filter, digestOf('other 0')));
  for (let i = 0; i < count; i++) addDigest(filter, digestOf(`added ${i}`));
  let wrong = 0;
  for (let i = 0; i < 20_000; i++) if (mayKnow(filter, digestOf(`other ${i}`))) wrong++;
  t.true(wrong < 400, `${wrong} of 20000`);
});

test('a filter lies in shared memory, of 8 KiB to 16 MiB', (t) => {
  t.true(createDigestFilter(0).buffer instanceof SharedArrayBuffer);
  t.deepEqual(
    [0, 1, 4096, 4097, 1e6, 1e12].map((count) => createDigestFilter(count).length),
    [8192, 8192, 8192, 16_384, 2 ** 21, 2 ** 24],
  );
});
