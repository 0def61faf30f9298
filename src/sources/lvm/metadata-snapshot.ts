/**
 * The metadata snapshot of a thin pool, by which thin_delta reads the mappings of a pool in use. A pool has one at most,
 * and it stays, across reboots, too, until it is released. So one process of ours at a time takes it (a lock), and writes
 * down beforehand that it does: after a crash the next one knows whether the snapshot that it finds is ours.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TimebandError } from '../../../bands/errors.ts';
import { utf8 } from '../../../bands/format/bytes.ts';
import { createDirectories, readRegularFile, replaceFile } from '../../../bands/store/files.ts';
import { Lock } from '../../locks.ts';
import { parseThinPoolStatus, type ThinPoolStatus } from './pool-status.ts';
import { runTool } from './tools.ts';

/** Only root writes there. */
const RUNTIME_DIRECTORY = '/run/timeband';
const LOCK_PATIENCE_MS = 600_000;
const LOCK_RETRY_MS = 200;
const MAX_RECORD_BYTES = 4096;

export interface ThinPool {
  /** For messages: GROUP/POOL. */
  readonly name: string;
  readonly uuid: string;
  /** The dm device that takes messages. */
  readonly device: string;
}

/** That a process of ours holds the metadata snapshot, or is about to take it: then its root is not known yet. */
interface HolderRecord {
  readonly root?: number;
}

export async function readPoolStatus(pool: ThinPool): Promise<ThinPoolStatus> {
  return parseThinPoolStatus(await runTool('dmsetup', ['status', '--target', 'thin-pool', '--', pool.device]));
}

/**
 * Runs `use` while the pool's metadata snapshot is there.
 * @param stateDirectory where this machine's records are; undefined: they do not outlive a reboot
 * @throws TimebandError LOCKED, TOOL_FAILED, also when somebody else holds the snapshot
 */
export async function withMetadataSnapshot<T>(pool: ThinPool, stateDirectory: string | undefined, use: () => Promise<T>): Promise<T> {
  await using _lock = await lockPool(pool);
  const directory = path.join(stateDirectory ?? RUNTIME_DIRECTORY, 'lvm');
  await createDirectories(directory);
  const record = path.join(directory, `${pool.uuid}.json`);
  await releaseStale(pool, record);
  await writeRecord(record, {});
  try {
    await message(pool, 'reserve_metadata_snap');
  } catch (error) {
    await rm(record, { force: true });
    throw error;
  }
  try {
    const { heldRoot } = await readPoolStatus(pool);
    if (heldRoot !== undefined) await writeRecord(record, { root: heldRoot });
    return await use();
  } finally {
    await message(pool, 'release_metadata_snap');
    await rm(record, { force: true });
  }
}

async function message(pool: ThinPool, text: string): Promise<void> {
  await runTool('dmsetup', ['message', pool.device, '0', text]);
}

/** Waits: others hold the lock only while thin_delta runs. */
async function lockPool(pool: ThinPool): Promise<Lock> {
  const directory = path.join(RUNTIME_DIRECTORY, 'locks');
  await createDirectories(directory);
  const request = { scope: `lvm-${pool.uuid}`, what: `the metadata of the thin pool ${pool.name}`, command: 'sync' };
  for (const start = performance.now(); ; ) {
    try {
      return await Lock.acquire(directory, request);
    } catch (error) {
      const isHeld = error instanceof TimebandError && error.code === 'LOCKED';
      if (!isHeld || performance.now() - start > LOCK_PATIENCE_MS) throw error;
      await sleep(LOCK_RETRY_MS);
    }
  }
}

/** Releases what a killed process of ours left; called under the lock, so no process of ours holds it rightfully. */
async function releaseStale(pool: ThinPool, recordFile: string): Promise<void> {
  const record = await readRecord(recordFile);
  const { heldRoot } = await readPoolStatus(pool);
  if (heldRoot === undefined) return;
  if (record === undefined || (record.root !== undefined && record.root !== heldRoot)) {
    throw new TimebandError(
      `another program holds the metadata snapshot of the thin pool ${pool.name} (if none runs, release it: dmsetup message ${pool.device} 0 release_metadata_snap)`,
      { code: 'TOOL_FAILED' },
    );
  }
  await message(pool, 'release_metadata_snap');
}

async function writeRecord(file: string, record: HolderRecord): Promise<void> {
  await replaceFile(file, utf8(`${JSON.stringify(record)}\n`));
}

/** A record that cannot be read is none: then the snapshot counts as somebody else's. */
async function readRecord(file: string): Promise<HolderRecord | undefined> {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(await readRegularFile(file, { maxBytes: MAX_RECORD_BYTES, what: 'record' })));
    if (typeof value !== 'object' || value === null) return undefined;
    return 'root' in value ? (typeof value.root === 'number' ? { root: value.root } : undefined) : {};
  } catch (error) {
    if (error instanceof SyntaxError || (error instanceof TimebandError && (error.code === 'RECORD_MISSING' || error.code === 'RECORD_CORRUPT')))
      return undefined;
    throw error;
  }
}
