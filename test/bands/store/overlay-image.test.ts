/** Overlays against plain bytes: any writes, any order, reopened after a flush or after a crash, and disks that fail. */
import { readFileSync, statSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { overlayLayout } from '../../../bands/format/overlay.ts';
import { createCursor } from '../../../bands/store/image.ts';
import { fill, isSame, sameBytes } from '../../support/bytes.ts';
import { codeOf } from '../../support/library.ts';
import { sh, workspace } from '../../support/workspace.ts';
import { overlayRig, readAll } from './overlay-support.ts';

/** Ends within a block, and within the eighth of a byte of the map. */
const SIZE = 75 * 4096 + 1536;
const BASE = fill('base', SIZE);

const step = fc.record({
  kind: fc.constantFrom('write', 'write', 'write', 'zeros', 'zero', 'read', 'flush', 'crash'),
  at: fc.oneof(
    fc.nat(SIZE - 1),
    fc.nat(74).map((block) => block * 4096),
  ),
  length: fc.oneof(fc.nat(9000), fc.constantFrom(4096, 8192, 512, 300_000)),
  label: fc.nat(255),
  isAwaited: fc.boolean(),
});

for (const canPunch of [true, false])
  test(`any steps leave what they leave on plain bytes; what was flushed survives a crash (${canPunch ? 'with' : 'without'} holes)`, async (t) => {
    const space = workspace(t);
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
        const rig = await overlayRig(t, space.at(`overlay ${run++}`), BASE, { canPunch });
        let { image } = rig;
        const model = Uint8Array.from(BASE);
        let pending: Promise<void>[] = [];
        const settle = async (): Promise<void> => void (await Promise.all(pending.splice(0)));
        for (const { kind, at, length, label, isAwaited } of steps) {
          const end = Math.min(SIZE, at + length);
          const bytes = kind === 'write' ? new Uint8Array(end - at).fill(label) : new Uint8Array(end - at);
          if (kind === 'write' || kind === 'zeros') {
            model.set(bytes, at);
            pending.push(image.write(Uint8Array.from(bytes), at));
          } else if (kind === 'zero') {
            model.fill(0, at, end);
            await settle(); // what makes zeros is three steps, so its order with others is only its own
            await image.zero(at, end - at);
          } else if (kind === 'read') {
            await settle();
            await image.read(bytes, at, createCursor());
            t.true(isSame(bytes, model.subarray(at, end)));
          } else {
            await settle();
            await image.flush();
            if (kind === 'crash') image = await rig.reopened();
          }
          if (isAwaited || length > 9000) await settle(); // a large write is several: another one that overlaps it may come between
        }
        await settle();
        sameBytes(t, await readAll(image), model);
        await rig.handle.close();
        pending = [];
      }),
      { numRuns: 60 },
    );
  });

test('after a crash every block is as it was last flushed or later, and one that was never flushed is still the base', async (t) => {
  const rig = await overlayRig(t, workspace(t).at('overlay'), BASE);
  await rig.image.write(new Uint8Array(4096).fill(1), 4096);
  await rig.image.flush();
  await rig.image.write(new Uint8Array(4096).fill(2), 4096);
  await rig.image.write(new Uint8Array(4096).fill(3), 40_960);
  const after = await readAll(await rig.reopened());
  t.true([1, 2].includes(after[4096] ?? 0));
  t.true(isSame(after.subarray(40_960, 45_056), BASE.subarray(40_960, 45_056)));
});

test('a block that a crash left in the file without its bit does not shine through what is made zeros there', async (t) => {
  const rig = await overlayRig(t, workspace(t).at('overlay'), BASE);
  await rig.image.write(new Uint8Array(8192).fill(7), 8192);
  const image = await rig.reopened(); // the bits are lost, the blocks are in the file
  await image.zero(8192, 4096);
  await image.write(new Uint8Array(4096), 12_288);
  const out = new Uint8Array(8192).fill(9);
  await image.read(out, 8192, createCursor());
  t.true(out.every((byte) => byte === 0));
});

test('the file shows nothing of what was written or copied up, and takes room only for blocks that are not zeros', async (t) => {
  const file = workspace(t).at('overlay');
  const base = new Uint8Array(64 * 1_048_576);
  base.set(Buffer.from('copied up: a secret'), 5000);
  const rig = await overlayRig(t, file, base);
  await rig.image.write(Buffer.from('written: a secret'), 4200);
  await rig.image.write(new Uint8Array(32 * 1_048_576), 16 * 1_048_576);
  await rig.image.zero(0, 4096);
  await rig.image.flush();
  const { dataAt } = overlayLayout(base.length);
  const stored = readFileSync(file).subarray(dataAt, dataAt + 64 * 1024);
  t.false(stored.includes('a secret'));
  t.true(stored.subarray(4096, 8192).some((byte) => byte !== 0));
  t.true(statSync(file).blocks * 512 < 200_000, `${statSync(file).blocks * 512} bytes`);
});

test('what is known of a range: what was written is data, the rest is what the base says', async (t) => {
  const rig = await overlayRig(t, workspace(t).at('overlay'), BASE);
  await rig.image.write(new Uint8Array(10), 5000);
  const found: [number, boolean][] = [];
  for await (const { length, isZero } of rig.image.extents(0, SIZE)) found.push([length, isZero]);
  t.is(
    found.reduce((sum, [length]) => sum + length, 0),
    SIZE,
  );
  t.true(found.every(([, isZero]) => !isZero));
});

test('a full disk is NO_SPACE for the writer; nothing else is lost, and writing goes on when there is room', async (t) => {
  const space = workspace(t);
  const small = space.folder('small');
  sh('mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', small);
  const base = fill('base', 4 * 1_048_576);
  const rig = await overlayRig(t, `${small}/overlay`, base);
  const model = Uint8Array.from(base);
  let failedAt: number | undefined;
  for (let at = 0; at < base.length && failedAt === undefined; at += 65_536) {
    const code = await codeOf(() => rig.image.write(new Uint8Array(65_536).fill(1), at));
    if (code === undefined) model.fill(1, at, at + 65_536);
    else failedAt = at;
    t.true(code === undefined || code === 'NO_SPACE', code);
  }
  t.true(failedAt !== undefined && failedAt > 1_048_576, `failed at ${failedAt}`);
  sameBytes(t, await readAll(rig.image), model);
  await rig.image.zero(0, 1_048_576);
  model.fill(0, 0, 1_048_576);
  const at = failedAt ?? 0;
  await rig.image.write(new Uint8Array(65_536).fill(2), at);
  model.fill(2, at, at + 65_536);
  await rig.image.zero(at + 65_536, 65_536); // where the write that failed may have left something
  model.fill(0, at + 65_536, at + 131_072);
  await rig.image.flush();
  sameBytes(t, await readAll(await rig.reopened()), model);
});

test('once the disk failed to store it, no flush and no write vouches for anything any more', async (t) => {
  const rig = await overlayRig(t, workspace(t).at('overlay'), BASE);
  await rig.image.write(new Uint8Array(10), 0);
  const datasync = rig.handle.datasync.bind(rig.handle);
  rig.handle.datasync = () => Promise.reject(Object.assign(new Error('i/o'), { code: 'EIO' }));
  t.is(await codeOf(() => rig.image.flush()), 'IO_ERROR');
  rig.handle.datasync = datasync;
  t.is(await codeOf(() => rig.image.flush()), 'IO_ERROR');
  t.is(await codeOf(() => rig.image.write(new Uint8Array(10), 0)), 'IO_ERROR');
});

test('ranges that are not within the image are a mistake of the caller', async (t) => {
  const { image } = await overlayRig(t, workspace(t).at('overlay'), BASE);
  for (const offset of [-1, SIZE - 9, SIZE]) {
    await t.throwsAsync(image.write(new Uint8Array(10), offset), { instanceOf: RangeError });
    await t.throwsAsync(image.read(new Uint8Array(10), offset), { instanceOf: RangeError });
    await t.throwsAsync(image.zero(offset, 10), { instanceOf: RangeError });
  }
});
