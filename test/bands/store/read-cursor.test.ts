/** Who reads in order is recognised: forward, backward, several at once behind one open file, overtaking each other a little. */
import test from 'ava';
import { createCursor } from '../../../bands/store/image.ts';
import { followRun } from '../../../bands/store/read-cursor.ts';

const MIB = 1_048_576;
const READ = 131_072;
const READS = 100;

test('readers that take turns on one open file are each followed, forward and backward', (t) => {
  const cursor = createCursor();
  for (let i = 0; i < READS; i++) {
    for (let reader = 0; reader < 7; reader++) {
      const step = reader % 2 === 0 ? i : -i;
      const run = followRun(cursor, (100 + reader * 1000) * MIB + step * READ, READ);
      t.is(run.bytes, i * READ);
      t.is(run.isBackward, i > 0 && reader % 2 === 1);
    }
    followRun(cursor, ((i * 7919 * MIB) % (4000 * MIB)) + 50_000 * MIB, 4096); // and one that jumps about
  }
});

test('requests of one reader that overtake each other are one run, and a jump is another', (t) => {
  const cursor = createCursor();
  let last = followRun(cursor, 0, READ);
  for (let i = 1; i < READS; i++) last = followRun(cursor, (i ^ 3) * READ, READ);
  t.is(last.bytes, READS * READ);
  t.is(followRun(cursor, 500 * MIB, READ).bytes, 0);
  t.is(cursor.runs.length, 2);
});

test('random reads never look like reading in order', (t) => {
  const cursor = createCursor();
  let state = 1;
  for (let i = 0; i < 10_000; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    t.true(followRun(cursor, (state % 1_000_000) * 4096, 4096).bytes < 524_288);
  }
});
