/** What must hold after any damage: it is named, nothing else is, and no way of reading gives wrong bytes. */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { TimebandError } from '../../../bands/errors.ts';
import { type ByteRange, CHUNK_BYTES, mergeRanges } from '../../../bands/format/geometry.ts';
import type { SessionDirectory } from '../../../bands/store/session-directory.ts';
import { SessionImage } from '../../../bands/store/session-image.ts';
import type { BandPool } from '../../../bands/workers/band-pool.ts';
import { checkRepository } from '../../../src/check/check.ts';
import { checkWithoutKey } from '../../../src/check/check-without-key.ts';
import { damagedSessions } from '../../../src/check/findings.ts';
import { EXIT_CODES } from '../../../src/cli/exit-codes.ts';
import { restoreSession, streamSession } from '../../../src/restore.ts';
import { syncVolume } from '../../../src/sync/sync.ts';
import { sameBytes } from '../../support/bytes.ts';
import { firstWrongByte, readPart, withZeros } from '../../support/parts.ts';
import type { Scene } from './scene.ts';
import type { VolumeName } from './template.ts';

export interface Expected {
  readonly volume: VolumeName;
  /** Numbers of the sessions that `check` must name, and no other. */
  readonly sessions: ReadonlySet<number>;
  /** What of those sessions cannot be read; `manifest`: they cannot be opened at all; undefined: their data is whole. */
  readonly lost: ByteRange | 'manifest' | undefined;
  /** The file is damaged, but not in a way that keeps the data from being read. */
  readonly isReadable?: boolean;
  /** The sessions that `check --no-key` must name. */
  readonly withoutKey: ReadonlySet<number>;
}

/** The exit status of the TimebandError that `work` throws; undefined if it throws none. */
export async function exitOf(work: () => Promise<unknown>): Promise<number | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (error instanceof TimebandError) return EXIT_CODES[error.code];
    throw error;
  }
}

export async function verifyDamage(t: ExecutionContext, scene: Scene, expected: Expected, pool: BandPool): Promise<void> {
  await verifyChecks(t, scene, expected, pool);
  for (const i of scene.template.sessions[expected.volume].keys()) {
    if (expected.lost === 'manifest' && expected.sessions.has(i)) t.is(await exitOf(() => scene.open(expected.volume, i)), 13);
    else await verifyReading(t, scene, { expected, number: i, pool });
  }
  const newest = scene.template.sessions.other.length - 1;
  await verifyReading(t, scene, { expected: { ...expected, volume: 'other', sessions: new Set() }, number: newest, pool });
  await verifyNextSync(t, scene, expected.volume, pool);
}

async function verifyChecks(t: ExecutionContext, scene: Scene, expected: Expected, pool: BandPool): Promise<void> {
  const named = (numbers: ReadonlySet<number>): string[] => [...numbers].map((i) => scene.id(expected.volume, i));
  for (const withData of [false, true]) {
    const { findings } = await checkRepository(scene.repository, { pool, withData });
    const damaged = damagedSessions(findings);
    t.deepEqual(damaged.map(({ session }) => session).sort(), named(expected.sessions), `check names the damaged sessions, data: ${withData}`);
    t.true(findings.every(({ volume, code }) => volume === expected.volume && EXIT_CODES[code] === 13));
    const ranges = typeof expected.lost === 'object' ? [expected.lost] : [];
    for (const one of damaged) t.deepEqual([...one.ranges], ranges, `check names the ranges, data: ${withData}`);
  }
  const keyless = damagedSessions((await checkWithoutKey(scene.repo, { pool })).findings);
  t.deepEqual(keyless.map(({ session }) => session).sort(), named(expected.withoutKey), 'what shows without a key');
}

interface Reading {
  readonly expected: Expected;
  readonly number: number;
  readonly pool: BandPool;
}

/** Every way of reading a session gives its bytes, or says which range it cannot give. */
async function verifyReading(t: ExecutionContext, scene: Scene, { expected, number, pool }: Reading): Promise<void> {
  const session = await scene.open(expected.volume, number);
  const image = scene.template.sessions[expected.volume][number]?.image ?? '';
  const lost = expected.sessions.has(number) && typeof expected.lost === 'object' ? expected.lost : undefined;
  const target = scene.at('restored.img');
  const status = await exitOf(() => restoreSession({ session, target, pool }));
  t.is(status, lost === undefined || expected.isReadable === true ? undefined : 13, `restore of session ${number}`);
  if (status === undefined) t.is(firstWrongByte(target, image), undefined, 'a restore that succeeds is right');
  else t.false(existsSync(target), 'a restore that fails leaves no file');
  rmSync(target, { force: true });
  const within = (ranges: readonly ByteRange[], what: string): void => {
    const isIn = ranges.every(({ offset, length }) => lost !== undefined && offset >= lost.offset && offset + length <= lost.offset + lost.length);
    t.true(isIn, `${what}: only the damaged range is listed`);
    t.is(ranges.length > 0, status !== undefined, `${what}: damage is listed`);
  };
  if (lost !== undefined && session.bandCount < 100) writeFileSync(target, new Uint8Array(session.manifest.sizeBytes + 5000).fill(0xee));
  const { damaged } = await restoreSession({ session, target, pool, isKeepGoing: true, isOverwrite: true });
  within(damaged, '--keep-going');
  t.is(firstWrongByte(target, image, damaged), undefined, '--keep-going gives the rest, and zeros');
  within(await streamAll(t, session, { image, pool }), 'stream');
  within(await readInChunks(t, session, image), 'random reads');
  rmSync(target);
}

/** Streams a session past its image; parts that differ must be the image with zeros where the stream lists damage. */
async function streamAll(t: ExecutionContext, session: SessionDirectory, by: { image: string; pool: BandPool }): Promise<readonly ByteRange[]> {
  const odd: { at: number; bytes: Uint8Array }[] = [];
  let at = 0;
  const write = (bytes: Uint8Array): Promise<void> => {
    if (Buffer.compare(bytes, readPart(by.image, at, bytes.length)) !== 0) odd.push({ at, bytes: Uint8Array.from(bytes) });
    at += bytes.length;
    return Promise.resolve();
  };
  const { damaged } = await streamSession({ session, pool: by.pool, isKeepGoing: true, write });
  t.is(at, session.manifest.sizeBytes);
  for (const part of odd) sameBytes(t, part.bytes, withZeros(readPart(by.image, part.at, part.bytes.length), part.at, damaged), 'streamed part');
  return damaged;
}

/** Reads as a mount does; gives the ranges that fail. */
async function readInChunks(t: ExecutionContext, session: SessionDirectory, image: string): Promise<ByteRange[]> {
  const failed: ByteRange[] = [];
  const opened = new SessionImage(session);
  for (let offset = 0; offset < opened.sizeBytes; offset += CHUNK_BYTES) {
    const out = new Uint8Array(Math.min(CHUNK_BYTES, opened.sizeBytes - offset));
    const status = await exitOf(() => opened.read(out, offset));
    if (status !== undefined) failed.push({ offset, length: out.length });
    else if (Buffer.compare(out, readPart(image, offset, out.length)) !== 0) t.fail(`wrong bytes at ${offset}`);
  }
  return mergeRanges(failed);
}

/** A sync on top of the damage refuses, or makes a session that never gives wrong bytes. */
async function verifyNextSync(t: ExecutionContext, scene: Scene, name: VolumeName, pool: BandPool): Promise<void> {
  let session = '';
  const location = scene.template.next[name];
  const status = await exitOf(async () => {
    session = (await syncVolume(scene.repository, { name, location }, { pool })).session ?? '';
  });
  if (status !== undefined) {
    t.true(status === 13 || status === 1, 'a sync that cannot go on from the damage says so');
    return;
  }
  const opened = await (await scene.repository.volume(name)).openSession(session);
  const target = scene.at('next.img');
  const { damaged } = await restoreSession({ session: opened, target, pool, isKeepGoing: true });
  t.is(firstWrongByte(target, location, damaged), undefined, 'the next session is right where it can be read');
}
