/** A live bundle without a mount, against plain bytes, and as another program that knows the format would read it. */
import { fstatSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { createBundle } from '../../../src/bundle/create-bundle.ts';
import { LiveBundle } from '../../../src/bundle/live-bundle.ts';
import { OpenBands } from '../../../src/bundle/open-bands.ts';
import { bandFile } from '../../../src/sources/bundle/bundle-files.ts';
import { bundleDriver } from '../../../src/sources/bundle/bundle-source.ts';
import { encodePlist, parsePlist } from '../../../src/sources/bundle/plist.ts';
import { MIB, plistText } from '../../support/bundles.ts';
import { fill, isSame, sameBytes } from '../../support/bytes.ts';
import { FaultyFs } from '../../support/faulty-fs/faulty-fs.ts';
import { codeOf } from '../../support/library.ts';
import { sh, type Workspace, workspace } from '../../support/workspace.ts';

const BANDS = 4;
const SIZE = BANDS * MIB - 4096;

async function make(at: Workspace, sizeBytes: number = SIZE): Promise<{ readonly folder: string; readonly bundle: LiveBundle }> {
  const folder = await createBundle(at.at('disk.sparsebundle'), { sizeBytes, bandBytes: MIB });
  return { folder, bundle: await LiveBundle.open(folder) };
}

async function read(bundle: LiveBundle, offset = 0, length: number = bundle.sizeBytes): Promise<Uint8Array> {
  const bytes = new Uint8Array(length).fill(0xee);
  await bundle.read(bytes, offset);
  return bytes;
}

function bandFiles(folder: string): string[] {
  return readdirSync(path.join(folder, 'bands')).sort();
}

/** By the rules of the format alone: a missing band is zeros, a short one ends in zeros. */
function assemble(folder: string, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  for (const name of bandFiles(folder)) bytes.set(readFileSync(path.join(folder, 'bands', name)), Number.parseInt(name, 16) * MIB);
  return bytes;
}

interface Step {
  readonly kind: 'write' | 'zero' | 'zero bands' | 'flush' | 'reopen';
  readonly at: number;
  readonly length: number;
  readonly seed: number;
}

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.record({
    kind: fc.constantFrom(
      'write' as const,
      'write' as const,
      'zero' as const,
      'zero' as const,
      'zero bands' as const,
      'flush' as const,
      'reopen' as const,
    ),
    at: fc.nat(SIZE - 1),
    length: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 2 * MIB })),
    seed: fc.integer({ min: 1, max: 255 }),
  }),
  { maxLength: 20, size: 'max' },
);

/** As a driver does it: 128 KiB at a time. */
async function writeInPieces(bundle: LiveBundle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length; at += 131_072) await bundle.write(bytes.subarray(at, at + 131_072), offset + at);
}

async function apply(bundle: LiveBundle, model: Uint8Array, { kind, at, length, seed }: Step): Promise<void> {
  if (kind === 'flush') return await bundle.flush();
  const offset = kind === 'zero bands' ? at - (at % MIB) : at;
  const end = Math.min(kind === 'zero bands' ? offset + MIB : at + length, SIZE);
  const bytes = new Uint8Array(end - offset).fill(kind === 'write' ? seed : 0);
  await (kind === 'zero bands' && seed % 2 === 0 ? bundle.zero(offset, bytes.length) : writeInPieces(bundle, bytes, offset));
  model.set(bytes, offset);
}

test('it is the bytes written, bands that were made zeros have no files, and the files alone say the same', async (t) => {
  let removed = 0;
  await fc.assert(
    fc.asyncProperty(steps, async (list) => {
      const at = workspace(t);
      const { folder, bundle } = await make(at);
      let open = bundle;
      const model = new Uint8Array(SIZE);
      for (const step of list) {
        if (step.kind === 'reopen') {
          await open.close();
          open = await LiveBundle.open(folder);
        } else await apply(open, model, step);
        if (step.kind === 'zero bands') {
          t.false(bandFiles(folder).includes(Math.floor(step.at / MIB).toString(16)));
          removed++;
        }
        t.true(isSame(await read(open), model));
      }
      await open.close();
      t.true(isSame(assemble(folder, SIZE), model));
    }),
    { numRuns: 10 },
  );
  t.true(removed > 0);
});

test('a bundle that is made is what Apple writes, whole or not there', async (t) => {
  const at = workspace(t);
  const shape = { sizeBytes: 40 * 1024 * MIB, bandBytes: 8 * MIB };
  const folder = await createBundle(at.at('new.sparsebundle'), shape);
  for (const name of ['Info.plist', 'Info.bckup']) t.is(readFileSync(path.join(folder, name), 'utf8'), plistText(shape));
  t.is(statSync(path.join(folder, 'token')).size, 0);
  t.deepEqual(readdirSync(folder).sort(), ['Info.bckup', 'Info.plist', 'bands', 'token']);
  t.is(await codeOf(() => createBundle(folder, shape)), 'TARGET_EXISTS');
  t.is(await codeOf(() => createBundle(at.at('new.img'), shape)), 'USAGE');
  t.is(await codeOf(() => createBundle(at.at('a.sparsebundle'), { ...shape, bandBytes: MIB / 2 })), 'SOURCE_INVALID');
  t.is(await codeOf(() => createBundle(at.at('a.sparsebundle'), { ...shape, sizeBytes: 1000 })), 'SOURCE_INVALID');
  t.deepEqual(readdirSync(at.root), ['new.sparsebundle']);
  t.deepEqual({ ...parsePlist(encodePlist({ 'a<&>b': '<x> & "y"', n: -5 })) }, { 'a<&>b': '<x> & "y"', n: -5 });
});

test('while it is attached nobody else attaches it or syncs it, and what is no plain bundle is not attached', async (t) => {
  const at = workspace(t);
  const { folder, bundle } = await make(at);
  const context = { owner: undefined, stateDirectory: undefined, isDryRun: true };
  t.is(await codeOf(() => LiveBundle.open(folder)), 'LOCKED');
  t.is(await codeOf(() => bundleDriver.open(folder, context)), 'LOCKED');
  await bundle.close();
  const view = await bundleDriver.open(folder, context);
  t.is(await codeOf(() => LiveBundle.open(folder)), 'LOCKED');
  await view.close();
  writeFileSync(path.join(folder, 'bands', '9'), 'behind the end');
  t.is(await codeOf(() => LiveBundle.open(folder)), 'SOURCE_INVALID');
  writeFileSync(path.join(folder, 'token'), 'encrcdsa');
  t.is(await codeOf(() => LiveBundle.open(folder)), 'SOURCE_INVALID');
});

test('more bands than are kept open are written, made durable and read', async (t) => {
  const at = workspace(t);
  const bands = 150;
  const { folder, bundle } = await make(at, bands * MIB);
  for (const pass of [1, 2]) {
    for (let i = 0; i < bands; i++) await bundle.write(fill(`${pass} ${i}`, 600), i * MIB + pass * 1000);
    await bundle.flush();
  }
  t.true(openFiles(folder) <= 130);
  await Promise.all(Array.from({ length: bands }, (_, i) => readBack(t, bundle, i)));
  await bundle.close();
  t.is(openFiles(folder), 0);
});

async function readBack(t: ExecutionContext, bundle: LiveBundle, i: number): Promise<void> {
  for (const pass of [1, 2]) sameBytes(t, await read(bundle, i * MIB + pass * 1000, 600), fill(`${pass} ${i}`, 600));
}

/** Descriptors of this process on files below a folder. */
function openFiles(folder: string): number {
  const links = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // the one of this listing
    }
  });
  return links.filter((link) => link.startsWith(`${folder}/bands/`)).length;
}

test('a full disk is told as such, and what was there stays', async (t) => {
  const at = workspace(t);
  sh('mount', '-t', 'tmpfs', '-o', 'size=3M', 'tmpfs', at.folder('small'));
  const folder = await createBundle(at.at('small', 'disk.sparsebundle'), { sizeBytes: 8 * MIB, bandBytes: MIB });
  const bundle = await LiveBundle.open(folder);
  const bytes = fill('there', 2 * MIB);
  await writeInPieces(bundle, bytes, 0);
  t.is(await codeOf(() => writeInPieces(bundle, fill('more', 2 * MIB), 4 * MIB)), 'NO_SPACE');
  await bundle.write(new Uint8Array(MIB), 4 * MIB); // gives room back
  await bundle.write(fill('again', 4096), 6 * MIB);
  await bundle.flush();
  sameBytes(t, await read(bundle, 0, bytes.length), bytes);
  await bundle.close();
});

test('a band that was removed while it was opened is not written to', async (t) => {
  const folder = await createBundle(workspace(t).at('disk.sparsebundle'), { sizeBytes: 40 * MIB, bandBytes: MIB });
  const bands = new OpenBands(folder);
  for (let i = 0; i < 40; i++) {
    const file = bandFile(folder, i);
    writeFileSync(file, 'old');
    await Promise.all([bands.use(i, false, async () => undefined), bands.remove(i)]);
    const { fd } = (await bands.use(i, true, (band) => Promise.resolve(band))) ?? {};
    t.is(fstatSync(fd ?? -1).ino, statSync(file).ino);
  }
  await bands.close();
  t.is(openFiles(folder), 0);
});

test('a flush has ended when all is durable, also what another flush is about to store', async (t) => {
  const { bundle } = await make(workspace(t));
  await bundle.write(fill('one', MIB), 0);
  await bundle.flush();
  await bundle.write(fill('two', MIB), 0);
  const ended: number[] = [];
  await Promise.all([1, 2].map((i) => bundle.flush().then(() => ended.push(i))));
  t.deepEqual(ended, [1, 2]);
  await bundle.close();
});

test('what a disk failed to store is never said to be durable', async (t) => {
  const at = workspace(t);
  const disk = await FaultyFs.up(at.at('mnt'));
  t.teardown(() => disk.stop());
  const folder = await createBundle(at.at('mnt', 'disk.sparsebundle'), { sizeBytes: SIZE, bandBytes: MIB });
  const bundle = await LiveBundle.open(folder);
  await bundle.write(fill('one', 4096), 0);
  await bundle.flush();
  await bundle.write(fill('two', 4096), 0);
  await disk.arm({ name: 'one EIO', at: 1, under: ['/'], seed: 0 });
  t.is(await codeOf(() => bundle.flush()), 'IO_ERROR');
  t.is(await codeOf(() => bundle.flush()), 'IO_ERROR');
  t.is((await disk.disarm()).first?.split(' ')[0], 'sync');
  t.is(await codeOf(() => bundle.close()), 'IO_ERROR');
  t.is(openFiles(folder), 0);
});
