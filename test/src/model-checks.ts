/** What every session of a volume must fulfil, held against plain arrays of bytes. */
import { lstatSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { type ByteRange, mergeRanges } from '../../bands/format/geometry.ts';
import { createCursor } from '../../bands/store/image.ts';
import type { SessionDirectory } from '../../bands/store/session-directory.ts';
import { SessionImage } from '../../bands/store/session-image.ts';
import type { BandPool } from '../../bands/workers/band-pool.ts';
import { diffSessions } from '../../src/diff.ts';
import { restoreSession } from '../../src/restore.ts';
import type { Volume } from '../../src/volume.ts';
import { isSame, sameBytes } from '../support/bytes.ts';
import { bandsOf } from '../support/model-image.ts';
import { readPart } from '../support/parts.ts';

export interface ModelSession {
  readonly id: string;
  readonly bytes: Uint8Array;
}

const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

/** Numbers of the bands that differ; a band beyond an end is zeros. */
function differingBands(a: Uint8Array, b: Uint8Array, bandBytes: number): number[] {
  const [bandsA, bandsB] = [bandsOf(a, bandBytes), bandsOf(b, bandBytes)];
  const zeros = new Uint8Array(bandBytes);
  const all = Array.from({ length: Math.max(bandsA.length, bandsB.length) }, (_, i) => i);
  return all.filter((i) => !isSame(bandsA[i] ?? zeros, bandsB[i] ?? zeros));
}

/** Reads pieces here and there, and all of it from the start. */
export async function verifyReads(t: ExecutionContext, session: SessionDirectory, model: ModelSession, pool: BandPool): Promise<void> {
  const image = new SessionImage(session, { pool });
  const { length } = model.bytes;
  for (const share of [0, 0.13, 0.34, 0.5, 0.77, 0.999]) {
    const offset = Math.floor(share * length);
    const out = new Uint8Array(Math.min(length - offset, 150_001)).fill(0xaa);
    await image.read(out, offset);
    sameBytes(t, out, model.bytes.subarray(offset, offset + out.length), `read at ${offset}`);
  }
  const cursor = createCursor();
  for (let offset = 0; offset < length; offset += 131_072) {
    const out = new Uint8Array(Math.min(131_072, length - offset)).fill(0xaa);
    await image.read(out, offset, cursor);
    if (!isSame(out, model.bytes.subarray(offset, offset + out.length))) t.fail(`sequential read at ${offset}`);
  }
}

export async function verifyRestores(
  t: ExecutionContext,
  session: SessionDirectory,
  model: ModelSession,
  by: { pool: BandPool; target: string },
): Promise<void> {
  const { pool, target } = by;
  await restoreSession({ session, target, pool });
  sameBytes(t, readPart(target, 0, model.bytes.length + 1), model.bytes, 'restored to a new file');
  writeFileSync(target, new Uint8Array(model.bytes.length + 7777).fill(0xaa));
  await restoreSession({ session, target, pool, isOverwrite: true });
  sameBytes(t, readPart(target, 0, model.bytes.length + 1), model.bytes, 'restored over other bytes');
  rmSync(target);
}

/** Totals, bitmap and files of a session against its bytes and those of its base. */
export async function verifyRecords(
  t: ExecutionContext,
  session: SessionDirectory,
  model: ModelSession,
  base?: { session: SessionDirectory; model: ModelSession },
): Promise<void> {
  const { bandBytes } = session.context;
  const bands = bandsOf(model.bytes, bandBytes);
  const changed = differingBands(base?.model.bytes ?? new Uint8Array(0), model.bytes, bandBytes).filter((i) => i < bands.length);
  t.deepEqual([...(await session.readBitmap())], changed, 'the bitmap is the bands that differ from the base');
  const folder = `${session.directory}/bands`;
  const sizes = readdirSync(folder).map((name) => lstatSync(`${folder}/${name}`).size);
  const { totals } = session.manifest;
  t.is(totals.bands, bands.length);
  t.is(totals.zeroBands, bands.filter(isZero).length);
  t.is(totals.changedBands, changed.length);
  t.is(sizes.length, totals.bands - totals.zeroBands, 'each band that is not zero has a file, no other has');
  t.is(
    totals.storedBytes,
    sizes.reduce((sum, size) => sum + size, 0),
  );
  let written = 0;
  for (const [i, band] of bands.entries()) {
    if (isZero(band)) continue;
    const stat = lstatSync(session.bandPaths(i, 1)[0] ?? '');
    const before = base === undefined ? undefined : lstatSync(base.session.bandPaths(i, 1)[0] ?? '', { throwIfNoEntry: false });
    if (stat.ino !== before?.ino) written += stat.size;
    t.is(stat.ino === before?.ino, !changed.includes(i), `band ${i} is a link exactly if it did not change`);
    t.is(stat.mode & 0o777, 0o600);
  }
  t.is(totals.writtenBytes, written);
}

/** Whether diff finds the bands that differ, and no others, both ways. */
export async function verifyDiff(t: ExecutionContext, volume: Volume, a: ModelSession, b: ModelSession): Promise<void> {
  const { bandBytes } = volume.context;
  const end = Math.max(a.bytes.length, b.bytes.length);
  const ranges: ByteRange[] = differingBands(a.bytes, b.bytes, bandBytes).map((i) => ({
    offset: i * bandBytes,
    length: Math.min(bandBytes, end - i * bandBytes),
  }));
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    const diff = await diffSessions(volume, from.id, to.id);
    t.deepEqual(diff.ranges, mergeRanges(ranges), `diff of ${from.id} and ${to.id}`);
    t.is(
      diff.differentBytes,
      ranges.reduce((sum, { length }) => sum + length, 0),
    );
  }
}
