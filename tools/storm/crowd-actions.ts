/** What a member of the crowd does, and which ends of a command are right then. */
import { createHash } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf } from '../../bands/errors.ts';
import type { SeededRandom } from '../random.ts';
import type { Ledger, LedgerSession, Reading } from './ledger.ts';
import { describeEnd, type Ended, type Machine, start } from './program.ts';
import { digestOfFile, ScratchImage } from './scratch-image.ts';
import { violated } from './state.ts';

export interface Member {
  /** A folder of its own. */
  readonly home: string;
  readonly random: SeededRandom;
  readonly ledger: Ledger;
  readonly volumes: readonly string[];
  readonly machine: Machine;
  /** By volume. */
  readonly images: Map<string, ScratchImage>;
}

/** `locked`: somebody else held it. `gone`: a session was deleted before its turn. `idle`: there was nothing to do it to. */
export type CrowdOutcome = 'done' | 'locked' | 'gone' | 'idle';

export interface CrowdAction {
  readonly name: string;
  /** How often it is chosen. */
  readonly weight: number;
  run(member: Member): Promise<CrowdOutcome>;
}

const LOCKED = 11;
const KEEP_LAST = 4;
const READ_BYTES = 131_072;
const READS_PER_MOUNT = 3;
const IMAGE_BANDS = 12;

function pick<T>(random: SeededRandom, items: readonly T[]): T | undefined {
  return items.length === 0 ? undefined : items[random.below(items.length)];
}

function anyVolume({ random, volumes }: Member): string {
  return pick(random, volumes) ?? '';
}

function anySession(member: Member): LedgerSession | undefined {
  return pick(member.random, member.ledger.sessionsOf(anyVolume(member)));
}

/** Half of all wait for locks, the others are refused. */
async function run(member: Member, ...args: readonly string[]): Promise<Ended> {
  const wait = member.random.below(2) === 0 ? [] : ['--lock-wait', '30'];
  return await start(member.machine, [...args, ...wait, '--json']).ended;
}

function codeOf({ stdout }: Ended): unknown {
  const document: { readonly error?: { readonly code?: unknown } } = stdout === '' ? {} : JSON.parse(stdout);
  return document.error?.code;
}

/** For a command that others may keep from its work, but nothing else. @throws Violation */
function judge(end: Ended): CrowdOutcome {
  if (end.status === 0) return 'done';
  if (end.status === LOCKED && codeOf(end) === 'LOCKED') return 'locked';
  return violated(describeEnd(end));
}

/** For one that names a session which may be deleted meanwhile. @throws Violation */
function judgeNamed(end: Ended, readings: readonly Reading[]): CrowdOutcome {
  const mayBeGone = readings.some((reading) => reading.mayBeGone());
  if (end.status === 1 && codeOf(end) === 'SESSION_NOT_FOUND' && mayBeGone) return 'gone';
  return judge(end);
}

async function sync(member: Member): Promise<CrowdOutcome> {
  const volume = anyVolume(member);
  const image = member.images.get(volume) ?? new ScratchImage(path.join(member.home, `${member.images.size}.img`), member.random, IMAGE_BANDS);
  member.images.set(volume, image);
  image.change();
  const end = await run(member, 'sync', `${volume}=${image.file}`);
  const outcome = judge(end);
  if (outcome !== 'done') return outcome;
  const { results }: { readonly results: readonly { readonly status: string; readonly session: string }[] } = JSON.parse(end.stdout);
  const [result] = results;
  if (result?.status !== 'created') return violated(`a sync of a changed image made no session: ${describeEnd(end)}`);
  member.ledger.commit({ volume, id: result.session, digest: image.digest() });
  return outcome;
}

async function prune(member: Member): Promise<CrowdOutcome> {
  const volume = anyVolume(member);
  const isOver = member.ledger.threaten(member.ledger.sessionsOf(volume));
  try {
    const end = await run(member, 'prune', volume, '--keep-last', String(KEEP_LAST), '--yes');
    const outcome = judgeNamed(
      end,
      member.ledger.sessionsOf(volume).map((session) => member.ledger.read(session)),
    );
    if (outcome !== 'done') return outcome;
    const { sessions }: { readonly sessions: readonly { readonly session: string; readonly action: string }[] } = JSON.parse(end.stdout);
    for (const { session, action } of sessions) if (action === 'delete') member.ledger.prune({ volume, id: session, keepLast: KEEP_LAST });
    return outcome;
  } finally {
    isOver();
  }
}

/** One or two that are not among the newest. */
async function deleteChosen(member: Member): Promise<CrowdOutcome> {
  const volume = anyVolume(member);
  const old = member.ledger.sessionsOf(volume).slice(0, -2);
  const first = pick(member.random, old);
  if (first === undefined) return 'idle';
  const chosen = [first, ...old.filter((session) => session !== first).slice(0, member.random.below(2))];
  const readings = chosen.map((session) => member.ledger.read(session));
  const isOver = member.ledger.threaten(chosen);
  try {
    const end = await run(member, 'delete', ...chosen.map(({ id }) => `${volume}@${id}`), '--yes');
    const outcome = judgeNamed(end, readings);
    if (outcome === 'done') for (const session of chosen) member.ledger.delete(session);
    return outcome;
  } finally {
    isOver();
  }
}

async function protect(member: Member): Promise<CrowdOutcome> {
  const session = anySession(member);
  if (session === undefined || member.ledger.sessionsOf(session.volume).filter(({ isProtected }) => isProtected).length > 1) return 'idle';
  const reading = member.ledger.read(session);
  const outcome = judgeNamed(await run(member, 'protect', `${session.volume}@${session.id}`), [reading]);
  if (outcome === 'done' && !reading.mayBeGone()) member.ledger.protect(session); // else a prune may have looked before
  return outcome;
}

async function check(member: Member): Promise<CrowdOutcome> {
  const volume = pick(member.random, [[], [anyVolume(member)]]) ?? [];
  const data = member.random.below(2) === 0 ? [] : ['--data'];
  return judge(await run(member, 'check', ...volume, ...data));
}

async function restore(member: Member): Promise<CrowdOutcome> {
  const session = anySession(member);
  if (session === undefined) return 'idle';
  const target = path.join(member.home, 'restored.img');
  rmSync(target, { force: true });
  const reading = member.ledger.read(session);
  const outcome = judgeNamed(await run(member, 'restore', `${session.volume}@${session.id}`, target), [reading]);
  if (outcome === 'done' && digestOfFile(target) !== session.digest) violated(`${session.volume}@${session.id} was restored with other bytes`);
  return outcome;
}

async function list(member: Member): Promise<CrowdOutcome> {
  const command = pick(member.random, ['sessions', 'volumes', 'stats']) ?? 'sessions';
  return judge(await run(member, command));
}

/** Mounts the repository, reads images of sessions, and takes the mount down. */
async function mount(member: Member): Promise<CrowdOutcome> {
  const directory = path.join(member.home, 'mount');
  mkdirSync(directory, { recursive: true });
  const outcome = judge(await run(member, 'mount', directory));
  if (outcome !== 'done') return outcome;
  try {
    for (let i = 0; i < READS_PER_MOUNT; i++) {
      const session = anySession(member);
      if (session !== undefined) await readMounted(member.ledger.read(session), directory);
    }
  } finally {
    judge(await run(member, 'unmount', directory));
  }
  return outcome;
}

/** What could be opened must be readable to its end, whoever wants to delete it meanwhile. @throws Violation */
async function readMounted(reading: Reading, directory: string): Promise<void> {
  const { volume, id, digest } = reading.session;
  const hash = createHash('sha256');
  await using handle = await openMounted(reading, path.join(directory, volume, id, 'image'));
  if (handle === undefined) return;
  const buffer = new Uint8Array(READ_BYTES);
  for (;;) {
    const { bytesRead } = await handle
      .read(buffer, 0, READ_BYTES)
      .catch((error: unknown) => violated(`${volume}@${id} in a mount: ${String(error)}`));
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
  }
  if (hash.digest('hex') !== digest) violated(`${volume}@${id} has other bytes in a mount`);
}

async function openMounted(reading: Reading, file: string): Promise<FileHandle | undefined> {
  try {
    return await open(file, 'r');
  } catch (error) {
    const isGone = ['ENOENT', 'EBUSY'].includes(errnoOf(error) ?? '');
    if (isGone && reading.mayBeGone()) return undefined;
    return violated(`${file} in a mount cannot be opened: ${String(error)}`);
  }
}

export const CROWD_ACTIONS: readonly CrowdAction[] = [
  { name: 'sync', weight: 6, run: sync },
  { name: 'prune', weight: 2, run: prune },
  { name: 'delete', weight: 2, run: deleteChosen },
  { name: 'protect', weight: 1, run: protect },
  { name: 'check', weight: 2, run: check },
  { name: 'restore', weight: 3, run: restore },
  { name: 'list', weight: 1, run: list },
  { name: 'mount', weight: 3, run: mount },
];
