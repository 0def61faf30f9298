/** Two repositories beside each other, and what a copy must have kept. */
import { lstatSync } from 'node:fs';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { ENTRIES_PER_PAGE } from '../../bands/format/geometry.ts';
import { entryCount, isZeroEntry } from '../../bands/format/index-page.ts';
import type { CipherName } from '../../bands/format/primitives.ts';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import { checkRepository } from '../../src/check/check.ts';
import { diffSessions } from '../../src/diff.ts';
import { Repository } from '../../src/repository.ts';
import type { Volume } from '../../src/volume.ts';
import { FAST_SCRYPT, type Lab } from './library.ts';
import { PASSPHRASE } from './workspace.ts';

export interface SecondSpec {
  readonly name?: string;
  /** Take over the keys of the lab's repository. */
  readonly hasSameKeys: boolean;
  readonly cipher?: CipherName;
  readonly passphrase?: string;
}

/** Makes a second repository in a lab and opens it. */
export async function secondRepository(t: ExecutionContext, at: Lab, { name = 'second', hasSameKeys, ...rest }: SecondSpec): Promise<Repository> {
  const passphrase = rest.passphrase ?? PASSPHRASE;
  const root = at.at(name);
  await Repository.init(root, { passphrase, scrypt: FAST_SCRYPT, cipher: rest.cipher, sameKeysAs: hasSameKeys ? at.repository : undefined });
  const repository = await Repository.open(root, { passphrase });
  t.teardown(() => repository.close());
  return repository;
}

/** Which band files of a volume are one and the same: for each session and band, the first place where that file stands. */
export async function sharingOf(volume: Volume): Promise<string[]> {
  const firstPlace = new Map<bigint, string>();
  const lines: string[] = [];
  for (const id of await volume.sessionIds()) {
    const session = await volume.openSession(id);
    for (let page = 0; page < session.pageCount; page++) {
      const entries = await session.readPageFile(page);
      const files = session.bandPaths(page * ENTRIES_PER_PAGE, entryCount(entries));
      for (const [i, file] of files.entries()) {
        if (isZeroEntry(entries, i)) continue;
        const { ino } = lstatSync(file, { bigint: true });
        const place = `${id} ${page * ENTRIES_PER_PAGE + i}`;
        if (!firstPlace.has(ino)) firstPlace.set(ino, place);
        lines.push(`${place}: ${firstPlace.get(ino)}`);
      }
    }
  }
  return lines;
}

/** How many band files a volume has, each counted once. */
export async function countFiles(volume: Volume): Promise<number> {
  return new Set((await sharingOf(volume)).map((line) => line.slice(line.indexOf(': ')))).size;
}

/** What differs between each session and the next. */
export async function diffsOf(volume: Volume): Promise<unknown[]> {
  const ids = await volume.sessionIds();
  const diffs: unknown[] = [];
  for (const [i, id] of ids.slice(1).entries()) diffs.push((await diffSessions(volume, ids[i] ?? '', id)).ranges);
  return diffs;
}

/** `check --data` finds nothing. */
export async function isClean(t: ExecutionContext, repository: Repository, pool: BandPool): Promise<void> {
  const { findings } = await checkRepository(repository, { pool, withData: true });
  t.deepEqual(
    findings.map(({ message }) => message),
    [],
    path.basename(repository.layout.root),
  );
}
