/** What a sparse bundle must be to be read, and what is said of one that is not. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../../../bands/workers/band-pool.ts';
import { bundleDriver } from '../../../../src/sources/bundle/bundle-source.ts';
import { chooseSource } from '../../../../src/sources/open-source.ts';
import { MIB, ModelBundle, plistText } from '../../../support/bundles.ts';
import { codeOf, lab } from '../../../support/library.ts';
import { type Workspace, workspace } from '../../../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const NOTHING_KEPT = { owner: undefined, stateDirectory: undefined, isDryRun: false };

function bundleIn(ws: Workspace): ModelBundle {
  const bundle = new ModelBundle(ws.at('disk.sparsebundle'), { sizeBytes: 4 * MIB, bandBytes: MIB });
  bundle.fill(0, 2 * MIB, 'data');
  return bundle;
}

async function openingCode(bundle: ModelBundle): Promise<string | undefined> {
  return await codeOf(async () => {
    await (await bundleDriver.open(bundle.folder, NOTHING_KEPT)).close();
  });
}

async function warningsOf(bundle: ModelBundle): Promise<readonly string[]> {
  const view = await bundleDriver.open(bundle.folder, NOTHING_KEPT);
  await view.close();
  return view.warnings;
}

/** Holds the token's lock in another process until the test ends. */
async function holdLock(t: ExecutionContext, bundle: ModelBundle, mode: '--exclusive' | '--shared'): Promise<ChildProcess> {
  const child = spawn('flock', [mode, path.join(bundle.folder, 'token'), 'sh', '-c', 'echo held; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  });
  t.teardown(() => {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) process.kill(-child.pid, 'SIGKILL');
  });
  if (child.stdout !== null) await once(child.stdout, 'data');
  return child;
}

test('a folder with Info.plist is a bundle; another folder is not', async (t) => {
  const ws = workspace(t);
  const bundle = bundleIn(ws);
  t.is((await chooseSource(bundle.folder)).driver.kind, 'bundle');
  rmSync(path.join(bundle.folder, 'Info.plist'));
  t.is((await chooseSource(bundle.folder)).driver.kind, 'bundle', 'the spare copy tells, too');
  t.is((await chooseSource(ws.folder('plain'))).driver.kind, 'image');
  t.is(await codeOf(() => chooseSource(ws.folder('plain'), 'bundle')), 'SOURCE_INVALID');
});

test('a bundle that is attached is refused, by name of the process; one that is read elsewhere is not', async (t) => {
  const at = await lab(t, pool);
  const bundle = bundleIn(at);
  const shared = await holdLock(t, bundle, '--shared');
  t.is(await openingCode(bundle), undefined);
  if (shared.pid !== undefined) process.kill(-shared.pid, 'SIGKILL');
  const holder = await holdLock(t, bundle, '--exclusive');
  const failed = await at.cli('sync', `disk=${bundle.folder}`);
  t.is(failed.status, 11);
  t.regex(failed.stderr, new RegExp(`attached by process ${holder.pid}\\b`));
  if (holder.pid !== undefined) process.kill(-holder.pid, 'SIGKILL');
  await once(holder, 'close');
  t.is((await at.cli('sync', `disk=${bundle.folder}`)).status, 0);
});

test('while a bundle is read nobody can attach it, and afterwards anybody', async (t) => {
  const bundle = bundleIn(workspace(t));
  const tries = (): Promise<unknown[]> => once(spawn('flock', ['--exclusive', '--nonblock', path.join(bundle.folder, 'token'), 'true']), 'close');
  const view = await bundleDriver.open(bundle.folder, NOTHING_KEPT);
  t.deepEqual(await tries(), [1, null]);
  await view.close();
  t.deepEqual(await tries(), [0, null]);
});

test('an encrypted bundle is refused, with what to do', async (t) => {
  const ws = workspace(t);
  const bundle = bundleIn(ws);
  for (const head of ['encrcdsa\0\0\0\u0002', 'something else']) {
    writeFileSync(path.join(bundle.folder, 'token'), head);
    const error = await t.throwsAsync(() => bundleDriver.open(bundle.folder, NOTHING_KEPT));
    t.like(error, { code: 'SOURCE_INVALID' });
    t.regex(error?.message ?? '', /hdiutil/);
  }
});

test('a missing token is warned of; an Info.plist that is missing or broken is replaced by its spare copy, and told', async (t) => {
  const bundle = bundleIn(workspace(t));
  const plist = path.join(bundle.folder, 'Info.plist');
  t.deepEqual(await warningsOf(bundle), []);
  rmSync(path.join(bundle.folder, 'token'));
  t.regex((await warningsOf(bundle)).join(), /token is missing/);
  writeFileSync(path.join(bundle.folder, 'token'), '');
  for (const hurt of [
    () => rmSync(plist),
    () => writeFileSync(plist, ''),
    () => writeFileSync(plist, 'bplist00\0'),
    () => writeFileSync(plist, Buffer.from([0xff, 0xfe])),
  ]) {
    hurt();
    t.regex((await warningsOf(bundle)).join(), /Info\.bckup/);
  }
  rmSync(path.join(bundle.folder, 'Info.bckup'));
  t.is(await openingCode(bundle), 'SOURCE_INVALID');
});

const plain = plistText({ sizeBytes: 4 * MIB, bandBytes: MIB });
for (const [title, text] of Object.entries({
  'of another kind': plain.replace('sparsebundle<', 'udif<'),
  'of a later version': plain.replace('version</key>\n\t<integer>1', 'version</key>\n\t<integer>2'),
  'without a size': plain.replace('<key>size</key>', '<key>sise</key>'),
  'whose size is no multiple of 512': plain.replace(`${4 * MIB}`, `${4 * MIB + 1}`),
  'whose size is 0': plain.replace(`${4 * MIB}`, '0'),
  'whose size is text': plain.replace(`<integer>${4 * MIB}</integer>`, `<string>${4 * MIB}</string>`),
  'whose bands are too small': plain.replace(`<integer>${MIB}<`, '<integer>524288<'),
  'whose bands are too large': plain.replace(`<integer>${MIB}<`, '<integer>8589935104<'),
  'whose bands are no multiple of 512': plain.replace(`<integer>${MIB}<`, `<integer>${MIB + 1}<`),
})) {
  test(`a bundle ${title} is refused`, async (t) => {
    const bundle = bundleIn(workspace(t));
    for (const name of ['Info.plist', 'Info.bckup']) writeFileSync(path.join(bundle.folder, name), text);
    t.not(text, plain);
    t.is(await openingCode(bundle), 'SOURCE_INVALID');
  });
}

const HURTS: Readonly<Record<string, (bundle: ModelBundle) => void>> = {
  'a band that is too long': (bundle) => truncateSync(bundle.band(1), MIB + 1),
  'a band behind the end': (bundle) => writeFileSync(bundle.band(4), 'x'),
  'a band with a padded name': (bundle) => writeFileSync(path.join(bundle.folder, 'bands', '03'), 'x'),
  'a band with a name in upper case': (bundle) => writeFileSync(path.join(bundle.folder, 'bands', 'A'), 'x'),
  'a band that is a link': (bundle) => symlinkSync(bundle.band(1), bundle.band(3)),
  'a band that is a folder': (bundle) => mkdirSync(bundle.band(3)),
  'no folder of bands': (bundle) => rmSync(path.join(bundle.folder, 'bands'), { recursive: true }),
};
for (const [title, hurt] of Object.entries(HURTS)) {
  test(`a bundle with ${title} is refused`, async (t) => {
    const bundle = bundleIn(workspace(t));
    hurt(bundle);
    t.is(await openingCode(bundle), 'SOURCE_INVALID');
  });
}

test('files that are no bands are left out: hidden ones silently, others with a warning', async (t) => {
  const bundle = bundleIn(workspace(t));
  writeFileSync(path.join(bundle.folder, 'bands', '.DS_Store'), 'x');
  writeFileSync(path.join(bundle.folder, 'bands', '._1'), 'x');
  writeFileSync(bundle.band(9), '');
  t.deepEqual(await warningsOf(bundle), []);
  writeFileSync(path.join(bundle.folder, 'bands', '1 (copy)'), 'x');
  t.regex((await warningsOf(bundle)).join(), /1 file.*"1 \(copy\)"/);
});

test('a bundle without any band is a volume of zeros; the data map is the band files', async (t) => {
  const ws = workspace(t);
  const bundle = new ModelBundle(ws.at('empty.sparsebundle'), { sizeBytes: 40 * MIB + 512, bandBytes: 8 * MIB });
  const open = async (): Promise<unknown> => {
    const view = await bundleDriver.open(bundle.folder, NOTHING_KEPT);
    await view.close();
    return (await view.readDataMap())?.ranges;
  };
  t.deepEqual(await open(), []);
  bundle.fill(8 * MIB, 4096, 'a');
  bundle.fill(40 * MIB, 512, 'b');
  t.deepEqual(await open(), [
    { offset: 8 * MIB, length: 4096 },
    { offset: 40 * MIB, length: 512 },
  ]);
});

test('forgetting a bundle removes its record', async (t) => {
  const at = await lab(t, pool);
  const bundle = bundleIn(at);
  const stateDirectory = at.at('state');
  await at.sync('disk', bundle.folder, {}, { stateDirectory });
  const owner = { repositoryId: at.repository.id, volumeId: (await at.repository.volume('disk')).id };
  const [removed = '', ...more] = await bundleDriver.forget(bundle.folder, { owner, stateDirectory, isDryRun: false });
  t.deepEqual(more, []);
  t.throws(() => readFileSync(removed), { code: 'ENOENT' });
  t.deepEqual(await bundleDriver.forget(bundle.folder, { owner, stateDirectory, isDryRun: false }), []);
});
