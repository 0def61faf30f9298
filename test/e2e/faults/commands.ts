/** Every command that writes, as it is tried under faults. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type ErrorCode, TimebandError } from '../../../bands/errors.ts';
import { NO_LABELS } from '../../../bands/format/labels.ts';
import { checkRepository } from '../../../src/check/check.ts';
import { copySessions } from '../../../src/copy/copy.ts';
import { deleteSessions, deleteVolume } from '../../../src/deletion/delete-sessions.ts';
import { changeLabels } from '../../../src/labels.ts';
import { repairRepository } from '../../../src/repair/repair.ts';
import { Repository } from '../../../src/repository.ts';
import { restoreSession } from '../../../src/restore.ts';
import { restoreInPlace } from '../../../src/restore-in-place.ts';
import { planPrune } from '../../../src/retention/prune.ts';
import { codeOf, FAST_SCRYPT, makeFastRepository, openNamed } from '../../support/library.ts';
import { PASSPHRASE } from '../../support/workspace.ts';
import type { KnownSession, Opened, Scene } from './scene.ts';

const DYING_SYNC = fileURLToPath(new URL('../../support/dying-sync.js', import.meta.url));

export interface FaultCommand {
  readonly name: string;
  /** Brings the files to where the command begins. */
  prepare?(scene: Scene): Promise<void>;
  run(opened: Opened): Promise<unknown>;
  /** The sessions that it is to take away. */
  takes?(scene: Scene): readonly KnownSession[];
  /** Whether what it said to have done is done. */
  isDone(opened: Opened): Promise<boolean>;
  /** What must hold besides, done or not. @returns what does not */
  problems?(scene: Scene): Promise<readonly string[]>;
  /** Where operations fail; in the repository, if nothing is said. */
  readonly under?: readonly string[];
  /** What else an error may say: a restore tells what it cannot read as damage of the session. */
  readonly code?: ErrorCode;
  /** Whether it is the catalog that fails. */
  readonly isCatalog?: boolean;
  /** Whether the newest session goes: if the power fails before the catalog knows, the next sync asks. */
  readonly takesNewest?: boolean;
}

const isSynced = async ({ scene, repository }: Opened, name: string): Promise<boolean> =>
  (await scene.digestOf(await openNamed(repository, name))) === scene.imageDigest;

const sync: FaultCommand = { name: 'sync', run: (at) => at.scene.sync(at, 'disk'), isDone: (at) => isSynced(at, 'disk') };

const firstSync: FaultCommand = { name: 'first sync', run: (at) => at.scene.sync(at, 'new'), isDone: (at) => isSynced(at, 'new') };

const grownSync: FaultCommand = { ...sync, name: 'sync of a grown image', prepare: async (scene) => scene.writeImage(4, 10) };

const shrunkSync: FaultCommand = { ...sync, name: 'sync of a shrunk image', prepare: async (scene) => scene.writeImage(4, 4) };

/** After one that was killed when it had written all its files. */
const resumedSync: FaultCommand = {
  ...sync,
  name: 'sync after one that was killed',
  async prepare({ repo, image, state }) {
    await promisify(execFile)(process.execPath, [DYING_SYNC, repo, 'disk', image, state, 'bound']).catch(() => undefined); // it kills itself
  },
};

const session = (scene: Scene, at: number): KnownSession => {
  const found = scene.known[at];
  if (found === undefined) throw new RangeError('at: no such session');
  return found;
};

const remove: FaultCommand = {
  name: 'delete',
  takes: (scene) => [session(scene, 0), session(scene, 1)],
  async run({ scene, repository, catalog }) {
    const ids = [session(scene, 0).id, session(scene, 1).id];
    await deleteSessions(repository, await repository.volume('disk'), ids, { command: 'delete', catalog });
  },
  isDone: async ({ repository }) => (await (await repository.volume('disk')).sessionIds()).length === 1,
};

const removeNewest: FaultCommand = {
  name: 'delete --even-newest',
  takesNewest: true,
  takes: (scene) => [session(scene, 2)],
  async run({ scene, repository, catalog }) {
    await deleteSessions(repository, await repository.volume('disk'), [session(scene, 2).id], { command: 'delete', evenNewest: true, catalog });
  },
  isDone: async ({ repository }) => (await (await repository.volume('disk')).sessionIds()).length === 2,
};

const prune: FaultCommand = {
  name: 'prune',
  takes: (scene) => [session(scene, 1)],
  async run({ repository, catalog }) {
    const { volumes, damaged } = await repository.listVolumes();
    if (damaged[0] !== undefined) throw damaged[0].error; // the command line says so, and ends with 3
    const options = { nowMs: Date.now(), timeZone: 'utc' as const };
    const plan = await planPrune(repository, volumes, { rules: { keepLast: 1 }, minFreeBytes: undefined, options }, catalog);
    const unread = plan.sessions.find(({ problem }) => problem !== undefined);
    if (unread !== undefined) throw new TimebandError(unread.problem ?? '', { code: 'IO_ERROR' }); // the command line says so, and ends with 3
    for (const { volume, id } of plan.sessions.filter(({ action }) => action === 'delete'))
      await deleteSessions(repository, volume, [id], { command: 'prune', catalog });
  },
  isDone: async ({ repository }) => (await (await repository.volume('disk')).sessionIds()).length === 2,
};

const labels: FaultCommand = {
  name: 'tag, note, protect',
  async run({ scene, repository }) {
    const volume = await repository.volume('disk');
    await changeLabels(repository, { volume, sessionId: session(scene, 2).id }, () => ({
      ...NO_LABELS,
      tags: ['kept'],
      note: 'new',
      isProtected: true,
    }));
  },
  isDone: async ({ repository }) => (await (await repository.volume('disk')).resolve('kept')) !== '',
};

const untag: FaultCommand = {
  name: 'untag',
  async run({ scene, repository }) {
    const volume = await repository.volume('disk');
    await changeLabels(repository, { volume, sessionId: session(scene, 1).id }, (before) => ({ ...before, tags: [] }));
  },
  isDone: async ({ scene, repository }) => (await (await repository.volume('disk')).readLabels(session(scene, 1).id)).tags.length === 0,
};

const rename: FaultCommand = {
  name: 'rename',
  async run({ repository }) {
    await repository.changeVolume(await repository.volume('other'), (record) => ({ ...record, name: 'renamed' }));
  },
  isDone: async ({ repository }) => (await repository.findVolume('renamed')) !== undefined,
};

const removeVolume: FaultCommand = {
  name: 'delete-volume',
  takes: (scene) => [session(scene, 3)],
  async run({ repository, catalog }) {
    await deleteVolume(repository, await repository.volume('other'), { command: 'delete-volume', catalog });
  },
  isDone: async ({ repository }) => (await repository.findVolume('other')) === undefined,
};

/** It writes into the labels when a session was found whole. */
const check: FaultCommand = {
  name: 'check',
  async run({ scene, repository, catalog }) {
    const { findings } = await checkRepository(repository, { pool: scene.pool, catalog });
    if (findings[0] !== undefined) throw new TimebandError(findings[0].message, { code: findings[0].code });
  },
  isDone: () => Promise.resolve(true),
};

/** Of a repository in which a sync was killed. */
const repair: FaultCommand = {
  name: 'check --repair',
  prepare: async (scene) => await resumedSync.prepare?.(scene),
  async run({ scene, repository, catalog }) {
    const { findings } = (await repairRepository(repository, { pool: scene.pool, catalog, withData: true })).check;
    if (findings[0] !== undefined) throw new TimebandError(findings[0].message, { code: findings[0].code });
  },
  isDone: () => Promise.resolve(true),
};

/** Opens the second repository, into which is copied. */
async function withSecond<T>(scene: Scene, use: (second: Repository) => Promise<T>): Promise<T> {
  using second = await Repository.open(scene.at('second'), { passphrase: PASSPHRASE });
  return await use(second);
}

const isCopied = (scene: Scene): Promise<boolean> =>
  withSecond(scene, async (second) => {
    for (const { volume, id, digest } of scene.known) if ((await scene.digestOf(await openNamed(second, volume, id))) !== digest) return false;
    return (await checkRepository(second, { pool: scene.pool, withData: true })).findings.length === 0;
  });

const copy: FaultCommand = {
  name: 'copy',
  under: ['/second'],
  prepare: (scene) => makeFastRepository(scene.at('second')),
  run: ({ scene, repository }) =>
    withSecond(scene, async (second) => {
      const requests = ['disk', 'other'].map((name) => ({ name, session: undefined }));
      const { isComplete } = await copySessions(repository, second, { requests }, { pool: scene.pool });
      if (!isComplete) throw new Error('not all was copied');
    }),
  isDone: ({ scene }) => isCopied(scene),
  async problems(scene) {
    scene.endProcess('second');
    await scene.open((opened) => copy.run(opened));
    return (await isCopied(scene)) ? [] : ['copied again: not what the first repository holds'];
  },
};

const digestOfFile = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

const restore: FaultCommand = {
  name: 'restore',
  under: ['/repo', '/restored'],
  code: 'BAND_CORRUPT',
  run: async ({ scene, repository }) =>
    await restoreSession({ session: await openNamed(repository, 'disk', session(scene, 0).id), target: scene.at('restored.img'), pool: scene.pool }),
  isDone: async ({ scene }) => digestOfFile(scene.at('restored.img')) === session(scene, 0).digest,
  problems: async (scene) => {
    const target = scene.at('restored.img');
    return existsSync(target) && digestOfFile(target) !== session(scene, 0).digest ? ['a file of the name that was asked for is not whole'] : [];
  },
};

const inPlace: FaultCommand = {
  name: 'restore --in-place',
  under: ['/repo', '/target'],
  code: 'BAND_CORRUPT',
  prepare: async (scene) => writeFileSync(scene.at('target.img'), readFileSync(scene.image)),
  run: async ({ scene, repository }) =>
    await restoreInPlace({ session: await openNamed(repository, 'disk', session(scene, 0).id), target: scene.at('target.img'), pool: scene.pool }),
  isDone: async ({ scene }) => digestOfFile(scene.at('target.img')) === session(scene, 0).digest,
  problems: async (scene) => {
    const again = await codeOf(() => scene.open((at) => inPlace.run(at)));
    return again === undefined && digestOfFile(scene.at('target.img')) === session(scene, 0).digest ? [] : [`running it again: ${again}`];
  },
};

const init: FaultCommand = {
  name: 'init',
  under: ['/new'],
  run: ({ scene }) => Repository.init(scene.at('new'), { passphrase: PASSPHRASE, scrypt: FAST_SCRYPT }),
  isDone: async ({ scene }) => {
    using made = await Repository.open(scene.at('new'), { passphrase: PASSPHRASE });
    await made.createVolume('disk');
    return true;
  },
  problems: async (scene) => {
    const code = await codeOf(() => init.run({ scene } as Opened));
    return code === undefined || code === 'REPOSITORY_EXISTS' || code === 'TARGET_INVALID' ? [] : [`init again: ${code}`];
  },
};

/** The catalog is a cache: whatever fails there, commands succeed. */
const onState = (command: FaultCommand): FaultCommand => ({ ...command, name: `${command.name} (state folder)`, under: ['/state'], isCatalog: true });

export const FAULT_COMMANDS: readonly FaultCommand[] = [
  init,
  firstSync,
  sync,
  grownSync,
  shrunkSync,
  resumedSync,
  remove,
  removeNewest,
  prune,
  labels,
  untag,
  rename,
  removeVolume,
  check,
  repair,
  copy,
  restore,
  inPlace,
  onState(sync),
  onState(removeNewest),
];
