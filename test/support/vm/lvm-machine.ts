/**
 * Tests on a real thin pool of LVM: Debian's kernel in qemu, with this machine's root file system read-only and this Node.
 * The scenarios are in lvm-scenarios.ts; each set has a machine of its own, and each scenario its verdict.
 */
import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { ended } from '../processes.ts';
import { sh, workspace } from '../workspace.ts';
import { SCENARIO_SETS, type ScenarioSet } from './lvm-scenarios.ts';

/** From dist/test/support/vm. */
const CHECKOUT = fileURLToPath(new URL('../../../../', import.meta.url));
const SCRIPTS = path.join(CHECKOUT, 'test/support/vm');
const LIMIT_MS = 900_000;
const UNAVAILABLE = 69;

interface Verdict {
  readonly title: string;
  readonly problem: string | null;
  readonly seconds: number;
}

/** The built program, the packages that it needs and the tools, as an archive that the machine reads from its second disk. */
function packProgram(archive: string, vm: string): void {
  const lock: { packages: Record<string, { dev?: boolean }> } = JSON.parse(readFileSync(path.join(CHECKOUT, 'package-lock.json'), 'utf8'));
  const packages = Object.entries(lock.packages).flatMap(([folder, { dev }]) => (folder === '' || dev === true ? [] : [folder]));
  const installed = packages.filter((folder) => existsSync(path.join(CHECKOUT, folder)));
  sh(
    'tar',
    '-cf',
    archive,
    '-C',
    CHECKOUT,
    'package.json',
    'tools/recover.py',
    'dist/bands',
    'dist/fuse',
    'dist/src',
    'dist/test/support',
    ...installed,
    '-C',
    vm,
    'tools',
  );
}

/** What the machine runs: LVM without udev, all that is written in memory. */
const guestScript = (set: ScenarioSet): string => `
mkdir -p /run/lvm-system /run/tmp /run/program
tar -xf /dev/vdb -C /run/program
cat > /run/lvm-system/lvm.conf <<'CONF'
devices { use_devicesfile=0 filter=["a|^/dev/vda$|", "r|.*|"] }
activation { udev_sync=0 udev_rules=0 monitoring=0 }
global { use_lvmpolld=0 locking_dir="/run/lock/lvm" thin_check_executable="" }
backup { backup=0 archive=0 }
CONF
export PATH=/run/program/tools/bin:/usr/sbin:/usr/bin:/sbin:/bin LD_LIBRARY_PATH=/run/program/tools/lib
export HOME=/run/tmp TMPDIR=/run/tmp DM_DISABLE_UDEV=1 LVM_SYSTEM_DIR=/run/lvm-system
exec '${process.execPath}' /run/program/dist/test/support/vm/lvm-guest.js ${set}
`;

/** Declares the tests of one set of scenarios. */
export function testScenarios(set: ScenarioSet): void {
  const machine = spawnSync('bash', [path.join(SCRIPTS, 'prepare.sh')], { encoding: 'utf8' });
  if (machine.status === UNAVAILABLE) test.skip(`LVM thin volumes in a virtual machine: ${machine.stderr.trim()}`, () => undefined);
  else testInMachine(set, machine);
}

function testInMachine(set: ScenarioSet, machine: SpawnSyncReturns<string>): void {
  const titles = Object.keys(SCENARIO_SETS[set]);
  let verdicts: Verdict[] = [];
  let text = machine.stderr;

  test.serial('the virtual machine runs all scenarios', async (t) => {
    t.timeout(LIMIT_MS);
    t.is(machine.status, 0, machine.stderr);
    const vm = machine.stdout.trim();
    const { at } = workspace(t);
    writeFileSync(at('disk.img'), '');
    truncateSync(at('disk.img'), 96 * 1_048_576);
    packProgram(at('program.tar'), vm);
    writeFileSync(at('run.sh'), guestScript(set));
    const qemu = spawn('bash', [path.join(SCRIPTS, 'boot.sh'), vm, at('run.sh'), at('disk.img'), at('program.tar')], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    t.teardown(() => qemu.kill('SIGKILL'));
    const { stdout, stderr } = await ended(qemu);
    text = stdout + stderr;
    verdicts = [...text.matchAll(/@@@ (\{.*\})/g)].map(([, json = '']) => JSON.parse(json));
    t.is(verdicts.length, titles.length, text);
    t.log(verdicts.map(({ title, seconds }) => `${seconds} s: ${title}`).join('\n'));
  });

  for (const title of titles) {
    test.serial(title, (t) => {
      const verdict = verdicts.find((one) => one.title === title);
      t.is(verdict === undefined ? `not run: ${text.slice(-2000)}` : verdict.problem, null);
    });
  }
}
