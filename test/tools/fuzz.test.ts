/** The fuzzer: a short campaign over every decoder, and that it finds what it looks for. */
import test from 'ava';
import { TimebandError } from '../../bands/errors.ts';
import { FuzzFailure, runCampaign } from '../../tools/fuzz/campaign.ts';
import { mutate } from '../../tools/fuzz/mutate.ts';
import { FastRandom } from '../../tools/fuzz/random.ts';
import type { FuzzTarget } from '../../tools/fuzz/target.ts';
import { ALL_TARGETS } from '../../tools/fuzz/targets/all.ts';

const SHORT = { seed: 7, first: 0, inputs: 600 };

for (const target of ALL_TARGETS) {
  test(`no damaged input breaks a rule: ${target.name}`, (t) => {
    const { inputs, accepted, refused } = runCampaign(target, SHORT);
    t.is(accepted + refused, inputs);
    t.true(accepted > 0, 'samples come through undamaged, too');
  });
}

function faulty(decode: FuzzTarget['decode']): FuzzTarget {
  return { name: 'faulty', samples: [Uint8Array.of(1, 2, 3, 4)], codes: ['RECORD_CORRUPT'], decode };
}

const FAULTS: readonly [what: string, target: FuzzTarget, message: RegExp][] = [
  ['an error of another class', faulty(() => Uint8Array.of().with(0, 1)), /RangeError/],
  [
    'another code than is allowed',
    faulty(() => {
      throw new TimebandError('no', { code: 'IO_ERROR' });
    }),
    /IO_ERROR/,
  ],
  [
    'an input that is changed and refused',
    faulty((bytes) => {
      bytes.fill(0xee);
      throw new TimebandError('no', { code: 'RECORD_CORRUPT' });
    }),
    /changed its input/,
  ],
];

for (const [what, target, message] of FAULTS) {
  test(`the fuzzer finds ${what}, and shows the input`, (t) => {
    const failure = t.throws(() => runCampaign(target, SHORT), { instanceOf: FuzzFailure });
    t.regex(failure?.message ?? '', message);
    t.regex(failure?.message ?? '', /input: [0-9a-f]*$/);
  });
}

test('an input is a function of the seed alone, and leaves the samples as they are', (t) => {
  const sample = Buffer.from('a sample of some length');
  const inputs = (): Uint8Array[] => Array.from({ length: 200 }, (_, i) => mutate([sample], new FastRandom(i)));
  t.deepEqual(inputs(), inputs());
  t.is(sample.toString(), 'a sample of some length');
});
