/** Key domains through the program: a template and its clone, their keys, and the recovery script. */
import { appendFileSync, copyFileSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { fill } from '../support/bytes.ts';
import { isSameFile, makeImage, withMounted } from '../support/images.ts';
import { makeFastRepository } from '../support/library.ts';
import { recover } from '../support/recover.ts';
import { sh, type Workspace, workspace } from '../support/workspace.ts';

const MIB = 1_048_576;

/** A template of ext4 and a clone of it in which one file was added, both synced into the domain "templates". */
async function ready(t: ExecutionContext): Promise<Workspace> {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  makeImage(ws.at('template.img'), 24 * MIB);
  await withMounted(ws.at('template.img'), ws.at('mnt'), () => {
    for (let i = 0; i < 12; i++) writeFileSync(ws.at('mnt', `package-${i}`), fill(`package ${i}`, MIB));
  });
  copyFileSync(ws.at('template.img'), ws.at('clone.img'));
  await withMounted(ws.at('clone.img'), ws.at('mnt'), () => {
    mkdirSync(ws.at('mnt', 'home'));
    writeFileSync(ws.at('mnt', 'home', 'mine'), fill('mine', 10_000));
  });
  await ws.ok('sync', `work/template=${ws.at('template.img')}`, '--domain', 'templates', '--band-size', '256K', '--tag', 'golden');
  return ws;
}

async function syncClone(ws: Workspace): Promise<void> {
  await ws.ok('sync', `clone=${ws.at('clone.img')}`, '--domain', 'templates', '--band-size', '256K');
}

function diskBytes(ws: Workspace): number {
  return Number(sh('du', '-s', '--block-size=1', ws.repo).split('\t')[0]);
}

async function isRestored(t: ExecutionContext, ws: Workspace, name: string, image: string): Promise<void> {
  await ws.ok('restore', name, ws.at('out.img'));
  t.true(isSameFile(ws.at('out.img'), ws.at(image)), name);
  rmSync(ws.at('out.img'));
}

test.serial('a clone costs next to nothing, and outlives its template', async (t) => {
  const ws = await ready(t);
  const before = diskBytes(ws);
  const { results } = await ws.json('sync', `clone=${ws.at('clone.img')}`, '--domain', 'templates', '--band-size', '256K');
  const [{ sharedBands, sharedBytes, writtenBands, writtenBytes }] = results;
  t.true(sharedBands > 40 && sharedBytes > 10 * MIB && writtenBands < 10, `${sharedBands} shared, ${writtenBands} written`);
  t.true(diskBytes(ws) - before < writtenBytes + 100_000, 'what it wrote, and records');
  t.deepEqual(
    (await ws.json('volumes')).volumes.map((one: { domain: string }) => one.domain),
    ['templates', 'templates'],
  );
  t.is((await ws.json('show', 'clone@latest')).domain, 'templates');
  const { total } = await ws.json('stats');
  t.true(total.storedBytes < total.linkedBytes / 1.8);
  await ws.ok('rename', 'work/template', 'work/old');
  t.is((await ws.cli('sync', 'work/old', '--domain', 'others')).status, 2);
  await isRestored(t, ws, 'work/old', 'template.img');
  await ws.ok('delete-volume', 'work/old', '--name', 'work/old');
  await isRestored(t, ws, 'clone', 'clone.img');
  await ws.ok('check', '--data');
});

test.serial('without a catalog nothing is shared, and that is said', async (t) => {
  const ws = await ready(t);
  const { status, stderr } = await ws.cli('sync', `clone=${ws.at('clone.img')}`, '--domain', 'templates', '--band-size', '256K', '--no-catalog');
  t.is(status, 0);
  t.regex(stderr, /without a catalog, bands that volumes of the key domain "templates" hold already are stored again/);
  await ws.ok('check', '--data');
});

test.serial('the key of a volume in a domain opens that volume, and lists and reads no other', async (t) => {
  const ws = await ready(t);
  await syncClone(ws);
  await ws.ok('key', 'export', 'clone', ws.at('clone.key'));
  const env = { TIMEBAND_PASSPHRASE: undefined, TIMEBAND_VOLUME_KEY_FILE: ws.at('clone.key'), TIMEBAND_STATE_DIR: ws.at('elsewhere') };
  const held = async (...args: string[]): Promise<string> => {
    const { status, stdout, stderr } = await ws.cliIn(env, ...args);
    t.is(status, 0, `${args.join(' ')}: ${stderr}`);
    return stdout;
  };
  await held('restore', 'clone', ws.at('out.img'));
  t.true(isSameFile(ws.at('out.img'), ws.at('clone.img')));
  appendFileSync(ws.at('clone.img'), fill('grown', MIB));
  const [{ writtenBands }] = JSON.parse(await held('sync', 'clone', '--json', '--source', 'image')).results ?? [];
  t.is(writtenBands, 4);
  await held('check', '--data');
  t.deepEqual(
    JSON.parse(await held('volumes', '--json')).volumes.map(({ name }: { name: string }) => name),
    ['clone'],
  );
  const asked = await ws.cliIn(env, 'restore', 'work/template', ws.at('stolen.img'));
  t.is(asked.status, 12);
  const listed = await recover(ws, ['list', ws.repo, '--volume-key-file', ws.at('clone.key')], { env });
  t.true(listed.stdout.includes('clone') && !`${listed.stdout}${await held('sessions')}`.includes('golden'));
});

test.serial('recover.py lists, verifies and restores both, and knows the domain when the record is lost', async (t) => {
  const ws = await ready(t);
  await syncClone(ws);
  t.is((await recover(ws, ['verify', ws.repo])).status, 0);
  for (const [name, image] of [
    ['work/template', 'template.img'],
    ['clone', 'clone.img'],
  ] as const) {
    t.is((await recover(ws, ['restore', ws.repo, name, ws.at(`${image}.out`)])).status, 0);
    t.true(isSameFile(ws.at(`${image}.out`), ws.at(image)), name);
  }
  const { volumes } = await ws.json('volumes');
  const id: string = volumes.find(({ name }: { name: string }) => name === 'clone').id;
  const folder = path.join(ws.repo, 'volumes', id);
  renameSync(path.join(folder, 'volume'), ws.at('record'));
  t.is((await recover(ws, ['restore', '--salvage', ws.repo, id, ws.at('recordless.img')])).status, 3);
  t.true(isSameFile(ws.at('recordless.img'), ws.at('clone.img')), 'the manifest names the domain');
  t.regex((await ws.cli('check', '--repair')).stdout, /recovered-/);
  await isRestored(t, ws, `recovered-${id.slice(0, 8)}`, 'clone.img');
  const again = await ws.json('sync', `another=${ws.at('clone.img')}`, '--domain', 'templates', '--band-size', '256K');
  t.is(again.results[0].writtenBands, 0, 'it is in the same domain as before');
  const [session = ''] = readdirSync(path.join(folder, 'sessions'));
  rmSync(path.join(folder, 'sessions', session, 'manifest'));
  t.is((await recover(ws, ['restore', '--salvage', ws.repo, `recovered-${id.slice(0, 8)}@${session}`, ws.at('salvaged.img')])).status, 3);
  t.true(isSameFile(ws.at('salvaged.img'), ws.at('clone.img')));
});

test.serial('bands swapped between volumes of one domain are refused, or are the right data', async (t) => {
  const ws = await ready(t);
  await syncClone(ws);
  const files = (volume: string): string[] =>
    sh('find', path.join(ws.repo, 'volumes', volume), '-path', '*/bands/*', '-type', 'f')
      .trim()
      .split('\n')
      .sort();
  const { volumes } = await ws.json('volumes');
  const [clone = [], template = []] = ['clone', 'work/template'].map((name) => files(volumes.find((one: { name: string }) => one.name === name).id));
  const inodes = new Set(template.map((file) => lstatSync(file).ino));
  const own = clone.filter((file) => !inodes.has(lstatSync(file).ino));
  t.true(own.length > 0);
  const swapped = [...own, ...clone.filter((file) => !own.includes(file)).slice(0, 5)];
  for (const [i, file] of swapped.entries()) {
    const other = template[i] ?? '';
    renameSync(file, ws.at('swap'));
    renameSync(other, file);
    renameSync(ws.at('swap'), other);
  }
  const { status, stdout } = await ws.cli('check', '--data', '--json');
  t.is(status, 3);
  const found = JSON.parse(stdout).findings as { volume: string; code: string }[];
  t.true(found.every(({ code }) => code === 'BAND_CORRUPT'));
  t.deepEqual([...new Set(found.map(({ volume }) => volume))].sort(), ['clone', 'work/template']);
  for (const name of ['clone', 'work/template']) t.is((await ws.cli('restore', name, ws.at('out.img'))).status, 13, name);
  t.false(readdirSync(ws.root).includes('out.img'));
});
