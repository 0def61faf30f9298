/** Checks of a part, checks that run out of time, and what a check writes into the labels. */
import { lstatSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Labels } from '../../../bands/format/labels.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { type CheckOptions, checkRepository } from '../../../src/check/check.ts';
import type { CheckResult } from '../../../src/check/findings.ts';
import { deleteSessions } from '../../../src/deletion/delete-sessions.ts';
import { currentProcess } from '../../../src/host.ts';
import { changeLabels } from '../../../src/labels.ts';
import { fill, flipBit } from '../../support/bytes.ts';
import { BAND_256K, codeOf, type Lab, lab } from '../../support/library.ts';
import { writeParts } from '../../support/parts.ts';
import { sh } from '../../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

const BANDS = 12;
/** Each session after the first has one band file of its own. */
const FILES = BANDS + 2;

interface Scene extends Lab {
  /** Sessions of the volume "disk", oldest first. */
  readonly ids: readonly string[];
  check(options?: Partial<CheckOptions>): Promise<CheckResult>;
  verified(name?: string): Promise<Labels['verified'][]>;
}

async function ready(t: ExecutionContext): Promise<Scene> {
  const at = await lab(t, pool);
  writeFileSync(at.at('disk.img'), fill('disk', BANDS * BAND_256K));
  for (const i of [0, 1, 2]) {
    writeParts(at.at('disk.img'), BANDS * BAND_256K, [{ at: 0, bytes: fill(`change ${i}`, 512) }]);
    await at.sync('disk', at.at('disk.img'));
  }
  const volume = await at.repository.volume('disk');
  return {
    ...at,
    ids: await volume.sessionIds(),
    check: async (options = {}) => await checkRepository(at.repository, { pool, ...options }),
    async verified(name = 'disk') {
      const one = await at.repository.volume(name);
      return await Promise.all((await one.sessionIds()).map(async (id) => (await one.readLabels(id)).verified));
    },
  };
}

/** Turns a bit of a file that other sessions may share. */
function damage(file: string): void {
  const bytes = readFileSync(file);
  writeFileSync(file, flipBit(bytes, bytes.length * 4));
}

test('a check that finds a session whole writes that into its labels, and leaves the others of them alone', async (t) => {
  const at = await ready(t);
  const volume = await at.repository.volume('disk');
  const labelled = { volume, sessionId: at.ids[1] ?? '' };
  await changeLabels(at.repository, labelled, (labels) => ({ ...labels, tags: ['kept'], note: 'why', isProtected: true }));
  for (const withData of [true, false]) {
    const before = Date.now();
    const result = await at.check({ withData });
    t.deepEqual(
      result.verified,
      at.ids.map((session) => ({ volume: 'disk', session })),
    );
    t.like(result, { sessions: 3, plannedSessions: 3, finishedSessions: 3, bandFiles: FILES, skippedFiles: 0, isOutOfTime: false, warnings: [] });
    for (const one of await at.verified()) t.true(one?.withData === withData && one.atMs >= before && one.atMs <= Date.now());
  }
  t.like(await volume.readLabels(labelled.sessionId), { tags: ['kept'], note: 'why', isProtected: true });
});

test('a check of one session, and one of the newest, write into the labels of what they looked at', async (t) => {
  const at = await ready(t);
  t.like(await at.check({ volume: 'disk', session: 'latest~1' }), { sessions: 1, bandFiles: BANDS });
  t.deepEqual(
    (await at.verified()).map((one) => one !== undefined),
    [false, true, false],
  );
  await at.sync('other', at.at('disk.img'));
  t.like(await at.check({ isNewestOnly: true, withData: true }), { sessions: 2, plannedSessions: 2, bandFiles: 2 * BANDS });
  t.deepEqual(
    (await at.verified()).map((one) => one?.withData),
    [undefined, false, true],
  );
  t.is((await at.verified('other')).length, 1);
});

test('a damaged session is not called whole; sound ones beside it are', async (t) => {
  const at = await ready(t);
  const newest = await at.session('disk');
  damage(newest.bandPaths(0, 1)[0] ?? '');
  const result = await at.check();
  t.is(result.findings.length, 1);
  t.deepEqual(
    (await at.verified()).map((one) => one !== undefined),
    [true, true, false],
  );
  t.like(await at.check({ isNewestOnly: true }), { sessions: 1, verified: [] });
  rmSync(path.join(newest.directory, 'bitmap'));
  t.is((await at.check()).verified.length, 2);
});

test('seven parts are all band files: damage is found by exactly one of them, and none calls a session whole', async (t) => {
  const at = await ready(t);
  damage((await at.session('disk')).bandPaths(5, 1)[0] ?? '');
  let [files, finders] = [0, 0];
  for (let part = 1; part <= 7; part++) {
    const result = await at.check({ subset: { kind: 'part', part, parts: 7 } });
    t.is(result.bandFiles + result.skippedFiles, FILES);
    t.is(result.finishedSessions, 3);
    files += result.bandFiles;
    finders += result.findings.length / 3; // all three sessions share it
  }
  t.is(files, FILES);
  t.is(finders, 1);
  const random = await at.check({ subset: { kind: 'random', share: 0.5 } });
  t.is(random.bandFiles + random.skippedFiles, FILES);
  t.deepEqual(await at.verified(), [undefined, undefined, undefined]);
});

test('records are checked in every subset', async (t) => {
  const at = await ready(t);
  rmSync((await at.session('disk')).pagePath(0));
  t.is((await at.check({ subset: { kind: 'random', share: 1e-9 } })).findings.length, 1);
});

test('sessions that are deleted while a check runs are no damage', async (t) => {
  const at = await ready(t);
  const volume = await at.repository.volume('disk');
  let deletion: Promise<string | undefined> | undefined;
  const onProgress = (): void => {
    deletion ??= codeOf(() => deleteSessions(at.repository, volume, [at.ids[1] ?? ''], { command: 'delete' }));
  };
  const { findings, sessions } = await at.check({ onProgress });
  const refused = await deletion; // LOCKED if the check came to that session first
  t.deepEqual(findings, []);
  t.true(sessions >= 2);
  t.is((await volume.sessionIds()).length, refused === 'LOCKED' ? 3 : 2);
});

test.serial('a check that runs out of time stops, says how far it came, and goes on with the others next time', async (t) => {
  const at = await ready(t);
  const real = performance.now.bind(performance);
  let skewMs = 0;
  performance.now = () => real() + skewMs;
  const run = async (stopAt: number): Promise<CheckResult> => {
    const onProgress = ({ doneBands }: { readonly doneBands: number }): void => {
      if (doneBands >= stopAt) skewMs += 3_600_000;
    };
    return await at.check({ maxDurationMs: 3_600_000, onProgress });
  };
  try {
    const cut = await run(1);
    t.like(cut, { isOutOfTime: true, sessions: 1, finishedSessions: 0, plannedSessions: 3, verified: [], findings: [] });
    t.true(cut.bandFiles < BANDS);
    for (const session of [at.ids[2], at.ids[1], at.ids[0], at.ids[2]]) {
      const result = await run(BANDS);
      t.like(result, { isOutOfTime: true, sessions: 1, finishedSessions: 1, plannedSessions: 3, findings: [] });
      t.deepEqual(result.verified, [{ volume: 'disk', session: session ?? '' }]);
    }
    t.like(await run(Number.POSITIVE_INFINITY), { isOutOfTime: false, sessions: 3, finishedSessions: 3 });
  } finally {
    performance.now = real;
  }
});

test('a repository that cannot be written to is checked all the same, and nothing is written', async (t) => {
  const at = await ready(t);
  const { directory } = await at.session('disk');
  const before = lstatSync(directory).mtimeMs;
  sh('mount', '--bind', at.repo, at.folder('view'));
  sh('mount', '-o', 'remount,bind,ro', at.at('view'));
  const { status, stdout, stderr } = await at.cli('check', '--repo', at.at('view'), '--data', '--json', '--quiet');
  t.deepEqual([status, stderr], [0, '']);
  t.like(JSON.parse(stdout), { sessions: 3, verified: [], warnings: [], findings: [] });
  t.is(lstatSync(directory).mtimeMs, before);
  t.deepEqual(await at.verified(), [undefined, undefined, undefined]);
});

test('labels that cannot be changed for another reason are a warning, no damage', async (t) => {
  const at = await ready(t);
  const volume = await at.repository.volume('disk');
  const holder = { ...currentProcess(), host: 'elsewhere/0', command: 'label', since: '2026-11-21T10:00:00.000Z' };
  writeFileSync(path.join(at.repo, 'locks', `labels-${volume.id}.0.json`), JSON.stringify(holder));
  const result = await at.check();
  t.deepEqual([result.findings, result.verified], [[], []]);
  t.is(result.warnings.length, 1, 'one for the volume');
});

test('the command says what part it looked at, and how far it came; sessions shows when a session was verified', async (t) => {
  const at = await ready(t);
  t.regex(await at.ok('check', '--subset', '3/7'), /\d+ of 14 band file\(s\).*subset 3\/7/);
  t.regex(await at.ok('check', '--newest', '--subset', '20%'), /\d+ of 12 band file\(s\).*newest sessions, subset 20%/);
  t.regex(await at.ok('check', '--max-duration', '1h30m'), /^No damage found: 3 session/);
  const day = /\d{4}-\d\d-\d\d structure/;
  t.is((await at.ok('sessions', 'disk')).split('\n').filter((line) => day.test(line)).length, 3);
  t.regex(await at.ok('check', 'disk@latest', '--data'), /No damage found/);
  t.regex(await at.ok('sessions', 'disk'), / \d{4}-\d\d-\d\d data/);
  t.regex(await at.ok('show', 'disk@latest'), /verified \d{4}-\d\d-\d\d \d\d:\d\d:\d\d data/);
});
