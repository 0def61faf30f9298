/**
 * LVM thin volumes on a real thin pool: Debian's kernel in qemu, with this machine's root file system read-only and this
 * Node. The scenarios are in test/support/vm/lvm-scenarios.ts; here each has its verdict.
 */
import { spawn, spawnSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { ended } from '../support/processes.ts';
import { SCENARIOS } from '../support/vm/lvm-scenarios.ts';
import { workspace } from '../support/workspace.ts';

/** From dist/test/e2e. */
const SCRIPTS = fileURLToPath(new URL('../../../test/support/vm/', import.meta.url));
const GUEST = fileURLToPath(new URL('../support/vm/lvm-guest.js', import.meta.url));
const LIMIT_MS = 900_000;
const UNAVAILABLE = 69;

interface Verdict {
  readonly title: string;
  readonly problem: string | null;
  readonly seconds: number;
}

/** What the machine runs: LVM without udev, its files in /run, the tools of the unpacked packages first. */
function guestScript(vm: string): string {
  const lib = ['/usr/lib/x86_64-linux-gnu', '/lib/x86_64-linux-gnu'].map((folder) => `${vm}/root${folder}`).join(':');
  return `
mkdir -p /run/lvm-system /run/tmp
cat > /run/lvm-system/lvm.conf <<'CONF'
devices { use_devicesfile=0 }
activation { udev_sync=0 udev_rules=0 monitoring=0 }
global { use_lvmpolld=0 locking_dir="/run/lock/lvm" thin_check_executable="" }
backup { backup=0 archive=0 }
CONF
export PATH=${vm}/root/usr/sbin:${vm}/root/sbin:/usr/sbin:/usr/bin:/sbin:/bin LD_LIBRARY_PATH=${lib}
export HOME=/run/tmp TMPDIR=/run/tmp DM_DISABLE_UDEV=1 LVM_SYSTEM_DIR=/run/lvm-system LVM_SUPPRESS_FD_WARNINGS=1
exec '${process.execPath}' '${GUEST}'
`;
}

const machine = spawnSync('bash', [path.join(SCRIPTS, 'prepare.sh')], { encoding: 'utf8' });

if (machine.status === UNAVAILABLE) {
  test.skip(`LVM thin volumes in a virtual machine: ${machine.stderr.trim()}`, () => undefined);
} else {
  let verdicts: Verdict[] = [];
  let text = machine.stderr;

  test.serial('the virtual machine runs all scenarios', async (t) => {
    t.timeout(LIMIT_MS);
    t.is(machine.status, 0, machine.stderr);
    const vm = machine.stdout.trim();
    const { at } = workspace(t);
    writeFileSync(at('disk.img'), '');
    truncateSync(at('disk.img'), 96 * 1_048_576);
    writeFileSync(at('run.sh'), guestScript(vm));
    const qemu = spawn('bash', [path.join(SCRIPTS, 'boot.sh'), vm, at('run.sh'), at('disk.img')], { stdio: ['ignore', 'pipe', 'pipe'] });
    t.teardown(() => qemu.kill('SIGKILL'));
    const { stdout, stderr } = await ended(qemu);
    text = stdout + stderr;
    verdicts = [...text.matchAll(/^@@@ (\{.*\})\r*$/gm)].map(([, json = '']) => JSON.parse(json));
    t.is(verdicts.length, Object.keys(SCENARIOS).length, text);
    t.log(verdicts.map(({ title, seconds }) => `${seconds} s: ${title}`).join('\n'));
  });

  for (const title of Object.keys(SCENARIOS)) {
    test.serial(title, (t) => {
      const verdict = verdicts.find((one) => one.title === title);
      t.is(verdict === undefined ? `not run: ${text.slice(-2000)}` : verdict.problem, null);
    });
  }
}
