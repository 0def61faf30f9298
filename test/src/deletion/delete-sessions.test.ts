/** Deleting sessions: the others lose nothing, what is freed was foretold, and nobody's session goes while it is read. */
import { existsSync, lstatSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import type { Labels } from '../../../bands/format/labels.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { checkRepository } from '../../../src/check/check.ts';
import { deleteSessions, deleteVolume } from '../../../src/deletion/delete-sessions.ts';
import { TakenLinks } from '../../../src/deletion/shared-files.ts';
import { planDeletion, sizesOfSession } from '../../../src/deletion/sizes.ts';
import { moveToTrash } from '../../../src/deletion/trash.ts';
import { changeLabels } from '../../../src/labels.ts';
import { Lease } from '../../../src/leases.ts';
import { restoreSession } from '../../../src/restore.ts';
import { fill } from '../../support/bytes.ts';
import { mountFileSystem } from '../../support/file-systems.ts';
import { BAND_256K, codeOf, type Lab, lab, makeFastRepository } from '../../support/library.ts';
import { writeParts } from '../../support/parts.ts';
import { sh } from '../../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const BANDS = 30;
const DELETE = { command: 'delete disk' };

/** Six sessions of an image in which a few bands change each time; some become zero, one comes back as it was. */
async function sixSessions(at: Lab): Promise<Map<string, Uint8Array>> {
  const image = at.at('disk.img');
  const bytes = fill('first', BANDS * BAND_256K);
  const sessions = new Map<string, Uint8Array>();
  for (let round = 0; round < 6; round++) {
    for (let i = 0; i < 4; i++) bytes.set(fill(`round ${round}`, 5000), ((round * 3 + i * 5) % BANDS) * BAND_256K + 100);
    if (round === 3) bytes.fill(0, 7 * BAND_256K, 8 * BAND_256K);
    if (round === 4) bytes.set(fill('first', BANDS * BAND_256K).subarray(9 * BAND_256K, 10 * BAND_256K), 9 * BAND_256K);
    writeFileSync(image, bytes);
    const { session } = await at.sync('disk', image);
    sessions.set(session ?? '', bytes.slice());
  }
  return sessions;
}

async function verifyAll(t: ExecutionContext, at: Lab, sessions: ReadonlyMap<string, Uint8Array>): Promise<void> {
  t.deepEqual(await (await at.repository.volume('disk')).sessionIds(), [...sessions.keys()]);
  for (const [id, bytes] of sessions) {
    const target = at.at('restored.img');
    await restoreSession({ session: await at.session('disk', id), target, pool });
    t.is(Buffer.compare(readFileSync(target), bytes), 0, id);
    rmSync(target);
  }
  t.deepEqual((await checkRepository(at.repository, { pool, withData: true })).findings, []);
}

test.serial('links that somebody put among what is to be removed are removed, and what they lead to stays', async (t) => {
  const at = await lab(t, pool);
  writeFileSync(at.at('disk.img'), fill('image', BAND_256K));
  await at.sync('disk', at.at('disk.img'));
  const { layout } = await at.repository.volume('disk');
  const folder = at.folder('precious', 'deeper');
  writeFileSync(`${folder}/file`, 'kept');
  const links = [`${at.repo}/trash/link`, `${layout.sessions}/.tmp-deleted-link`, `${layout.incoming}/link`];
  for (const link of links) symlinkSync(at.at('precious'), link);
  await at.sync('disk', at.at('disk.img'));
  for (const link of links) t.throws(() => lstatSync(link), { code: 'ENOENT' });
  t.is(readFileSync(`${folder}/file`, 'utf8'), 'kept');
});

/** Bytes of the band files of the repository, each inode once. */
function bandBytes(at: Lab): number {
  const inodes = new Map<number, number>();
  for (const name of readdirSync(at.repo, { recursive: true, encoding: 'utf8' })) {
    if (!/\/bands\/[^/]+$/.test(name)) continue;
    const { ino, size } = lstatSync(`${at.repo}/${name}`);
    inodes.set(ino, size);
  }
  return [...inodes.values()].reduce((sum, size) => sum + size, 0);
}

for (const { title, which } of [
  { title: 'the oldest', which: [0] },
  { title: 'one in the middle', which: [2] },
  { title: 'three in a row', which: [1, 2, 3] },
  { title: 'every other one', which: [0, 2, 4] },
  { title: 'all but the newest', which: [0, 1, 2, 3, 4] },
]) {
  test.serial(`deleting ${title} frees what was foretold, and the others are whole`, async (t) => {
    const at = await lab(t, pool);
    const sessions = await sixSessions(at);
    const volume = await at.repository.volume('disk');
    const doomed = [...sessions.keys()].filter((_, i) => which.includes(i));
    const planned = await planDeletion(volume, doomed, new TakenLinks());
    t.deepEqual(
      planned.map(({ session }) => session),
      doomed,
    );
    const before = bandBytes(at);
    await deleteSessions(at.repository, volume, doomed, DELETE);
    t.is(
      before - bandBytes(at),
      planned.reduce((sum, { freedBytes }) => sum + (freedBytes ?? Number.NaN), 0),
    );
    for (const id of doomed) sessions.delete(id);
    await verifyAll(t, at, sessions);
    t.deepEqual(readdirSync(`${at.repo}/trash`), []);
    await at.sync('disk', at.at('disk.img'));
    await verifyAll(t, at, sessions);
  });
}

test.serial('what each session alone would free is what deleting it frees', async (t) => {
  const at = await lab(t, pool);
  const sessions = await sixSessions(at);
  const volume = await at.repository.volume('disk');
  for (const id of [...sessions.keys()].slice(0, -1)) {
    const foretold = (await sizesOfSession(volume, id))?.freedBytes;
    const before = bandBytes(at);
    await deleteSessions(at.repository, volume, [id], DELETE);
    t.is(before - bandBytes(at), foretold ?? Number.NaN);
  }
});

test.serial('the newest is refused unless it is meant, and so is one that is not there; nothing is deleted then', async (t) => {
  const at = await lab(t, pool);
  const sessions = await sixSessions(at);
  const volume = await at.repository.volume('disk');
  const ids = [...sessions.keys()];
  t.is(await codeOf(() => deleteSessions(at.repository, volume, [ids[0] ?? '', ids.at(-1) ?? ''], DELETE)), 'USAGE');
  t.is(await codeOf(() => deleteSessions(at.repository, volume, [ids[0] ?? '', '20200101T000000.000Z'], DELETE)), 'SESSION_NOT_FOUND');
  await verifyAll(t, at, sessions);
  await deleteSessions(at.repository, volume, [ids.at(-1) ?? ''], { ...DELETE, evenNewest: true });
  sessions.delete(ids.at(-1) ?? '');
  await verifyAll(t, at, sessions);
});

test.serial('a session that somebody reads is refused, with who it is; the others of the same command stay, too', async (t) => {
  const at = await lab(t, pool);
  const sessions = await sixSessions(at);
  const volume = await at.repository.volume('disk');
  const [first = '', second = ''] = [...sessions.keys()];
  const leased = { locks: at.repository.layout.locks, volume: 'disk', volumeId: volume.id, sessionId: second, command: 'restore disk' };
  const [lease, another] = [await Lease.take(leased), await Lease.take(leased)];
  const error = await t.throwsAsync(deleteSessions(at.repository, volume, [first, second], DELETE), { code: 'LOCKED' });
  t.regex(error.message, new RegExp(`process ${process.pid} .*restore disk`));
  await lease.release();
  t.is(await codeOf(() => deleteVolume(at.repository, volume, DELETE)), 'LOCKED', 'the other reader is still there');
  await verifyAll(t, at, sessions);
  await another.release();
  await deleteSessions(at.repository, volume, [first, second], DELETE);
  t.deepEqual(readdirSync(at.repository.layout.locks), []);
});

test.serial('what a killed deletion left is gone for readers, and is removed by the next sync', async (t) => {
  const at = await lab(t, pool);
  const sessions = await sixSessions(at);
  const volume = await at.repository.volume('disk');
  const [first = ''] = sessions.keys();
  const [moved = ''] = await moveToTrash(at.repository.layout.trash, [volume.sessionPath(first)]);
  sessions.delete(first);
  await verifyAll(t, at, sessions);
  t.true(existsSync(moved));
  await at.sync('disk', at.at('disk.img'));
  t.false(existsSync(moved));
});

test.serial('a volume is deleted with all its sessions; another of the same repository is whole', async (t) => {
  const at = await lab(t, pool);
  const sessions = await sixSessions(at);
  await at.sync('other', at.at('disk.img'));
  await deleteVolume(at.repository, await at.repository.volume('other'), DELETE);
  t.is(await codeOf(() => at.repository.volume('other')), 'VOLUME_NOT_FOUND');
  await verifyAll(t, at, sessions);
});

test.serial('sessions can be deleted from a disk without a free byte or inode', async (t) => {
  const at = await lab(t, pool);
  const folder = mountFileSystem(at, { name: 'ext4', make: ['mkfs.ext4', '-q', '-F', '-N', '600', '-m', '0'], sizeMib: 48 });
  const repo = `${folder}/repo`;
  await makeFastRepository(repo);
  const image = at.at('disk.img');
  const run = (...args: string[]): ReturnType<Lab['cliIn']> => at.cliIn({ TIMEBAND_REPO: repo }, ...args);
  for (let round = 0; round < 3; round++) {
    writeParts(image, BANDS * BAND_256K, [{ at: (round % 2) * BAND_256K, bytes: fill(`${round}`, 5 * BAND_256K) }]);
    t.is((await run('sync', `disk=${image}`, '--band-size', '256K')).status, 0);
  }
  await at.shell(
    `cd '${folder}'; i=0; while touch filler-$i; do i=$((i+1)); done; cat /dev/zero > filler-0; dd if=/dev/zero of=filler-1 bs=512; true`,
  );
  t.is(sh('df', '--output=avail,iavail', folder).trim().split('\n').at(-1)?.trim().replaceAll(/\s+/g, ' '), '0 0');
  const full = await run('sync', `disk=${image}`, '--force');
  t.is(full.status, 1);
  t.regex(full.stderr, /full|space|does not fit/);
  const deleted = await run('delete', 'disk@latest~1', 'disk@latest~2', '--yes');
  t.is(deleted.status, 0, deleted.stderr);
  t.is((await run('check', '--data')).status, 0);
  t.is((await run('sync', `disk=${image}`, '--force')).status, 0, 'there is room again');
  t.deepEqual(readdirSync(`${repo}/locks`), []);
});

test.serial('what was protected after a rule had chosen it is not deleted, nor anything else of that volume', async (t) => {
  const at = await lab(t, pool);
  const sessions = await sixSessions(at);
  const volume = await at.repository.volume('disk');
  const [first = '', second = ''] = sessions.keys();
  const protect = (isProtected: boolean): Promise<unknown> =>
    changeLabels(at.repository, { volume, sessionId: second }, (labels) => ({ ...labels, isProtected }));
  await protect(true);
  const spare = { ...DELETE, isKept: (_id: string, labels: Labels): boolean => labels.isProtected };
  t.is(await codeOf(() => deleteSessions(at.repository, volume, [first, second], spare)), 'LOCKED');
  await verifyAll(t, at, sessions);
  t.deepEqual(readdirSync(at.repository.layout.locks), []);
  await protect(false);
  await deleteSessions(at.repository, volume, [first, second], spare);
  t.is((await volume.sessionIds()).length, 4);
});
