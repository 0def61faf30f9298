/**
 * Every command that writes, on a file system in which one operation after the other fails. What is tried here is a part,
 * another one each time; `node dist/test/e2e/faults/main.js` tries all of it.
 */
import { readdirSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { FAULT_NAMES, type FaultName } from '../support/faulty-fs/fault-plan.ts';
import { workspace } from '../support/workspace.ts';
import { FAULT_COMMANDS, type FaultCommand } from './faults/commands.ts';
import { FaultLab } from './faults/lab.ts';
import type { Scene } from './faults/scene.ts';
import { describeTally, NEVER } from './faults/series.ts';

const SEED = Number(process.env['TIMEBAND_FAULTS_SEED'] ?? Math.floor(Math.random() * 1e6));
/** These are tried at every operation that changes anything. */
const EVERY: ReadonlySet<string> = new Set(['sync', 'delete', 'tag, note, protect', 'rename']);
const THOROUGH: ReadonlySet<FaultName> = new Set(['one EIO', 'a power cut']);
let lab: FaultLab;
test.before(async () => {
  lab = await FaultLab.up();
});
test.after.always(async () => {
  await lab?.[Symbol.asyncDispose]();
});

/** All operations, or one of them, and with a power cut the moment after the last. */
function choose(command: string, fault: FaultName, count: number): number[] {
  const isAll = EVERY.has(command) && THOROUGH.has(fault);
  const operations = isAll ? Array.from({ length: count }, (_, i) => 1 + i) : [1 + (SEED % Math.max(1, count))];
  return fault === 'a power cut' ? [...operations, NEVER] : operations;
}

async function tryFaults(t: ExecutionContext, command: FaultCommand): Promise<void> {
  const count = await lab.run.count(command);
  let injected = 0;
  for (const fault of FAULT_NAMES) {
    const tally = await lab.run.series(command, fault, { operations: choose(command.name, fault, count(fault)), seed: SEED });
    t.deepEqual(tally.complaints, [], `${describeTally(tally)}; TIMEBAND_FAULTS_SEED=${SEED}`);
    injected += tally.injected;
  }
  t.log(`${injected} faults, seed ${SEED}`);
  t.true(injected > FAULT_NAMES.length / 2, 'most kinds of faults have struck');
}

for (const command of FAULT_COMMANDS) {
  test.serial(`${command.name}: whatever operation fails, no session is harmed, the error says what failed, and the next sync succeeds`, (t) =>
    tryFaults(t, command),
  );
}

interface ProgramCase {
  readonly args: (scene: Scene) => readonly string[];
  readonly fault: FaultName;
  readonly at: number;
  readonly under?: readonly string[];
  /** What to do now. */
  readonly advice: RegExp;
}

const disk = ({ image }: Scene): string[] => ['sync', `disk=${image}`];

const PROGRAM_CASES: readonly ProgramCase[] = [
  { args: disk, fault: 'one EIO', at: 15, advice: /disk reports an error; look at it/ },
  { args: disk, fault: 'ENOSPC from then on', at: 9, advice: /make room and try again/ },
  { args: disk, fault: 'EROFS from then on', at: 1, advice: /mount it read-write/ },
  { args: disk, fault: 'EMFILE from then on', at: 25, advice: /raise the limit/ },
  { args: disk, fault: 'EIO from then on', at: 200, advice: /disk reports an error/ },
  { args: () => ['delete', 'disk@old', '--yes'], fault: 'one EIO', at: 6, advice: /disk reports an error/ },
  { args: () => ['prune', '--keep-last', '1', '--yes'], fault: 'EROFS from then on', at: 1, advice: /mount it read-write/ },
  { args: () => ['tag', 'disk@latest', 'kept'], fault: 'one EIO', at: 6, advice: /disk reports an error/ },
  { args: (scene) => ['restore', 'disk', scene.at('restored.img')], fault: 'ENOSPC from then on', at: 2, under: ['/restored'], advice: /make room/ },
  { args: (scene) => ['init', '--repo', scene.at('new')], fault: 'ENOSPC from then on', at: 5, under: ['/new'], advice: /make room/ },
];

test.serial('the program itself names the file and says what to do, and ends with 1', async (t) => {
  const { scene, run } = lab;
  const ws = workspace(t);
  const env = { TIMEBAND_REPO: scene.repo, TIMEBAND_STATE_DIR: scene.state };
  for (const { args, fault, at, under = ['/repo'], advice } of PROGRAM_CASES) {
    const what = `${args(scene).join(' ')}, ${fault} at ${at}`;
    await run.begin();
    await scene.fs.arm({ name: fault, at, under, seed: SEED });
    const { status, stderr } = await ws.cliIn(env, ...args(scene));
    t.true((await scene.fs.disarm()).count > 0, `${what}: not reached`);
    t.is(status, 1, `${what}: ${stderr}`);
    t.regex(stderr, advice, what);
    t.true(stderr.includes(scene.fs.mountPoint), `${what}: names no file: ${stderr}`);
    t.false(/a fault of this program|SuppressedError|\n\s+at /.test(stderr), stderr);
    const problems = await scene.inCopy((copy) => copy.open((opened) => copy.problems(opened, [])));
    t.deepEqual(problems, [], what);
  }
});

test.serial('what could not be made durable is not gone on with: Linux takes for written what it failed to write', async (t) => {
  const { scene, run } = lab;
  for (let at = 1, hit = ''; !hit.endsWith('.syncfs'); at++) {
    await run.begin();
    await scene.fs.arm({ name: 'one EIO', at, under: ['/repo'], seed: SEED });
    const failed = await t.throwsAsync(scene.open((opened) => scene.sync(opened, 'disk')));
    hit = (await scene.fs.disarm()).first ?? '';
    t.is(failed?.name, 'TimebandError');
    if (!hit.endsWith('.syncfs')) continue;
    await scene.open(async ({ repository }) => t.deepEqual(readdirSync((await repository.volume('disk')).layout.incoming), []));
  }
});
