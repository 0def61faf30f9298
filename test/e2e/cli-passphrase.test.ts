/** Where a passphrase may come from, what the terminal shows of it, and where it must never be seen. */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { Repository } from '../../src/repository.ts';
import { FAST_SCRYPT, makeFastRepository } from '../support/library.ts';
import { writeParts } from '../support/parts.ts';
import { onTerminal } from '../support/pty.ts';
import { PASSPHRASE, sh, type Workspace, workspace } from '../support/workspace.ts';

const NONE = { TIMEBAND_PASSPHRASE: undefined };

async function ready(t: ExecutionContext): Promise<Workspace> {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  return ws;
}

test.serial('a passphrase is taken from the environment, a file or a command; an option goes before a variable', async (t) => {
  const ws = await ready(t);
  for (const [name, text] of [
    ['plain', PASSPHRASE],
    ['newline', `${PASSPHRASE}\n`],
    ['dos', `${PASSPHRASE}\r\n`],
    ['wrong', 'wrong'],
  ] as const)
    writeFileSync(ws.at(name), text);
  const status = async (env: NodeJS.ProcessEnv, ...args: string[]): Promise<number | null> => (await ws.cliIn(env, 'volumes', ...args)).status;
  t.is(await status({}), 0);
  for (const name of ['plain', 'newline', 'dos']) t.is(await status(NONE, '--passphrase-file', ws.at(name)), 0, name);
  t.is(await status({ ...NONE, TIMEBAND_PASSPHRASE_FILE: ws.at('plain') }), 0);
  t.is(await status(NONE, '--passphrase-command', `cat ${ws.at('newline')}`), 0);
  t.is(await status({ ...NONE, TIMEBAND_PASSPHRASE_COMMAND: `cat ${ws.at('plain')}` }), 0);
  t.is(await status({ TIMEBAND_PASSPHRASE: 'wrong' }, '--passphrase-file', ws.at('plain')), 0);
  t.is(await status({}, '--passphrase-file', ws.at('wrong')), 12);
  t.is(await status({}, '--passphrase-command', 'echo wrong'), 12);
  t.is(await status({ TIMEBAND_PASSPHRASE: '' }), 12, 'an empty one is one');
});

test.serial('a passphrase keeps its spaces, and only one newline at its end is not part of it', async (t) => {
  const ws = workspace(t);
  const odd = ' two lines\nand spaces ';
  await Repository.init(ws.repo, { passphrase: odd, scrypt: FAST_SCRYPT });
  writeFileSync(ws.at('odd'), `${odd}\n`);
  t.is((await ws.cli('volumes', '--passphrase-file', ws.at('odd'))).status, 0);
  writeFileSync(ws.at('odd'), `${odd}\n\n`);
  t.is((await ws.cli('volumes', '--passphrase-file', ws.at('odd'))).status, 12);
});

test.serial('without a terminal and without a passphrase every command ends with 12, at once', async (t) => {
  const ws = await ready(t);
  for (const command of ['volumes', 'check', 'init --repo new']) {
    const { status, stderr } = await ws.shell(
      `unset TIMEBAND_PASSPHRASE; setsid --wait sh -c '"${process.execPath}" "$0" ${command} < /dev/null' ${ws.program}`,
    );
    t.is(status, 12, stderr);
    t.regex(stderr, /--passphrase-file/);
  }
  t.false(existsSync(ws.at('new')) && readdirSync(ws.at('new')).length > 0, 'nothing was made');
});

test.serial('on a terminal the passphrase is asked for and not shown', async (t) => {
  const ws = await ready(t);
  const pty = onTerminal(t, ws, 'volumes');
  await pty.answer(/Passphrase: /, 1, `${PASSPHRASE}\r`);
  t.is(await pty.status(), 0);
  t.false(pty.shown().includes(PASSPHRASE));
});

test.serial('what is typed can be corrected; a wrong passphrase is 12, Ctrl-C is 130', async (t) => {
  const ws = await ready(t);
  const corrected = onTerminal(t, ws, 'volumes');
  await corrected.answer(/Passphrase: /, 1, `wrong\u0015${PASSPHRASE}xy\u007f\u007f\r`);
  t.is(await corrected.status(), 0);
  const wrong = onTerminal(t, ws, 'volumes');
  await wrong.answer(/Passphrase: /, 1, 'wrong\r');
  t.is(await wrong.status(), 12);
  const interrupted = onTerminal(t, ws, 'volumes');
  await interrupted.answer(/Passphrase: /, 1, 'half\u0003');
  t.is(await interrupted.status(), 130);
});

test.serial('init asks twice: the same makes a repository, two that differ and an empty one make nothing', async (t) => {
  const ws = workspace(t);
  const differing = onTerminal(t, ws, 'init');
  await differing.answer(/passphrase: /, 1, 'one\r');
  await differing.answer(/again: /, 1, 'two\r');
  t.is(await differing.status(), 2);
  const empty = onTerminal(t, ws, 'init');
  await empty.answer(/passphrase: /, 1, '\r');
  t.is(await empty.status(), 2);
  t.false(existsSync(ws.repo));
  const good = onTerminal(t, ws, 'init');
  await good.answer(/passphrase: /, 1, 'typed\r');
  await good.answer(/again: /, 1, 'typed\r');
  t.is(await good.status(), 0);
  t.is((await ws.cliIn({ TIMEBAND_PASSPHRASE: 'typed' }, 'volumes')).status, 0);
});

/** Files of /proc of all processes, joined. */
function allProcesses(file: 'cmdline' | 'environ', pids: readonly string[] = readdirSync('/proc')): string {
  return pids
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/${file}`, 'utf8');
      } catch {
        return ''; // it has ended
      }
    })
    .join('\n');
}

test.serial('no passphrase stands in the arguments of any process, and none is handed to processes that are started', async (t) => {
  const secret = randomBytes(12).toString('hex');
  const ws = workspace(t);
  await Repository.init(ws.repo, { passphrase: secret, scrypt: FAST_SCRYPT });
  writeParts(ws.at('disk.img'), 67_108_864, [{ at: 0, bytes: new Uint8Array(67_108_864).fill(7) }]);
  const env = { TIMEBAND_PASSPHRASE: secret };
  let looks = 0;
  const look = async (work: Promise<unknown>): Promise<void> => {
    let isDone = false;
    const done = work.finally(() => {
      isDone = true;
    });
    for (; !isDone; looks++) {
      t.false(allProcesses('cmdline').includes(secret));
      await sleep(10);
    }
    await done;
  };
  await look(ws.cliIn(env, 'sync', `disk=${ws.at('disk.img')}`));
  const mount = ws.folder('mnt');
  await look(ws.cliIn(env, 'mount', mount));
  const [record = ''] = sh('find', ws.at('state', 'mounts'), '-name', '*.json').split('\n');
  const { server } = JSON.parse(readFileSync(record, 'utf8'));
  t.not(allProcesses('environ', [String(server.pid)]), '');
  t.false(allProcesses('environ', [String(server.pid)]).includes(secret), 'the server of the mount');
  await look(ws.cliIn(env, 'unmount', mount));
  const asked = await ws.cliIn(env, 'volumes', '--passphrase-command', `env | grep -c ${secret.slice(0, 8)} >&2; echo "$TIMEBAND_PASSPHRASE"`);
  t.is(asked.status, 12, 'a command does not see the passphrase in its environment');
  t.true(looks > 5);
  t.is(sh('/bin/sh', '-c', `grep -rl ${secret} ${ws.root} || true`), '', 'and it is written nowhere');
});

test.serial('a secret that is taken for a volume key is not quoted, not even with --debug', async (t) => {
  const ws = await ready(t);
  writeFileSync(ws.at('passphrase'), PASSPHRASE);
  const { status, stdout, stderr } = await ws.cliIn(NONE, 'volumes', '--volume-key-file', ws.at('passphrase'), '--debug', '--json');
  t.is(status, 12);
  t.false(`${stdout}${stderr}`.includes(PASSPHRASE.slice(0, 4)), stderr);
});
