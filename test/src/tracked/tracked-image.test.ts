/** A tracked image without a mount: what it holds, what a frozen point of it holds, and what it names as changed. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { TrackedData } from '../../../src/sources/tracked/tracked-data.ts';
import { TRACKED_BAND_BYTES } from '../../../src/tracked/change-tracker.ts';
import { ControlClient } from '../../../src/tracked/control-client.ts';
import { ControlServer } from '../../../src/tracked/control-server.ts';
import type { FrozenPoint } from '../../../src/tracked/frozen-point.ts';
import { TrackedImage } from '../../../src/tracked/tracked-image.ts';
import { fill, isSame, sameBytes } from '../../support/bytes.ts';
import { codeOf } from '../../support/library.ts';
import { readPart, writeParts } from '../../support/parts.ts';
import { sh, type Workspace, workspace } from '../../support/workspace.ts';

const BANDS = 6;
const SIZE = BANDS * TRACKED_BAND_BYTES - 4096;
const ASIDE_BYTES = 64 * TRACKED_BAND_BYTES;
const OWNER = { repositoryId: 'a'.repeat(32), volumeId: 'b'.repeat(32) };

function open(at: Workspace, asideBytes: number = ASIDE_BYTES): Promise<TrackedImage> {
  return TrackedImage.open({ location: at.at('disk.img'), stateDirectory: at.at('state'), asideBytes });
}

/** The content of a frozen point, as a sync reads it: first the image, then what was put aside. */
function readFrozen(at: Workspace, frozen: FrozenPoint): Uint8Array {
  const bytes = readPart(at.at('disk.img'), 0, SIZE);
  for (const { offset, length, position } of frozen.partsWithin({ offset: 0, length: SIZE }))
    bytes.set(readPart(frozen.asidePath, position, length), offset);
  return bytes;
}

type Step =
  | { readonly kind: 'write'; readonly at: number; readonly length: number; readonly seed: number }
  | { readonly kind: 'freeze' | 'sync' | 'thaw' | 'detach' };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant('write' as const),
        at: fc.nat(SIZE - 1),
        length: fc.integer({ min: 1, max: 131_072 }),
        seed: fc.nat(255),
      }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('freeze' as const, 'sync' as const, 'thaw' as const) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('detach' as const) }) },
  ),
  { maxLength: 25, size: 'max' },
);

test('it is the bytes written, frozen it is those of one instant, and every band that differs from a session is named', async (t) => {
  let named = 0;
  await fc.assert(
    fc.asyncProperty(steps, async (list) => {
      const at = workspace(t);
      writeParts(at.at('disk.img'), SIZE);
      const model = new Uint8Array(SIZE);
      let image = await open(at);
      let frozen: { readonly point: FrozenPoint; readonly bytes: Uint8Array } | undefined;
      let session: { readonly commitId: string; readonly bytes: Uint8Array } | undefined;
      for (const [i, step] of list.entries()) {
        if (step.kind === 'write') {
          const bytes = new Uint8Array(Math.min(step.length, SIZE - step.at)).fill(step.seed);
          await image.write(bytes, step.at);
          model.set(bytes, step.at);
        } else if (step.kind === 'freeze') {
          if (frozen === undefined) frozen = { point: await image.freeze(false), bytes: Uint8Array.from(model) };
          else t.is(await codeOf(() => image.freeze(false)), 'LOCKED');
        } else if (step.kind === 'detach') {
          await image.close();
          image = await open(at);
          frozen = undefined;
        } else if (frozen !== undefined) {
          if (step.kind === 'sync') {
            const commitId = i.toString(16).padStart(32, '0');
            await image.bind({ ...OWNER, commitId });
            await image.keepOnly({ ...OWNER, commitId });
            session = { commitId, bytes: frozen.bytes };
          }
          await image.thaw();
          frozen = undefined;
        }
        if (frozen !== undefined) t.true(isSame(readFrozen(at, frozen.point), frozen.bytes));
        if (session !== undefined) named += checkNamed(t, image, { model, session });
      }
      const read = new Uint8Array(SIZE);
      await image.read(read, 0);
      t.true(isSame(read, model));
      await image.close();
      t.true(isSame(readFileSync(at.at('disk.img')), model));
    }),
    { numRuns: 12 },
  );
  t.true(named > 0);
});

/** @returns how many bands differ */
function checkNamed(
  t: ExecutionContext,
  image: TrackedImage,
  { model, session }: { readonly model: Uint8Array; readonly session: { readonly commitId: string; readonly bytes: Uint8Array } },
): number {
  const changes = image.changesSince({ ...OWNER, commitId: session.commitId });
  if (!('dirty' in changes)) throw new Error(`not known: ${changes.reason}`);
  let different = 0;
  for (let band = 0; band < BANDS; band++) {
    const range = [band * TRACKED_BAND_BYTES, (band + 1) * TRACKED_BAND_BYTES] as const;
    if (isSame(model.subarray(...range), session.bytes.subarray(...range))) continue;
    different++;
    t.true(changes.dirty.has(band), `band ${band}`);
  }
  return different;
}

async function freezeAndBind(image: TrackedImage, commitId: string): Promise<void> {
  await image.freeze(false);
  await image.bind({ ...OWNER, commitId });
  await image.thaw();
}

test('more than may be put aside ends the frozen point, and no write', async (t) => {
  const at = workspace(t);
  writeParts(at.at('disk.img'), SIZE);
  const image = await open(at, 2 * TRACKED_BAND_BYTES);
  const frozen = await image.freeze(false);
  const bytes = fill('new', 3 * TRACKED_BAND_BYTES);
  for (let i = 0; i < 3; i++) await image.write(bytes.subarray(i * TRACKED_BAND_BYTES, (i + 1) * TRACKED_BAND_BYTES), i * TRACKED_BAND_BYTES);
  t.is(await codeOf(() => frozen.partsWithin({ offset: 0, length: 1 })), 'SOURCE_CHANGED');
  sameBytes(t, readPart(at.at('disk.img'), 0, bytes.length), bytes);
  await image.thaw();
  t.is((await image.freeze(false)).partsWithin({ offset: 0, length: SIZE }).length, 0, 'the next one begins anew');
  await image.close();
});

test('what others write to the file while it is attached, or after, makes sessions unknown', async (t) => {
  const at = workspace(t);
  const [first, second] = ['1'.repeat(32), '2'.repeat(32)];
  writeParts(at.at('disk.img'), SIZE);
  let image = await open(at);
  await freezeAndBind(image, first);
  t.true('dirty' in image.changesSince({ ...OWNER, commitId: first }));
  await new Promise((resolve) => setTimeout(resolve, 300)); // until what happens to the file cannot be our own writes any more
  writeParts(at.at('disk.img'), SIZE, [{ at: 5000, bytes: fill('other', 10) }]);
  await freezeAndBind(image, second);
  t.true('reason' in image.changesSince({ ...OWNER, commitId: first }));
  t.true('dirty' in image.changesSince({ ...OWNER, commitId: second }));
  await image.close();
  writeParts(at.at('disk.img'), SIZE, [{ at: 5000, bytes: fill('another', 10) }]);
  image = await open(at);
  t.true('reason' in image.changesSince({ ...OWNER, commitId: second }));
  t.regex(image.doubt ?? '', /written to while it was not attached/);
  await image.close();
});

test('what others wrote is noticed although the image was written to after it', async (t) => {
  const at = workspace(t);
  writeParts(at.at('disk.img'), SIZE);
  const image = await open(at);
  await freezeAndBind(image, '1'.repeat(32));
  await image.write(fill('ours', 4096), 0);
  await new Promise((resolve) => setTimeout(resolve, 300));
  writeParts(at.at('disk.img'), SIZE, [{ at: 5000, bytes: fill('other', 10) }]);
  await image.write(fill('ours again', 4096), 3 * TRACKED_BAND_BYTES);
  await freezeAndBind(image, '2'.repeat(32));
  t.true('reason' in image.changesSince({ ...OWNER, commitId: '1'.repeat(32) }));
  t.true('dirty' in image.changesSince({ ...OWNER, commitId: '2'.repeat(32) }));
  await new Promise((resolve) => setTimeout(resolve, 300));
  await image.write(fill('ours', 4096), 0);
  await image.freeze(false);
  t.true('dirty' in image.changesSince({ ...OWNER, commitId: '2'.repeat(32) }), 'our own writes are not taken for those of others');
  await image.close();
});

test('a point that is frozen while the one before is being let go of keeps its old contents', async (t) => {
  const at = workspace(t);
  writeParts(at.at('disk.img'), SIZE);
  const image = await open(at);
  for (let i = 0; i < 20; i++) {
    await image.freeze(true);
    const thawed = image.thaw();
    const frozen = await image.freeze(true);
    await thawed;
    t.true(existsSync(frozen.asidePath));
    await image.thaw();
    t.false(existsSync(frozen.asidePath));
  }
  await image.close();
});

test('a file that has taken the place of the one that is attached is not read in its stead', async (t) => {
  const at = workspace(t);
  writeParts(at.at('disk.img'), SIZE);
  const image = await open(at);
  const { asidePath } = await image.freeze(true);
  const control = await ControlServer.listen(image);
  const client = await ControlClient.connect(image.folder);
  if (client === undefined) throw new Error('nobody listens');
  const frozen = { image: image.path, identity: image.identity, sizeBytes: SIZE, aside: asidePath };
  await (await TrackedData.open(client, frozen)).close();
  writeParts(at.at('other.img'), SIZE);
  renameSync(at.at('other.img'), at.at('disk.img'));
  t.is(await codeOf(() => TrackedData.open(client, frozen)), 'SOURCE_CHANGED');
  client.close();
  await control.close();
  await image.close();
});

test('an aside file that cannot be removed ends nothing but its frozen point', async (t) => {
  const at = workspace(t);
  writeParts(at.at('disk.img'), SIZE);
  const image = await open(at);
  const { asidePath } = await image.freeze(true);
  rmSync(asidePath);
  mkdirSync(asidePath);
  await t.notThrowsAsync(() => image.thaw());
  rmdirSync(asidePath);
  await t.notThrowsAsync(() => image.freeze(true));
  await image.close();
});

test('a copy of the record from before, as from a restored home folder, is not believed', async (t) => {
  const at = workspace(t);
  const token = { ...OWNER, commitId: '1'.repeat(32) };
  writeParts(at.at('disk.img'), SIZE);
  const first = await open(at);
  await freezeAndBind(first, token.commitId);
  const file = `${first.folder}/record`;
  await first.close();
  const old = readFileSync(file);
  const second = await open(at);
  await second.write(fill('later', 100), 0);
  await second.close();
  writeFileSync(file, old);
  const third = await open(at);
  t.true('reason' in third.changesSince(token));
  await third.close();
});

test('a file that others hold is not attached, and one that is attached is not attached again', async (t) => {
  const at = workspace(t);
  writeParts(at.at('disk.img'), SIZE);
  const image = await open(at);
  t.is(await codeOf(() => open(at)), 'LOCKED');
  await image.close();
  const loop = sh('losetup', '--find', '--show', at.at('disk.img')).trim();
  t.is(await codeOf(() => open(at)), 'LOCKED');
  sh('losetup', '--detach', loop);
  await (await open(at)).close();
  writeParts(at.at('disk.img'), SIZE + 100);
  t.is(await codeOf(() => open(at)), 'SOURCE_INVALID');
});

test('a device is known again if nobody wrote to it, and only then', async (t) => {
  const at = workspace(t);
  const token = { ...OWNER, commitId: '1'.repeat(32) };
  writeParts(at.at('disk.img'), SIZE);
  const loop = sh('losetup', '--find', '--show', at.at('disk.img')).trim();
  const openDevice = (): Promise<TrackedImage> => TrackedImage.open({ location: loop, stateDirectory: at.at('state'), asideBytes: ASIDE_BYTES });
  const first = await openDevice();
  t.is(await codeOf(openDevice), 'LOCKED');
  await first.write(fill('first', 4096), 4096);
  await freezeAndBind(first, token.commitId);
  await first.close();
  const second = await openDevice();
  t.true('dirty' in second.changesSince(token));
  await second.close();
  sh('dd', 'if=/dev/urandom', `of=${loop}`, 'bs=4096', 'count=1', 'conv=notrunc,fsync');
  const third = await openDevice();
  t.true('reason' in third.changesSince(token));
  await third.close();
  sh('losetup', '--detach', loop);
});
