/** Random writes, zeros, discards and resizes through QEMU: what a sync by bitmap makes of them, against QEMU's own reading. */
import test from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { checkRepository } from '../../../src/check/check.ts';
import { restoreSession } from '../../../src/restore.ts';
import { sameBytes } from '../../support/bytes.ts';
import { lab } from '../../support/library.ts';
import { readPart } from '../../support/parts.ts';
import { bitmapsOf, diskOf, makeQcow2, processesNaming, qemuIo } from '../../support/qemu.ts';
import { sh } from '../../support/workspace.ts';

const MIB = 1_048_576;
const MAX_BYTES = 96 * MIB;
const ROUNDS = 12;
const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** Numbers that look random and come again for the same seed (mulberry32). */
function randoms(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** A command of qemu-io that changes a disk of `sizeBytes`. */
function randomCommand(random: (below: number) => number, sizeBytes: number): string {
  const length = [10, 512, 4096, 65_536, 300_000, 3 * MIB][random(6)] ?? 1;
  const at = random(sizeBytes - length);
  const kind = ['write', 'write', 'write', 'write -z', 'write -z -u', 'discard'][random(6)] ?? 'write';
  return `${kind}${kind === 'write' ? ` -P ${1 + random(250)}` : ''} ${at} ${length}`;
}

for (const [clusterBytes, seed, options] of [
  [65_536, 1, []],
  [4096, 2, []],
  [2 * MIB, 3, []],
  [65_536, 4, ['extended_l2=on']],
  [65_536, 5, ['preallocation=falloc']],
] as const) {
  test.serial(`every session of a qcow2 disk in use is right: clusters of ${clusterBytes} bytes ${options.join()}`, async (t) => {
    const at = await lab(t, pool);
    const image = at.at('disk.qcow2');
    const environment = { stateDirectory: at.at('state') };
    const random = randoms(seed);
    let sizeBytes = 64 * MIB;
    makeQcow2(image, sizeBytes, '-o', [`cluster_size=${clusterBytes}`, ...options].join());
    qemuIo(image, `write -P 77 0 ${20 * MIB}`, `write -P 78 ${40 * MIB} ${20 * MIB}`);
    const sessions: { id: string; disk: Uint8Array }[] = [];
    let known = 0;
    for (let round = 0; round < ROUNDS; round++) {
      if (round % 3 === 2) {
        // smaller, and at once larger again: what was cut off is zeros now, and QEMU calls it clean
        const cut = 512 * (1 + random(sizeBytes / 512 - 1));
        sh('qemu-img', 'resize', '-q', '--shrink', image, String(cut));
        if (random(3) === 0 && cut > 4 * MIB) qemuIo(image, randomCommand(random, cut));
        sizeBytes = random(2) === 0 ? sizeBytes : Math.max(cut, 8 * MIB, 512 * random(MAX_BYTES / 512));
        sh('qemu-img', 'resize', '-q', ...(round === 5 ? ['--preallocation=full'] : []), image, String(sizeBytes));
      }
      if (round % 4 !== 3) qemuIo(image, ...Array.from({ length: 1 + random(5) }, () => randomCommand(random, sizeBytes)));
      const result = await at.sync('disk', round === 0 ? image : undefined, {}, environment);
      const [warning = '', ...more] = result.warnings;
      t.deepEqual(more, []);
      if (warning !== '') t.true(round % 3 === 2 && warning.includes('the disk was made smaller'), `round ${round}: ${warning}`);
      if (warning === '') known++;
      t.is(result.missedBands, 0);
      t.is(result.sizeBytes, sizeBytes);
      t.is(bitmapsOf(image).length, 1, 'one bitmap stays');
      const disk = diskOf(image, at.at('raw'));
      if (result.status === 'unchanged') sameBytes(t, disk, sessions.at(-1)?.disk ?? new Uint8Array(0), 'nothing changed');
      else sessions.push({ id: result.session ?? '', disk });
    }
    t.true(known >= (ROUNDS * 2) / 3);
    for (const { id, disk } of sessions) {
      const target = at.at(`${id}.img`);
      await restoreSession({ session: await at.session('disk', id), target, pool });
      sameBytes(t, readPart(target, 0, disk.length + 1), disk, id);
    }
    t.deepEqual((await checkRepository(at.repository, { pool, withData: true })).findings, []);
    t.deepEqual(processesNaming(image), []);
  });
}
