/**
 * Repositories that somebody built to do harm: who can write to the storage, and, worse, who holds the key of a volume and
 * seals nonsense with it. Every command ends in a TimebandError or in right data, and nothing outside is touched.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { TimebandError } from '../../bands/errors.ts';
import { type Manifest, manifestCodec } from '../../bands/format/manifest.ts';
import { openRecord, RECORD_NONCE_BYTES, type RecordPlace, sealRecord } from '../../bands/format/record.ts';
import { formatSessionId } from '../../bands/format/session-id.ts';
import type { VolumeContext } from '../../bands/store/session-directory.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { checkRepository } from '../../src/check/check.ts';
import { checkWithoutKey } from '../../src/check/check-without-key.ts';
import { deleteSessions } from '../../src/deletion/delete-sessions.ts';
import { diffSessions } from '../../src/diff.ts';
import { mapVolume } from '../../src/map.ts';
import { repairRepository } from '../../src/repair/repair.ts';
import { Repository } from '../../src/repository.ts';
import { restoreSession } from '../../src/restore.ts';
import { summarizeSessions } from '../../src/sessions.ts';
import { repositoryStats } from '../../src/stats.ts';
import { syncVolume } from '../../src/sync/sync.ts';
import { makeFastRepository } from '../support/library.ts';
import { firstWrongByte } from '../support/parts.ts';
import { PASSPHRASE, sh } from '../support/workspace.ts';
import { type Scene, setScene } from './damage/scene.ts';
import { makeTemplate, type Template } from './damage/template.ts';

const pool: BandPool = new BandPool();
const YEAR_MS = 365 * 86_400_000;
let template: Template;
/** Another repository with the same passphrase, and volumes of the same names. */
let stranger: string;

test.before('the repositories that all cases start from', async () => {
  template = await makeTemplate(pool);
  stranger = mkdtempSync(path.join(tmpdir(), 'timeband-test-'));
  await makeFastRepository(path.join(stranger, 'repo'));
  using repository = await Repository.open(path.join(stranger, 'repo'), { passphrase: PASSPHRASE });
  await syncVolume(repository, { name: 'small', location: template.next.small, bandBytes: 262_144 }, { pool });
});

test.after.always(async () => {
  template.remove();
  rmSync(stranger, { recursive: true, force: true });
  await pool.close();
});

interface Target {
  readonly scene: Scene;
  readonly root: string;
  /** Of the volume `small`. */
  readonly context: VolumeContext;
  /** Its sessions, oldest first. */
  readonly sessions: readonly string[];
  /** A file and a folder outside of the repository. */
  readonly outside: string;
}

interface Attack {
  readonly title: string;
  readonly attack: (target: Target) => void;
  /** The attack stops the repository as a whole from being opened. */
  readonly keepsShut?: boolean;
  /** There is nothing for `check` to find. */
  readonly isHarmless?: boolean;
  /** Sessions of the eight that come back at least; one volume may be lost. */
  readonly leastRestored?: number;
}

function reseal(context: VolumeContext, place: Omit<RecordPlace, 'volumeId'>, plain: Uint8Array): Uint8Array {
  return sealRecord(context.keys.recordsKey, { ...place, volumeId: context.volumeId }, { nonce: randomBytes(RECORD_NONCE_BYTES), plain });
}

/** Replaces the manifest of a session by what a holder of the key makes of it. */
function forgeManifest({ context, sessions }: Target, number: number, change: (manifest: Manifest) => Manifest): void {
  const directory = sessions[number] ?? '';
  const file = path.join(directory, 'manifest');
  const at = path.basename(directory);
  const plain = openRecord(context.keys.recordsKey, { kind: 'manifest', volumeId: context.volumeId, at }, readFileSync(file));
  rmSync(file);
  writeFileSync(file, reseal(context, { kind: 'manifest', at }, manifestCodec.encode(change(manifestCodec.decode(plain)))));
}

function someFile(folder: string, number = 0): string {
  return path.join(folder, readdirSync(folder).sort()[number] ?? '');
}

function replaceBy(file: string, make: (file: string) => void): void {
  rmSync(file, { recursive: true });
  make(file);
}

function editJson(file: string, edit: (text: string) => string): void {
  writeFileSync(file, edit(readFileSync(file, 'utf8')));
}

const slotOf = ({ root }: Target): string => someFile(path.join(root, 'keys'));
const ownBands = ({ sessions }: Target, number: number): string => path.join(sessions[number] ?? '', 'bands');

/** Renames a session's folder and seals its manifest for the new place. */
function moveSession(target: Target, number: number, sessionId: string): void {
  const from = target.sessions[number] ?? '';
  const to = path.join(path.dirname(from), sessionId);
  const plain = openRecord(
    target.context.keys.recordsKey,
    { kind: 'manifest', volumeId: target.context.volumeId, at: path.basename(from) },
    readFileSync(path.join(from, 'manifest')),
  );
  cpSync(from, to, { recursive: true });
  const manifest = manifestCodec.decode(plain);
  writeFileSync(
    path.join(to, 'manifest'),
    reseal(target.context, { kind: 'manifest', at: sessionId }, manifestCodec.encode({ ...manifest, sessionId })),
  );
}

const ATTACKS: readonly Attack[] = [
  {
    title: 'a band that is a link to a file outside',
    attack: (target) => replaceBy(someFile(ownBands(target, 1)), (file) => symlinkSync(path.join(target.outside, 'secret'), file)),
  },
  { title: 'a band that is a device', attack: (target) => replaceBy(someFile(ownBands(target, 1)), (file) => void sh('mknod', file, 'c', '1', '5')) },
  { title: 'a band that is a pipe', attack: (target) => replaceBy(someFile(ownBands(target, 1)), (file) => void sh('mkfifo', file)) },
  {
    title: 'a folder of bands that is a link to a folder outside',
    attack: (target) => replaceBy(ownBands(target, 1), (folder) => symlinkSync(target.outside, folder)),
  },
  {
    title: 'a session that is a link to a folder outside',
    attack: ({ sessions, outside }) => symlinkSync(outside, path.join(path.dirname(sessions[0] ?? ''), '20301121T100000.000Z')),
  },
  {
    title: 'a folder of sessions that is a link to a folder outside',
    attack: ({ sessions, outside }) => replaceBy(path.dirname(sessions[0] ?? ''), (folder) => symlinkSync(outside, folder)),
  },
  {
    title: 'an incoming folder that is a link to a folder outside',
    attack: ({ sessions, outside }) => replaceBy(path.join(sessions[0] ?? '', '..', '..', 'incoming'), (folder) => symlinkSync(outside, folder)),
    isHarmless: true,
  },
  {
    title: 'an unfinished session that is a link to a folder outside',
    attack: ({ sessions, outside }) => symlinkSync(outside, path.join(sessions[0] ?? '', '..', '..', 'incoming', 'sync')),
    isHarmless: true,
  },
  {
    title: 'a trash that is a link to a folder outside',
    attack: ({ root, outside }) => replaceBy(path.join(root, 'trash'), (folder) => symlinkSync(outside, folder)),
    isHarmless: true,
  },
  {
    title: 'links to outside in the trash',
    attack: ({ root, outside }) => symlinkSync(outside, path.join(root, 'trash', 'x')),
    isHarmless: true,
  },
  {
    title: 'a folder of locks that is a link to a folder outside',
    attack: ({ root, outside }) => replaceBy(path.join(root, 'locks'), (folder) => symlinkSync(outside, folder)),
  },
  {
    title: 'files with strange names among the bands, the index and the sessions',
    attack: ({ sessions }) => {
      const names = ['..x', '-rf', 'a\nb', '%2e%2e', '\u202e', 'z'.repeat(255)];
      for (const name of names) for (const folder of ['bands', 'index', '..']) writeFileSync(path.join(sessions[0] ?? '', folder, name), 'x');
    },
    isHarmless: true,
  },
  {
    title: 'a manifest of another repository with the same passphrase',
    attack: ({ sessions }) => {
      const folder = path.join(stranger, 'repo', 'volumes', readdirSync(path.join(stranger, 'repo', 'volumes'))[0] ?? '', 'sessions');
      copyFileSync(path.join(someFile(folder), 'manifest'), path.join(sessions[1] ?? '', 'manifest'));
    },
  },
  {
    title: 'a key slot of another repository with the same passphrase, beside the own one',
    attack: ({ root }) => {
      const name = readdirSync(path.join(stranger, 'repo', 'keys'))[0] ?? '';
      copyFileSync(path.join(stranger, 'repo', 'keys', name), path.join(root, 'keys', name));
    },
  },
  {
    title: 'two key slots with one id',
    attack: (target) => copyFileSync(slotOf(target), path.join(target.root, 'keys', '0000000000000000.json')),
  },
  {
    title: 'a key slot that is a link to a file outside',
    attack: (target) => replaceBy(slotOf(target), (file) => symlinkSync(path.join(target.outside, 'secret'), file)),
    keepsShut: true,
  },
  {
    title: 'a key slot of a gigabyte',
    attack: (target) => truncateSync(slotOf(target), 2 ** 30),
    keepsShut: true,
  },
  {
    title: 'a key slot whose scrypt takes 100 GB',
    attack: (target) => editJson(slotOf(target), (text) => text.replace('"logN": 10', '"logN": 20').replace('"r": 8', '"r": 32768')),
    keepsShut: true,
  },
  {
    title: 'a key slot with more work',
    attack: (target) => editJson(slotOf(target), (text) => text.replace('"logN": 10', '"logN": 11')),
    keepsShut: true,
  },
  { title: 'a key slot with less work', attack: (target) => editJson(slotOf(target), (text) => text.replace('"r": 8', '"r": 1')), keepsShut: true },
  {
    title: 'another cipher in repository.json',
    attack: ({ root }) => editJson(path.join(root, 'repository.json'), (text) => text.replace('aes-256-gcm', 'chacha20-poly1305')),
    keepsShut: true,
  },
  {
    title: 'a cipher of nobody in repository.json',
    attack: ({ root }) => editJson(path.join(root, 'repository.json'), (text) => text.replace('aes-256-gcm', 'none')),
    keepsShut: true,
  },
  {
    title: 'a session that is its own base',
    attack: (target) =>
      forgeManifest(target, 1, (manifest) => ({ ...manifest, base: { sessionId: manifest.sessionId, manifestDigest: new Uint8Array(32) } })),
  },
  {
    title: 'two sessions that are the base of each other',
    attack: (target) => {
      const [first = '', second = ''] = target.sessions.map((directory) => path.basename(directory));
      const digest = (number: number): Uint8Array =>
        createHash('sha256')
          .update(readFileSync(path.join(target.sessions[number] ?? '', 'manifest')))
          .digest();
      forgeManifest(target, 0, (manifest) => ({ ...manifest, base: { sessionId: second, manifestDigest: digest(1) } }));
      forgeManifest(target, 1, (manifest) => ({ ...manifest, base: { sessionId: first, manifestDigest: digest(0) } }));
    },
  },
  {
    title: 'a manifest of a volume of 8 PiB',
    attack: (target) => forgeManifest(target, 1, (manifest) => ({ ...manifest, sizeBytes: 2 ** 53 - 512 })),
  },
  {
    title: 'a manifest of a size that does not fit its index',
    attack: (target) => forgeManifest(target, 2, (manifest) => ({ ...manifest, sizeBytes: manifest.sizeBytes + 600 * manifest.bandBytes })),
  },
  { title: 'a session from the future', attack: (target) => moveSession(target, 1, formatSessionId(Date.now() + 100 * YEAR_MS)) },
  { title: 'a session of the year 9999', attack: (target) => moveSession(target, 1, '99991231T235959.999Z') },
  {
    title: 'a session that is there twice, under another id',
    attack: ({ sessions }) => cpSync(sessions[1] ?? '', path.join(path.dirname(sessions[1] ?? ''), '20301121T100000.000Z'), { recursive: true }),
  },
  {
    title: 'an old index page under a new manifest',
    attack: ({ sessions }) => {
      const page = someFile(path.join(sessions[2] ?? '', 'index'));
      rmSync(page);
      linkSync(path.join(sessions[0] ?? '', 'index', path.basename(page)), page);
    },
  },
  {
    title: 'an index page that names a band file of 4 GiB, well sealed',
    attack: (target) => {
      const page = someFile(path.join(target.sessions[2] ?? '', 'index'));
      const place = { kind: 'page', at: 0 } as const;
      const plain = openRecord(target.context.keys.recordsKey, { ...place, volumeId: target.context.volumeId }, readFileSync(page));
      new DataView(plain.buffer, plain.byteOffset).setUint32(24, 0xffff_ffff, true);
      rmSync(page);
      const sealed = reseal(target.context, place, plain);
      writeFileSync(page, sealed);
      forgeManifest(target, 2, (manifest) => ({ ...manifest, pageDigests: [createHash('sha256').update(sealed).digest()] }));
    },
  },
  {
    title: 'a volume that is there twice, under another id',
    attack: ({ sessions, root }) => cpSync(path.join(sessions[0] ?? '', '..', '..'), path.join(root, 'volumes', 'f'.repeat(32)), { recursive: true }),
  },
  { title: 'a volume record of a gigabyte', attack: ({ sessions }) => truncateSync(path.join(sessions[0] ?? '', '..', '..', 'volume'), 2 ** 30) },
  {
    title: 'volumes that change places',
    leastRestored: 3,
    attack: ({ scene, sessions }) => {
      const own = path.join(sessions[0] ?? '', '..', '..');
      const other = path.dirname(scene.file({ volume: 'other', session: 0, kind: 'volume record' }));
      renameSync(own, `${own}.x`);
      renameSync(other, own);
      renameSync(`${own}.x`, other);
    },
  },
];

/** What is in a folder: names, kinds, contents and times. */
function snapshot(folder: string): string[] {
  return readdirSync(folder, { recursive: true })
    .map(String)
    .sort()
    .map((name) => {
      const file = path.join(folder, name);
      const stat = lstatSync(file);
      const content = stat.isFile() ? readFileSync(file, 'latin1') : stat.isSymbolicLink() ? readlinkSync(file) : '';
      return [name, stat.mode, stat.mtimeMs, content].join(' ');
    });
}

/** Runs one piece of work: it ends well, or in a TimebandError; anything else fails the test. */
async function attempt<T>(t: ExecutionContext, what: string, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    t.true(error instanceof TimebandError, `${what}: ${error instanceof Error ? error.stack : String(error)}`);
    return undefined;
  }
}

/** Restores every session; one that comes back is one that somebody made. @returns how many came back */
async function restoreAll(t: ExecutionContext, repository: Repository, target: Target): Promise<number> {
  const known = Object.values(template.sessions).flat();
  let restored = 0;
  for (const volume of (await attempt(t, 'list', () => repository.listVolumes()))?.volumes ?? [])
    for (const id of (await attempt(t, 'sessions', () => volume.sessionIds())) ?? []) {
      const file = target.scene.at('restored.img');
      rmSync(file, { force: true });
      const result = await attempt(t, `restore ${volume.name}@${id}`, async () =>
        restoreSession({ session: await volume.openSession(id), target: file, pool }),
      );
      if (result === undefined) continue;
      restored++;
      const size = lstatSync(file).size;
      t.true(
        known.some(({ image }) => lstatSync(image).size === size && firstWrongByte(file, image) === undefined),
        `${volume.name}@${id} is a session that was made`,
      );
    }
  return restored;
}

/** Every command that reads, then those that write. */
async function useAll(t: ExecutionContext, repository: Repository): Promise<{ readonly findings: number }> {
  const check = await attempt(t, 'check', () => checkRepository(repository, { pool, withData: true }));
  await attempt(t, 'check without key', () => checkWithoutKey(repository.layout.root, { pool }));
  await attempt(t, 'stats', () => repositoryStats(repository));
  for (const volume of (await attempt(t, 'list', () => repository.listVolumes()))?.volumes ?? []) {
    await attempt(t, 'summaries', () => summarizeSessions(volume, {}));
    const ids = (await attempt(t, 'sessions', () => volume.sessionIds())) ?? [];
    for (const id of ids) {
      await attempt(t, 'diff', () => diffSessions(volume, ids[0] ?? '', id));
      await attempt(t, 'map', () => mapVolume(volume, id));
    }
    await attempt(t, 'sync', () => syncVolume(repository, { name: volume.name, location: template.next.small }, { pool }));
    await attempt(t, 'delete', () => deleteSessions(repository, volume, ids.slice(0, 1), { command: 'delete' }));
  }
  await attempt(t, 'repair', () => repairRepository(repository, { pool, withData: true }));
  return { findings: check?.findings.length ?? 1 };
}

for (const { title, attack, keepsShut = false, isHarmless = false, leastRestored = 5 } of ATTACKS) {
  test(title, async (t) => {
    const scene = await setScene(t, template);
    const { context, layout } = await scene.repository.volume('small');
    const outside = scene.folder('outside');
    writeFileSync(path.join(outside, 'secret'), 'a secret of this machine');
    mkdirSync(path.join(outside, 'folder'));
    writeFileSync(path.join(outside, 'folder', 'file'), 'more of it');
    const sessions = template.sessions.small.map(({ id }) => path.join(layout.sessions, id));
    const target: Target = { scene, root: scene.repo, context, sessions, outside };
    attack(target);
    const before = snapshot(outside);

    const repository = await attempt(t, 'open', () => Repository.open(scene.repo, { passphrase: PASSPHRASE }));
    t.is(repository === undefined, keepsShut, 'whether it opens');
    if (repository === undefined) return;
    try {
      const restored = await restoreAll(t, repository, target);
      t.true(restored >= leastRestored, `${restored} sessions that were not touched come back`);
      const { findings } = await useAll(t, repository);
      t.is(findings > 0, !isHarmless, `check has ${findings} findings`);
    } finally {
      repository.close();
    }
    t.deepEqual(snapshot(outside), before, 'nothing outside was touched');
  });
}
