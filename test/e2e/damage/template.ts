/** A repository that is made once and copied for every case of damage, with an image file of each of its sessions. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { BandPool } from '../../../bands/workers/band-pool.ts';
import { Repository } from '../../../src/repository.ts';
import { syncVolume } from '../../../src/sync/sync.ts';
import { fill } from '../../support/bytes.ts';
import { BAND_256K, makeFastRepository } from '../../support/library.ts';
import { type Part, writeParts } from '../../support/parts.ts';
import { PASSPHRASE, sh } from '../../support/workspace.ts';

export const BAND: number = BAND_256K;
/** Six bands and a part of a seventh. */
const SMALL_BYTES = 6 * BAND + 100 * 512;
/** Two index pages: 512 bands and two, the last one in part. */
const PAGED_BYTES = 513 * BAND + 100 * 512;

export interface TemplateSession {
  readonly id: string;
  /** What the session must give back. */
  readonly image: string;
}

export interface Template {
  readonly root: string;
  readonly repo: string;
  /** By volume, oldest session first: `small` and `paged` have three, `other` two. */
  readonly sessions: Readonly<Record<VolumeName, readonly TemplateSession[]>>;
  /** An image for one more session. */
  readonly next: Readonly<Record<VolumeName, string>>;
  remove(): void;
}

export type VolumeName = 'small' | 'paged' | 'other';

function band(index: number, label: string, length: number = BAND): Part {
  return { at: index * BAND, bytes: fill(label, length) };
}

function zeroBand(index: number): Part {
  return { at: index * BAND, bytes: new Uint8Array(BAND) };
}

/** What is written before each session. Band 1 never changes, band 0 always does, band 2 becomes zero and data again. */
const SMALL_STEPS: readonly (readonly Part[])[] = [
  [band(0, 'zero'), band(1, 'one'), band(2, 'two'), { at: 4 * BAND, bytes: new Uint8Array(BAND).fill(7) }, band(5, 'five', 70_000)],
  [band(0, 'zero, again'), zeroBand(2), band(3, 'three'), band(6, 'six', 100 * 512)],
  [band(0, 'zero, at last'), band(2, 'two, again')],
  [band(0, 'zero, after the damage')],
];
const PAGED_STEPS: readonly (readonly Part[])[] = [
  [band(0, 'a'), band(300, 'b'), band(512, 'c')],
  [band(0, 'd'), band(513, 'e', 512)],
  [band(0, 'f')],
  [band(300, 'g')],
];
const VOLUMES: Readonly<Record<VolumeName, { sizeBytes: number; steps: readonly (readonly Part[])[]; sessions: number }>> = {
  small: { sizeBytes: SMALL_BYTES, steps: SMALL_STEPS, sessions: 3 },
  paged: { sizeBytes: PAGED_BYTES, steps: PAGED_STEPS, sessions: 3 },
  other: { sizeBytes: SMALL_BYTES, steps: SMALL_STEPS, sessions: 2 },
};

export async function makeTemplate(pool: BandPool): Promise<Template> {
  const root = mkdtempSync(path.join(tmpdir(), 'timeband-test-'));
  const repo = path.join(root, 'repo');
  await makeFastRepository(repo);
  using repository = await Repository.open(repo, { passphrase: PASSPHRASE });
  const sessions: Record<VolumeName, TemplateSession[]> = { small: [], paged: [], other: [] };
  const next: Record<VolumeName, string> = { small: '', paged: '', other: '' };
  for (const name of ['small', 'paged', 'other'] as const) {
    const { sizeBytes, steps, sessions: count } = VOLUMES[name];
    const live = path.join(root, `${name}.img`);
    for (const [i, parts] of steps.slice(0, count + 1).entries()) {
      writeParts(live, sizeBytes, parts);
      const image = path.join(root, `${name}-${i + 1}.img`);
      sh('cp', '--sparse=always', live, image);
      next[name] = image;
      if (i === count) break;
      const options = { name, location: live, bandBytes: BAND, tags: [`t${i + 1}`], note: `session ${i + 1}` };
      const { session = '' } = await syncVolume(repository, options, { pool });
      sessions[name].push({ id: session, image });
    }
  }
  return { root, repo, sessions, next, remove: () => rmSync(root, { recursive: true, force: true }) };
}
