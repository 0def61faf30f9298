/**
 * The snapshots that are kept of a zvol: POOL/VOL@timeband-XXXX. User properties say whose they are: `timeband:owner` is
 * REPOSITORY.VOLUME, `timeband:session` the session that a snapshot is bound to, `timeband:process` who took it. Only properties that were set on the
 * snapshot itself count: what a snapshot inherits, or received from elsewhere, says nothing of it. Nothing else is ever
 * destroyed.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../../bands/errors.ts';
import { currentProcess, type ProcessIdentity, stateOf } from '../../host.ts';
import type { SessionToken, SourceOwner } from '../source.ts';
import { getProperties, zfs } from './zfs-commands.ts';

const OWNER = 'timeband:owner';
const SESSION = 'timeband:session';
const PROCESS = 'timeband:process';
const PREFIX = 'timeband-';
const DESTROY_ATTEMPTS = 5;
/** udev looks into new devices for a moment, which keeps them busy. */
const DESTROY_RETRY_MS = 200;

export interface ZvolSnapshot {
  /** POOL/VOL@NAME. */
  readonly name: string;
  readonly guid: bigint;
  /** The pool's transaction that made it: newer snapshots have larger ones. */
  readonly createTxg: bigint;
  /** Commit id; undefined: bound to no session. */
  readonly session: string | undefined;
  /** Bound to none, and a process that runs took it: a dry run, which holds no lock, reads it. */
  readonly isInUse: boolean;
}

function ownerText(owner: SourceOwner | undefined): string {
  return owner === undefined ? 'none' : `${owner.repositoryId}.${owner.volumeId}`;
}

/** Takes a snapshot that belongs to `owner`. @returns its name */
export async function takeSnapshot(volume: string, owner: SourceOwner | undefined): Promise<string> {
  const name = `${volume}@${PREFIX}${randomBytes(8).toString('hex')}`;
  await zfs('snapshot', '-o', `${OWNER}=${ownerText(owner)}`, '-o', `${PROCESS}=${JSON.stringify(currentProcess())}`, name);
  return name;
}

/** The snapshots of `owner`, oldest first. */
export async function snapshotsOf(volume: string, owner: SourceOwner): Promise<ZvolSnapshot[]> {
  const rows = await getProperties([OWNER, SESSION, PROCESS, 'guid', 'createtxg'], '-d', '1', '-t', 'snapshot', volume);
  const byName = new Map<string, Map<string, string>>();
  for (const { name, property, value, source } of rows) {
    if (property.startsWith('timeband:') && source !== 'local') continue;
    const values = byName.get(name) ?? new Map<string, string>();
    byName.set(name, values.set(property, value));
  }
  return [...byName]
    .filter(([name, values]) => name.startsWith(`${volume}@${PREFIX}`) && values.get(OWNER) === ownerText(owner))
    .map(([name, values]) => ({
      name,
      guid: BigInt(values.get('guid') ?? 0),
      createTxg: BigInt(values.get('createtxg') ?? 0),
      session: values.get(SESSION),
      isInUse: !values.has(SESSION) && isRunning(values.get(PROCESS)),
    }))
    .sort((a, b) => (a.createTxg < b.createTxg ? -1 : 1));
}

/** Whether the process that a property describes still runs. */
function isRunning(text: string | undefined): boolean {
  try {
    const identity: ProcessIdentity = JSON.parse(text ?? '');
    return stateOf(identity) === 'running';
  } catch {
    return false; // none is named
  }
}

export async function bindSnapshot(name: string, { commitId }: SessionToken): Promise<void> {
  await zfs('set', `${SESSION}=${commitId}`, name);
}

export async function destroySnapshot(name: string): Promise<void> {
  if (!name.includes(`@${PREFIX}`)) throw new RangeError('name: of no snapshot of ours');
  for (let attempt = 1; ; attempt++) {
    try {
      await zfs('destroy', name);
      return;
    } catch (error) {
      if (attempt >= DESTROY_ATTEMPTS || !/busy/.test(messageOf(error))) throw error;
      await sleep(DESTROY_RETRY_MS);
    }
  }
}
