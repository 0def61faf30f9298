/** Ctrl-C, and sources that change while they are read: no half session, the right status, and a word on what was kept. */
import { readdirSync, statSync, truncateSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { restoreSession } from '../../src/restore.ts';
import { fill } from '../support/bytes.ts';
import { type Lab, lab } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';
import { type Ended, incomingFiles, signalWhen } from '../support/processes.ts';
import { sh } from '../support/workspace.ts';

const MIB = 1_048_576;
const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** An image that takes a while: `bands` bands of 2 MiB that do not compress. */
function makeLongImage(image: string, bands: number, label: string): void {
  const noise = fill(label, 2 * MIB + bands);
  writeParts(
    image,
    bands * 2 * MIB,
    Array.from({ length: bands }, (_, i) => ({ at: i * 2 * MIB, bytes: noise.subarray(i, i + 2 * MIB) })),
  );
}

/** Whether some band of an unfinished session is written. */
function isUnderWay(at: Lab): () => boolean {
  return () => incomingFiles(at.repo).some((name) => name.includes('/bands/'));
}

/** Repeats a race until the process was hit before its end; a machine may be too fast once. */
async function untilHit(t: ExecutionContext, race: () => Promise<Ended>): Promise<Ended> {
  for (let round = 0; round < 20; round++) {
    const end = await race();
    if (end.status !== 0) return end;
  }
  t.fail('no round hit the process before its end');
  throw new Error('not hit');
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test.serial(`${signal} during a sync: status 130, nothing half made, and it says that earlier sessions are as they were`, async (t) => {
    const at = await lab(t, pool);
    const image = at.at('disk.img');
    makeLongImage(image, 96, 'first');
    await at.ok('sync', `disk=${image}`);
    const { status, stderr } = await untilHit(t, async () => {
      makeLongImage(image, 96, `round ${performance.now()}`);
      return await signalWhen(at.start('sync', 'disk'), signal, isUnderWay(at));
    });
    t.is(status, 130);
    t.regex(stderr, /no session was made.*earlier session.*\d+ band file\(s\) that are ready are kept/);
    t.deepEqual(readdirSync(`${at.repo}/locks`), []);
    t.is((await at.cli('check', '--data')).status, 0);
    const [result] = JSON.parse(await at.ok('sync', 'disk', '--json')).results;
    t.true(result.resumedBands > 0, 'the next sync goes on from there');
    t.deepEqual(incomingFiles(at.repo), []);
  });
}

test.serial('Ctrl-C during the first sync of a volume leaves a volume without sessions, which the next sync completes', async (t) => {
  const at = await lab(t, pool);
  makeLongImage(at.at('disk.img'), 96, 'first');
  const { status } = await untilHit(t, async () => {
    for (const name of readdirSync(`${at.repo}/volumes`)) sh('rm', '-r', `${at.repo}/volumes/${name}`);
    return await signalWhen(at.start('sync', `disk=${at.at('disk.img')}`), 'SIGINT', isUnderWay(at));
  });
  t.is(status, 130);
  t.deepEqual(readdirSync(`${at.repo}/locks`), []);
  t.deepEqual(await (await at.repository.volume('disk')).sessionIds(), []);
  t.is((await at.cli('check', '--data')).status, 0);
  t.is((await at.sync('disk', at.at('disk.img'), { bandBytes: undefined })).status, 'created');
  await restoreSession({ session: await at.session('disk'), target: at.at('restored.img'), pool });
  t.is(firstWrongByte(at.at('restored.img'), at.at('disk.img')), undefined);
});

test.serial('Ctrl-C during a restore: status 130, no file, and it says so', async (t) => {
  const at = await lab(t, pool);
  makeLongImage(at.at('disk.img'), 96, 'first');
  await at.sync('disk', at.at('disk.img'));
  const target = `${at.folder('out')}/restored.img`;
  const { status, stderr } = await untilHit(t, async () => {
    sh('rm', '-f', target);
    return await signalWhen(at.start('restore', 'disk', target), 'SIGINT', () => readdirSync(at.at('out')).length > 0);
  });
  t.is(status, 130);
  t.regex(stderr, /nothing was kept of the new file/);
  t.deepEqual(readdirSync(at.at('out')), []);
});

test.serial('Ctrl-C during check --data: status 130', async (t) => {
  const at = await lab(t, pool);
  makeLongImage(at.at('disk.img'), 96, 'first');
  await at.sync('disk', at.at('disk.img'));
  let afterMs = 400;
  const { status } = await untilHit(t, async () => {
    const start = performance.now();
    afterMs = afterMs * 0.9;
    return await signalWhen(at.start('check', '--data'), 'SIGINT', () => performance.now() - start > afterMs);
  });
  t.true(status === 130 || status === null, 'null: the signal came before the program had begun');
});

test.serial('a reader of restore - that goes away ends the restore without a stack trace', async (t) => {
  const at = await lab(t, pool);
  makeLongImage(at.at('disk.img'), 16, 'first');
  await at.sync('disk', at.at('disk.img'));
  const { stderr } = await at.shell('timeband restore disk - | head -c 1000 > part');
  t.is(statSync(at.at('part')).size, 1000);
  t.notRegex(stderr, /^\s+at /m);
});

for (const { title, change } of [
  { title: 'is cut', change: (image: string) => truncateSync(image, 2 * MIB) },
  { title: 'grows', change: (image: string) => truncateSync(image, 1000 * MIB) },
  { title: 'loses a hole at its end', change: (image: string) => truncateSync(image, 192 * MIB) },
]) {
  test.serial(`a source that ${title} while it is read ends sync with status 1 and SOURCE_CHANGED, and no session is made`, async (t) => {
    const at = await lab(t, pool);
    const image = at.at('disk.img');
    makeLongImage(image, 96, 'first');
    truncateSync(image, 300 * MIB);
    await at.sync('disk', image);
    const { status, stdout } = await untilHit(t, async () => {
      makeLongImage(image, 96, `round ${performance.now()}`);
      truncateSync(image, 300 * MIB);
      const child = at.start('sync', 'disk', '--json');
      const end = signalWhen(child, 'SIGCONT', isUnderWay(at));
      while (child.exitCode === null && !isUnderWay(at)()) await sleep(1);
      change(image);
      return await end;
    });
    t.is(status, 1);
    t.is(JSON.parse(stdout).error.code, 'SOURCE_CHANGED');
    t.is((await at.cli('sync', 'disk')).status, 0, 'at rest again, it can be synced');
    t.deepEqual(incomingFiles(at.repo), []);
    await restoreSession({ session: await at.session('disk'), target: at.at('restored.img'), pool });
    t.is(firstWrongByte(at.at('restored.img'), image), undefined);
  });
}

test.serial('a source that is written to while it is read makes a session with a warning', async (t) => {
  const at = await lab(t, pool);
  const image = at.at('disk.img');
  makeLongImage(image, 8, 'first');
  let isWritten = false;
  const onProgress = (): void => {
    if (!isWritten) writeParts(image, 16 * MIB, [{ at: 0, bytes: fill('written', 512) }]);
    isWritten = true;
  };
  const result = await at.sync('disk', image, { onProgress });
  t.is(result.status, 'created');
  t.is(result.warnings.length, 1);
});
