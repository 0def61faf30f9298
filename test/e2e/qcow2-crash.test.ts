/** kill -9 at many moments of a sync from a qcow2 image: the next one is right, and nothing is left in the image or running. */
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { checkRepository } from '../../src/check/check.ts';
import { restoreSession } from '../../src/restore.ts';
import { sameBytes } from '../support/bytes.ts';
import { lab } from '../support/library.ts';
import { readPart } from '../support/parts.ts';
import { incomingFiles, signalWhen } from '../support/processes.ts';
import { bitmapsOf, diskOf, exporterFolders, makeQcow2, processesNaming, qemuIo } from '../support/qemu.ts';

const MIB = 1_048_576;
const DISK_BYTES = 96 * MIB;
const ROUNDS = 12;
const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

test.serial('after kill -9 at any moment of a sync the next one is right, and leaves no exporter and one bitmap', async (t) => {
  const at = await lab(t, pool);
  const [image, temporary] = [at.at('disk.qcow2'), at.folder('tmp')];
  at.env['TMPDIR'] = temporary; // before the program is started: where exporters have their sockets
  makeQcow2(image, DISK_BYTES);
  qemuIo(image, `write -P 255 0 ${70 * MIB}`);
  const hasExporter = (): boolean => processesNaming(`${temporary}/timeband-nbd-`).length > 0;
  const seen = { kills: 0, exporters: 0, bitmaps: 0, commits: 0, known: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    qemuIo(
      image,
      `write -P ${round + 1} ${(round * 11) % 60}M 3M`,
      `write -P ${round + 1} ${round * 3_000_017} 10`,
      `discard ${(round * 5) % 80}M 1M`,
    );
    const before = (await (await at.repository.findVolume('disk'))?.sessionIds())?.length ?? 0;
    const start = performance.now();
    const moments = [
      () => hasExporter(),
      () => performance.now() - start > 300 + round * 45,
      () => incomingFiles(at.repo).some((name) => name.includes('/bands/')),
      () => incomingFiles(at.repo).some((name) => name.includes('/manifest')),
    ];
    const { signal } = await signalWhen(at.start('sync', `disk=${image}`, '--band-size', '256K'), 'SIGKILL', moments[round % 4] ?? hasExporter);
    if (signal === 'SIGKILL') seen.kills++;
    if (hasExporter()) seen.exporters++;
    for (let waited = 0; hasExporter() && waited < 2000; waited += 10) await sleep(10);
    t.false(hasExporter(), `round ${round}: the exporter ended with the program`);
    for (let waited = 0; processesNaming(image).length > 0 && waited < 5000; waited += 10) await sleep(10); // qemu-img ends what it began
    if (bitmapsOf(image).length > 1) seen.bitmaps++;
    const ids = (await (await at.repository.findVolume('disk'))?.sessionIds()) ?? [];
    if (ids.length > before) seen.commits++;

    const result = await at.json('sync', `disk=${image}`, '--band-size', '256K');
    t.is(result.results?.[0]?.missedBands, 0, `round ${round}: ${JSON.stringify(result)}`);
    if (result.results[0].warnings.length === 0) seen.known++;
    t.is(bitmapsOf(image).length, 1, `round ${round}`);
    t.deepEqual([processesNaming(image), exporterFolders(temporary)], [[], []]);
    const target = at.at('restored.img');
    await restoreSession({ session: await at.session('disk'), target, pool });
    sameBytes(t, readPart(target, 0, DISK_BYTES + 1), diskOf(image, at.at('raw')), `round ${round}`);
    rmSync(target);
  }
  t.true(seen.kills >= ROUNDS / 2 && seen.bitmaps >= 2 && seen.known >= ROUNDS - 2, JSON.stringify(seen));
  t.log(JSON.stringify(seen));
  t.deepEqual((await checkRepository(at.repository, { pool, withData: true })).findings, []);
});
