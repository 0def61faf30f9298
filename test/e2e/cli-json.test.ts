/** The documents that --json prints: the fields of each, which stay the same in every version. */
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { makeImage } from '../support/images.ts';
import { makeFastRepository } from '../support/library.ts';
import { writeParts } from '../support/parts.ts';
import { sh, type Workspace, workspace } from '../support/workspace.ts';

const BAND = 262_144;
/** Fields of the documents. A field may come, none may go or change its name. */
const SYNC_RESULT =
  'volume status session base source sizeBytes bands zeroBands changedBands writtenBands linkedBands readBytes writtenBytes paddedBytes storedBytes durationMs missedBands healedBands warnings';
const SESSION =
  'volume session time sizeBytes bandBytes bands zeroBands changedBands storedBytes writtenBytes addedBytes freedBytes base source tags note protected verified problem';
const FIELDS = {
  init: 'repository id cipher',
  sync: 'results failures',
  volumes: 'volumes damaged',
  volume: 'name id bandBytes pad sessions newest sizeBytes storedBytes source',
  sessions: 'sessions',
  show: `${SESSION} started finished manifestSha256 program pad directory`,
  restore: 'session target sizeBytes comparedBytes writtenBytes behindBytes damaged durationMs',
  check:
    'sessions plannedSessions finishedSessions files skippedFiles readBytes durationMs outOfTime withKey withData subset verified clearedBands warnings findings damaged repair',
  finding: 'volume session code message range',
  diff: 'volume from to fromBytes toBytes ranges differentBytes damaged',
  map: 'volume session base sizeBytes bandBytes bands dataBands dataBytes changedBands changedBytes mostChanges countedSessions skippedSessions runs svg',
  mount: 'mountPoint',
  open: 'volume directory session loop fileSystem',
  close: 'directory',
  copy: 'status sameKeys sessions warnings durationMs',
  copied: 'volume session status writtenBands writtenBytes resumedBands linkedBands readBytes message',
  breakLock: 'removed kept',
} as const;

function has(t: ExecutionContext, document: object, fields: string): void {
  const missing = fields.split(' ').filter((field) => !(field in document));
  t.deepEqual(missing, [], `fields that are missing of: ${fields}`);
}

async function ready(t: ExecutionContext): Promise<Workspace> {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  writeParts(ws.at('disk.img'), 4 * BAND, [{ at: 0, bytes: new Uint8Array(2 * BAND).fill(1) }]);
  return ws;
}

test.serial('init tells the repository, its id and its cipher', async (t) => {
  const ws = workspace(t);
  const document = await ws.json('init', '--cipher', 'chacha20-poly1305');
  has(t, document, FIELDS.init);
  t.like(document, { repository: ws.repo, cipher: 'chacha20-poly1305' });
  t.regex(document.id, /^[0-9a-f]{32}$/);
  await ws.json('volumes');
});

test.serial('copy tells of each session what was written and linked', async (t) => {
  const ws = await ready(t);
  await makeFastRepository(ws.at('second'));
  await ws.ok('sync', `a/b=${ws.at('disk.img')}`, '--band-size', '256K');
  const document = await ws.json('copy', 'a/b', '--to', ws.at('second'));
  has(t, document, FIELDS.copy);
  has(t, document.sessions[0], FIELDS.copied);
  t.like(document.sessions, [{ volume: 'a/b', status: 'copied', writtenBands: 2, linkedBands: 0, message: null }]);
});

test.serial('sync tells what was read, changed, stored and linked: created, unchanged, or as a dry run', async (t) => {
  const ws = await ready(t);
  const first = await ws.json('sync', `a/b=${ws.at('disk.img')}`, '--band-size', '256K', '--note', 'why');
  has(t, first, FIELDS.sync);
  t.deepEqual(first.failures, []);
  const [created] = first.results;
  has(t, created, SYNC_RESULT);
  t.like(created, {
    volume: 'a/b',
    status: 'created',
    base: null,
    source: { kind: 'image', location: ws.at('disk.img') },
    sizeBytes: 4 * BAND,
    bands: 4,
    zeroBands: 2,
    changedBands: 2,
    writtenBands: 2,
    linkedBands: 0,
    readBytes: 2 * BAND,
    warnings: [],
  });
  t.is(created.writtenBytes, created.storedBytes);
  const [unchanged] = (await ws.json('sync', 'a/b')).results;
  has(t, unchanged, SYNC_RESULT);
  t.like(unchanged, { status: 'unchanged', session: created.session, writtenBands: 0, writtenBytes: 0, zeroBands: 2 });
  const [dry] = (await ws.json('sync', 'a/b', '--dry-run', '--force')).results;
  has(t, dry, SYNC_RESULT);
  t.is(dry.status, 'dry-run');
});

test.serial('volumes, sessions and show tell sizes, times, bases, sources, tags and notes', async (t) => {
  const ws = await ready(t);
  t.deepEqual(await ws.json('volumes'), { volumes: [], damaged: [] });
  const [first] = (await ws.json('sync', `disk=${ws.at('disk.img')}`, '--tag', 'b', 'a', '--note', 'why')).results;
  const [second] = (await ws.json('sync', 'disk', '--force')).results;
  const volumes = await ws.json('volumes');
  has(t, volumes, FIELDS.volumes);
  has(t, volumes.volumes[0], FIELDS.volume);
  t.like(volumes.volumes[0], { name: 'disk', sessions: 2, newest: second.session, bandBytes: 2_097_152, sizeBytes: 4 * BAND });
  const { sessions } = await ws.json('sessions');
  for (const session of sessions) has(t, session, SESSION);
  t.like(sessions[0], { volume: 'disk', session: first.session, base: null, tags: ['a', 'b'], note: 'why', problem: null, changedBands: 1 });
  t.like(sessions[1], { session: second.session, base: first.session, tags: [], note: '', changedBands: 0, writtenBytes: 0 });
  t.is(Date.parse(sessions[0].time), Date.parse(first.session.replace(/^(....)(..)(..)T(..)(..)/, '$1-$2-$3T$4:$5:')));
  const show = await ws.json('show', 'disk@a');
  has(t, show, FIELDS.show);
  t.like(show, { session: first.session, source: { kind: 'image', location: ws.at('disk.img') } });
  t.true(show.started <= show.finished);
  t.true(readdirSync(show.directory).includes('manifest'));
});

test.serial('restore, check, diff, map and break-lock tell what they did and found', async (t) => {
  const ws = await ready(t);
  await ws.ok('sync', `disk=${ws.at('disk.img')}`, '--band-size', '256K');
  writeParts(ws.at('disk.img'), 4 * BAND, [{ at: BAND, bytes: new Uint8Array(BAND).fill(2) }]);
  await ws.ok('sync', 'disk');
  const restore = await ws.json('restore', 'disk', ws.at('out.img'));
  has(t, restore, FIELDS.restore);
  t.like(restore, { target: ws.at('out.img'), sizeBytes: 4 * BAND, writtenBytes: 2 * BAND, damaged: [] });
  t.is(restore.comparedBytes, null);
  const inPlace = await ws.json('restore', 'disk@latest~1', ws.at('out.img'), '--in-place', '--at', 'latest');
  has(t, inPlace, FIELDS.restore);
  t.like(inPlace, { target: ws.at('out.img'), sizeBytes: 4 * BAND, comparedBytes: BAND, writtenBytes: BAND, behindBytes: 0, damaged: [] });
  const diff = await ws.json('diff', 'disk@latest~1', 'disk@latest');
  has(t, diff, FIELDS.diff);
  t.like(diff, { ranges: [{ offset: BAND, length: BAND }], differentBytes: BAND, fromBytes: 4 * BAND });
  const map = await ws.json('map', 'disk', '--svg', ws.at('map.svg'));
  has(t, map, FIELDS.map);
  t.like(map, {
    bands: 4,
    dataBands: 2,
    changedBands: 1,
    mostChanges: 1,
    countedSessions: [map.session],
    skippedSessions: [],
    svg: ws.at('map.svg'),
  });
  t.deepEqual(map.runs[1], { offset: BAND, length: BAND, hasData: true, isChanged: true, changes: 1 });
  for (const [args, withKey, withData, files] of [
    [[], true, false, 3],
    [['--data'], true, true, 3],
    [['--no-key'], false, false, 0],
  ] as const) {
    const check = await ws.json('check', ...args);
    has(t, check, FIELDS.check);
    t.like(check, { sessions: 2, withKey, withData, findings: [], damaged: [] });
    t.true(check.files >= files);
  }
  const part = await ws.json('check', '--subset', '1/7', '--newest', '--max-duration', '10m');
  t.like(part, { sessions: 1, plannedSessions: 1, finishedSessions: 1, outOfTime: false, subset: '1/7', verified: [], warnings: [] });
  t.is(part.files + part.skippedFiles, 2);
  const { directory, verified } = await ws.json('show', 'disk');
  t.is(verified.data, true);
  rmSync(path.join(directory, 'bitmap'));
  const found = await ws.json('check');
  has(t, found.findings[0], FIELDS.finding);
  t.like(found.findings[0], { volume: 'disk', code: 'RECORD_MISSING', range: null });
  t.is(found.damaged.length, 1);
  writeFileSync(path.join(ws.repo, 'locks', 'abc.0.json'), '');
  const broken = await ws.json('break-lock');
  has(t, broken, FIELDS.breakLock);
  t.is(broken.removed.length, 1);
});

test.serial('mount, unmount, open and close tell where', async (t) => {
  const ws = await ready(t);
  makeImage(ws.at('fs.img'), 16_777_216);
  await ws.ok('sync', `disk=${ws.at('fs.img')}`);
  const mount = ws.folder('mnt');
  const mounted = await ws.json('mount', mount);
  has(t, mounted, FIELDS.mount);
  t.is(mounted.mountPoint, mount);
  t.deepEqual(await ws.json('unmount', mount), { mountPoint: mount });
  const opened = await ws.json('open', 'disk', mount);
  has(t, opened, FIELDS.open);
  t.like(opened, { volume: 'disk', directory: mount, fileSystem: 'ext4' });
  t.regex(sh('losetup', opened.loop), /image/);
  t.deepEqual(await ws.json('close', mount), { directory: mount });
});

test.serial('--quiet prints nothing at all where nothing went wrong', async (t) => {
  const ws = await ready(t);
  makeImage(ws.at('fs.img'), 16_777_216);
  const folder = ws.folder('mnt');
  for (const args of [
    ['init', '--repo', ws.at('second')],
    ['sync', `disk=${ws.at('fs.img')}`],
    ['sync', 'disk'],
    ['sync', 'disk', '--force'],
    ['volumes'],
    ['sessions', 'disk'],
    ['show', 'disk@latest'],
    ['restore', 'disk', ws.at('out.img')],
    ['restore', 'disk', ws.at('out.img'), '--in-place'],
    ['check', '--data'],
    ['check', '--no-key'],
    ['diff', 'disk@latest~1', 'disk@latest'],
    ['mount', folder],
    ['unmount', folder],
    ['open', 'disk', folder],
    ['close', folder],
    ['break-lock'],
  ]) {
    t.deepEqual(await ws.cli(...args, '--quiet'), { status: 0, stdout: '', stderr: '' }, args[0]);
  }
});
