/** A volume with three sessions, and all that a repair may be asked to do with them. */
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import type { DamagedBand } from '../../../bands/format/damaged-list.ts';
import type { BandPool } from '../../../bands/workers/band-pool.ts';
import { Catalog } from '../../../src/catalog.ts';
import { checkRepository } from '../../../src/check/check.ts';
import type { CheckResult } from '../../../src/check/findings.ts';
import { readDamagedList } from '../../../src/damaged-bands.ts';
import { type RepairOptions, type RepairResult, repairRepository } from '../../../src/repair/repair.ts';
import { Repository } from '../../../src/repository.ts';
import { restoreSession } from '../../../src/restore.ts';
import { fill } from '../../support/bytes.ts';
import { BAND_256K, type Lab, lab } from '../../support/library.ts';
import { firstWrongByte, writeParts } from '../../support/parts.ts';
import { PASSPHRASE, sh } from '../../support/workspace.ts';

/** Band 11 is zeros in all sessions. */
export const BANDS = 12;

export interface RepairScene extends Lab {
  /** Sessions of "disk", oldest first: the second changed bands 0 and 1, the third 1 and 2. */
  readonly ids: readonly string[];
  readonly catalog: Catalog;
  repair(options?: Partial<RepairOptions>): Promise<RepairResult>;
  check(): Promise<CheckResult>;
  list(): Promise<readonly DamagedBand[]>;
  /** Copies the repository, opens the copy. */
  copy(): Promise<Repository>;
  /** Restores every session and compares it with what was backed up. */
  verifyAll(): Promise<void>;
}

export async function repairScene(t: ExecutionContext, pool: BandPool): Promise<RepairScene> {
  const at = await lab(t, pool);
  const catalog = new Catalog(at.at('state'), at.repository.id, (message) => t.log(message));
  const image = at.at('disk.img');
  writeFileSync(image, fill('disk', (BANDS - 1) * BAND_256K));
  const ids: string[] = [];
  for (const changed of [[], [0, 1], [1, 2]]) {
    const parts = changed.map((i) => ({ at: i * BAND_256K + 99, bytes: fill(`${ids.length} ${i}`, 512) }));
    writeParts(image, BANDS * BAND_256K, parts);
    const { session } = await at.sync('disk', image, {}, { catalog });
    ids.push(session ?? '');
    cpSync(image, at.at(`${session}.img`));
  }
  return {
    ...at,
    ids,
    catalog,
    repair: (options = {}) => repairRepository(at.repository, { pool, catalog, withData: true, ...options }),
    check: () => checkRepository(at.repository, { pool, catalog, withData: true }),
    list: async () => await readDamagedList(await at.repository.volume('disk')),
    async copy() {
      sh('cp', '-a', at.repo, at.at('copy'));
      const copy = await Repository.open(at.at('copy'), { passphrase: PASSPHRASE });
      t.teardown(() => copy.close());
      return copy;
    },
    async verifyAll() {
      for (const id of ids) {
        const target = at.at(`${id}.out`);
        await restoreSession({ session: await at.session('disk', id), target, pool, isOverwrite: true });
        t.is(firstWrongByte(target, at.at(`${id}.img`)), undefined, id);
      }
    },
  };
}

/** Every file below a folder with its content; what an untouched repository is compared by. */
export function contents(root: string): Map<string, string> {
  const names = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    names.map((entry) => [path.join(entry.parentPath, entry.name), readFileSync(path.join(entry.parentPath, entry.name)).toString('base64')]),
  );
}
