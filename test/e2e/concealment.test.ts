/** What somebody who holds a repository and no key cannot see. FORMAT.md, "Threat model". */
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { fixedBytes, paddedHeaderBytes } from '../../bands/format/band-header.ts';
import { ENTRIES_PER_PAGE } from '../../bands/format/geometry.ts';
import { paddedContentBytes } from '../../bands/format/padding.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { mounted, mountLab, mountTest } from '../src/mount/mount-support.ts';
import { fill } from '../support/bytes.ts';
import { BAND_256K, lab, makeFastRepository } from '../support/library.ts';
import { firstWrongByte, type Part, readPart, writeParts } from '../support/parts.ts';
import { workspace } from '../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const SECRETS = ['personnel-files', 'quarterly', 'the note of the session', 'vault-disk.img', 'plaintext-of-the-disk'];

test('no name, tag, note, path, host or content stands anywhere in a repository', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  const text = Buffer.from('plaintext-of-the-disk ');
  writeParts(ws.at('vault-disk.img'), 3 * BAND_256K, [
    { at: 0, bytes: text },
    { at: BAND_256K, bytes: Buffer.concat([text, fill('noise', BAND_256K - text.length)]) },
  ]);
  for (const pad of [[], ['--pad', 'padme']]) {
    const name = `personnel-files${pad.length}`;
    await ws.ok('sync', `${name}=${ws.at('vault-disk.img')}`, '--band-size', '256K', ...pad);
    writeParts(ws.at('vault-disk.img'), 3 * BAND_256K, [{ at: BAND_256K + pad.length * 1000, bytes: fill('changed', 100) }]);
    await ws.ok('sync', name, '--tag', 'quarterly', '--note', 'the note of the session');
  }
  const hidden = [...SECRETS, ws.root, hostname()].filter((secret) => secret.length > 3);
  const names = readdirSync(ws.repo, { recursive: true, encoding: 'utf8' });
  t.true(names.length > 30);
  for (const name of names) {
    const file = path.join(ws.repo, name);
    const bytes = lstatSync(file).isFile() ? readFileSync(file) : Buffer.alloc(0);
    for (const secret of hidden) t.false(name.includes(secret) || bytes.includes(secret), `"${secret}" in ${name}`);
  }
});

/** How well the order of `a` tells that of `b`: Spearman's coefficient, -1 to 1; near 0, nothing. */
function rankCorrelation(a: readonly number[], b: readonly number[]): number {
  const [ra, rb] = [ranksOf(a), ranksOf(b)];
  const n = a.length;
  return 1 - (6 * ra.reduce((sum, rank, i) => sum + (rank - (rb[i] ?? 0)) ** 2, 0)) / (n * (n * n - 1));
}

function ranksOf(values: readonly number[]): number[] {
  const ranks: number[] = [];
  for (const [rank, i] of values
    .map((_, at) => at)
    .sort((x, y) => (values[x] ?? 0) - (values[y] ?? 0))
    .entries())
    ranks[i] = rank;
  return ranks;
}

/** Six standard deviations: by chance, more than this happens once in 500 million times. */
function bound(count: number): number {
  return 6 / Math.sqrt(count - 1);
}

test('names, folder order, inodes and times of band files tell the index page at most', async (t) => {
  const at = await lab(t, pool);
  const bands = 2 * ENTRIES_PER_PAGE;
  const parts = (label: string, wanted: readonly number[]): Part[] => wanted.map((i) => ({ at: i * BAND_256K, bytes: fill(`${label} ${i}`, 16) }));
  const all = Array.from({ length: bands }, (_, i) => i);
  writeParts(at.at('disk.img'), bands * BAND_256K, parts('first', all));
  const { session: first } = await at.sync('disk', at.at('disk.img'));
  const changed = all.filter((i) => i % 3 === 0);
  writeParts(at.at('disk.img'), bands * BAND_256K, parts('second', changed));
  const { session: second } = await at.sync('disk');
  for (const [id, written] of [
    [first, all],
    [second, changed],
  ] as const) {
    const session = await at.session('disk', id);
    const folder = path.join(session.directory, 'bands');
    const listed = readdirSync(folder); // as the file system gives them
    t.is(listed.length, bands);
    const paths = session.bandPaths(0, bands);
    const facts = written.map((band) => {
      const file = paths[band] ?? '';
      const { ino, mtimeMs } = lstatSync(file);
      const name = path.basename(file);
      return { band, name: Number.parseInt(name.slice(0, 12), 16), listed: listed.indexOf(name), inode: ino, mtimeMs };
    });
    t.is(new Set(facts.map(({ mtimeMs }) => mtimeMs)).size, 1, 'one time for all that a session wrote');
    const order = facts.map(({ band }) => band);
    const byName = rankCorrelation(
      order,
      facts.map(({ name }) => name),
    );
    t.true(Math.abs(byName) < bound(order.length), `names in all of the volume: ${byName}`);
    for (let page = 0; page < 2; page++) {
      const inPage = facts.filter(({ band }) => Math.floor(band / ENTRIES_PER_PAGE) === page);
      for (const what of ['name', 'listed', 'inode'] as const) {
        const found = rankCorrelation(
          inPage.map(({ band }) => band),
          inPage.map((fact) => fact[what]),
        );
        t.true(Math.abs(found) < bound(inPage.length), `${what} in page ${page} of ${id}: ${found}`);
      }
    }
  }
});

test('the measure that finds nothing above finds an order that is there', (t) => {
  const order = Array.from({ length: 200 }, (_, i) => i);
  t.is(rankCorrelation(order, order), 1);
  t.is(rankCorrelation(order, order.toReversed()), -1);
  const almost = order.map((i) => i + ((i * 37) % 41)); // handed to workers in order, done in another
  t.true(rankCorrelation(order, almost) > bound(order.length));
});

/** Bands that take from a few bytes to all of a band, and two that are stored with equal lengths. */
function bandsOfAllKinds(): Part[] {
  const text = new Uint8Array(Buffer.from('a text that compresses well\n'.repeat(9363)));
  const noise = Array.from({ length: 9 }, (_, i) => ({ at: i * BAND_256K, bytes: fill(`noise ${i}`, i * 32_768) }));
  return [
    ...noise,
    { at: 9 * BAND_256K, bytes: text },
    { at: 10 * BAND_256K, bytes: new Uint8Array(BAND_256K).fill(65) },
    { at: 11 * BAND_256K, bytes: new Uint8Array(BAND_256K).fill(66) },
  ];
}

const PADDED_BANDS = 12;

mountTest('padded band files show neither how well a band compresses nor how long its chunks are, and are read through a mount', async (t) => {
  const at = await mountLab(t, pool);
  const image = at.at('disk.img');
  writeParts(image, PADDED_BANDS * BAND_256K, bandsOfAllKinds());
  for (const [name, padding] of [
    ['bucket', BAND_256K],
    ['padme', 'padme'],
  ] as const) {
    await at.sync(name, image, { padding });
    const session = await at.session(name);
    const files = session.bandPaths(1, PADDED_BANDS - 1).map((file) => readFileSync(file)); // band 0 is zeros
    const lengths = files.map(({ length }) => length);
    if (padding === BAND_256K) t.is(new Set(lengths).size, 1);
    for (const length of lengths) {
      const content = length - fixedBytes(BAND_256K);
      t.is(paddedContentBytes(content, padding), content);
    }
    const tables = files.map((file) => file.subarray(64, paddedHeaderBytes(BAND_256K) - 16));
    t.is(new Set(tables.map((table) => table.toString('hex'))).size, files.length, 'two bands have equal tables, and none looks like another');
    const words = tables.flatMap((table) => [0, 4, 8].map((offset) => table.readUInt32LE(offset)));
    const plausible = words.filter((word) => (word & 0x7fff_ffff) <= 131_088);
    t.true(plausible.length <= 1, `${plausible.length} of ${words.length} words could be lengths of chunks`);
  }
  const folder = await mounted(at);
  for (const name of ['bucket', 'padme']) {
    const file = path.join(folder, name, 'latest', 'image');
    for (const offset of [5 * BAND_256K + 77, 131_000, 9 * BAND_256K - 3, 0, 11 * BAND_256K + 200_000])
      t.is(Buffer.compare(readPart(file, offset, 5000), readPart(image, offset, 5000)), 0, `${name} at ${offset}`);
    t.is(firstWrongByte(file, image), undefined);
  }
  await at.ok('unmount', folder);
});

test('the key of one volume pads as the volume was made to be; summary and --json tell the cost', async (t) => {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  writeParts(ws.at('disk.img'), 4 * BAND_256K, bandsOfAllKinds().slice(1, 3));
  const made = await ws.ok('sync', `disk=${ws.at('disk.img')}`, '--band-size', '256K', '--pad', '64K');
  t.regex(made, /2 stored \(192 KiB, 95\.7 KiB or 49\.8 % of it padding\)/);
  t.is((await ws.json('volumes')).volumes[0].pad, 65_536);
  t.is((await ws.json('show', 'disk')).pad, 65_536);
  t.regex(await ws.ok('show', 'disk'), /padded to multiples of 64\.0 KiB/);
  await ws.ok('key', 'export', 'disk', ws.at('disk.key'));
  writeParts(ws.at('disk.img'), 4 * BAND_256K, [{ at: 3 * BAND_256K, bytes: fill('few', 100) }]);
  const env = { TIMEBAND_PASSPHRASE: undefined, TIMEBAND_VOLUME_KEY_FILE: ws.at('disk.key') };
  const { results } = JSON.parse((await ws.cliIn(env, 'sync', 'disk', '--json')).stdout);
  t.true(results[0].writtenBands === 1 && results[0].paddedBytes > 65_000);
  for (const args of [
    ['disk', '--pad', 'padme'],
    ['disk', '--pad', '32K'],
    [`new=${ws.at('disk.img')}`, '--pad', 'much'],
    [`new=${ws.at('disk.img')}`, '--pad', '3K'],
    [`new=${ws.at('disk.img')}`, '--pad', '4M'],
  ]) {
    const { status, stderr } = await ws.cli('sync', ...args);
    t.is(status, 2, `${args.join(' ')}: ${stderr}`);
  }
  t.is((await ws.cli('sync', 'disk', '--pad', '64K')).status, 0);
});
