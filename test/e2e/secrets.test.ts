/** Where keys come from, and where neither they nor names of volumes must ever be seen. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { Catalog } from '../../src/catalog.ts';
import { Repository } from '../../src/repository.ts';
import { openSource } from '../../src/sources/open-source.ts';
import { syncVolume } from '../../src/sync/sync.ts';
import { fill } from '../support/bytes.ts';
import { BAND_256K, makeFastRepository } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';
import { commandOnTerminal, onTerminal } from '../support/pty.ts';
import { RECOVER, recover } from '../support/recover.ts';
import { PASSPHRASE, sh, type Workspace, workspace } from '../support/workspace.ts';

const NONE = { TIMEBAND_PASSPHRASE: undefined };

async function ready(t: ExecutionContext): Promise<Workspace> {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  writeParts(ws.at('disk.img'), 1_048_576, [{ at: 0, bytes: fill('disk', 300_000) }]);
  return ws;
}

for (const umask of ['000', '077']) {
  test.serial(`files and folders are for their owner only under umask ${umask}`, async (t) => {
    const ws = workspace(t);
    const { status, stderr } = await ws.shell(
      `umask ${umask}; set -e; timeband init; truncate -s 1M disk.img; timeband sync disk=disk.img --tag a
       timeband key add --new-key-file made.key; timeband key export disk made.volume-key; timeband key paper made.html; timeband restore disk made.img`,
    );
    t.is(status, 0, stderr);
    const modes = (kind: string): string[] => sh('find', ws.repo, ws.at('state'), '-type', kind, '-printf', '%m\n').trim().split('\n');
    t.deepEqual([...new Set(modes('d'))], ['700']);
    t.deepEqual([...new Set(modes('f'))], ['600']);
    t.deepEqual([...new Set(sh('find', ws.root, '-maxdepth', '1', '-name', 'made.*', '-printf', '%m\n').trim().split('\n'))], ['600']);
  });
}

test.serial('the passphrase may be a credential of systemd, which variables and options go before', async (t) => {
  const ws = await ready(t);
  const credentials = ws.folder('credentials');
  const status = async (env: NodeJS.ProcessEnv, ...args: string[]): Promise<number | null> =>
    (await ws.cliIn({ ...NONE, CREDENTIALS_DIRECTORY: credentials, ...env }, 'volumes', ...args)).status;
  writeFileSync(path.join(credentials, 'another'), 'of another program');
  t.is(
    (await ws.shell(`unset TIMEBAND_PASSPHRASE; CREDENTIALS_DIRECTORY=${credentials} setsid --wait "${process.execPath}" ${ws.program} volumes`))
      .status,
    12,
  );
  writeFileSync(path.join(credentials, 'timeband.passphrase'), `${PASSPHRASE}\n`);
  t.is(await status({}), 0);
  t.is(await status({ TIMEBAND_PASSPHRASE: 'wrong' }), 12);
  writeFileSync(ws.at('wrong'), 'wrong');
  t.is(await status({}, '--passphrase-file', ws.at('wrong')), 12);
});

test.serial('a recovery phrase is asked for on the terminal, by the program and by the script, and not shown', async (t) => {
  const ws = await ready(t);
  const { recoveryPhrase } = await ws.json('key', 'add', '--recovery-phrase');
  for (const pty of [
    onTerminal(t, ws, 'volumes --recovery-phrase'),
    commandOnTerminal(t, ws, `/usr/bin/python3 ${RECOVER} list ${ws.repo} --recovery-phrase`),
  ]) {
    await pty.answer(/Recovery phrase .*: /, 1, `${recoveryPhrase}\r`);
    t.is(await pty.status(), 0, pty.shown());
    t.false(pty.shown().includes(recoveryPhrase.slice(0, 20)));
  }
});

test.serial('recover.py opens an older repository by the key file and the phrase that were added to it', async (t) => {
  const ws = workspace(t);
  sh('cp', '-a', fileURLToPath(new URL('../../../test/fixtures/repository-v1-aes-256-gcm', import.meta.url)), ws.repo);
  const env = { TIMEBAND_PASSPHRASE: 'golden passphrase' };
  const { recoveryPhrase } = JSON.parse((await ws.cliIn(env, 'key', 'add', '--recovery-phrase', '--json')).stdout);
  t.is((await ws.cliIn(env, 'key', 'add', '--new-key-file', ws.at('key'))).status, 0);
  const script = path.join(ws.repo, 'recover.py');
  const list = async (change: NodeJS.ProcessEnv, ...args: string[]): Promise<number | null> =>
    (await recover(ws, ['list', ...args], { script, env: { ...NONE, ...change } })).status;
  t.is(await list(env), 0, 'its own passphrase');
  t.is(await list({}, '--key-file', ws.at('key')), 0);
  t.is(await list({ TIMEBAND_KEY_FILE: ws.at('key') }), 0);
  t.is(await list({ TIMEBAND_RECOVERY_PHRASE: recoveryPhrase.toUpperCase() }), 0);
  t.is(await list({ TIMEBAND_RECOVERY_PHRASE: recoveryPhrase.replace(/^\S+/, 'wrongly') }), 12);
  t.is(await list({}, '--key-file', script), 12, 'a file that opens nothing');
  t.is(await list({}, '--key-file', ws.at('key'), '--passphrase-file', ws.at('key')), 2);
  t.is(await list({}, '--volume-key-file', ws.at('key')), 12);
  const target = ws.at('out.img');
  t.is((await recover(ws, ['restore', 'other', target, '--key-file', ws.at('key')], { script, env: NONE })).status, 0);
  await ws.cliIn(env, 'restore', 'other', ws.at('same.img'));
  t.is(firstWrongByte(target, ws.at('same.img')), undefined);
});

test.serial('without a catalog nothing is kept but the session, and the next sync finds its source in that', async (t) => {
  const ws = await ready(t);
  await ws.ok('sync', `disk=${ws.at('disk.img')}`, '--no-catalog');
  await ws.ok('--no-catalog', 'sync', 'disk', '--force');
  await ws.ok('--no-catalog', 'sessions');
  t.false(existsSync(ws.at('state')));
  await ws.ok('sync', 'disk');
  t.true(existsSync(ws.at('state')));
});

test.serial('lock files say which command works, and no name; nothing holds a key', async (t) => {
  const ws = await ready(t);
  await using pool = new BandPool();
  using repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  await using catalog = new Catalog(ws.at('state'), repository.id, (message) => t.fail(message));
  const locks = path.join(ws.repo, 'locks');
  const request = { name: 'a-secret-name', location: ws.at('disk.img'), bandBytes: BAND_256K };
  await syncVolume(repository, request, {
    pool,
    catalog,
    async openSource(...args) {
      const texts = readdirSync(locks).map((name) => readFileSync(path.join(locks, name), 'utf8'));
      t.is(texts.length, 1);
      t.is(JSON.parse(texts[0] ?? '').command, 'sync');
      t.false(texts.join().includes('a-secret-name'));
      return await openSource(...args);
    },
  });
  await catalog.close();
  const grant = repository.exportKey();
  const volume = await repository.volume('a-secret-name');
  const { recordsKey, namesKey, bandKey, fingerprintKey } = volume.context.keys;
  const secrets = ['masterKey' in grant ? grant.masterKey : new Uint8Array(32), repository.exportVolumeKey(volume).key];
  for (const secret of [...secrets, recordsKey, namesKey, bandKey, fingerprintKey].map((key) => Buffer.from(key))) {
    for (const file of sh('find', ws.repo, ws.at('state'), '-type', 'f').trim().split('\n')) {
      const bytes = readFileSync(file);
      if (bytes.includes(secret) || bytes.includes(secret.toString('hex'))) t.fail(`a key stands in ${file}`);
    }
  }
});

test.serial('what is set in the environment is not handed on, and a process that has keys leaves no core dump', async (t) => {
  const ws = await ready(t);
  const env = { ...NONE, TIMEBAND_RECOVERY_PHRASE: 'twenty-four words' };
  const command = `env | grep -q 'twenty-four words' && exit 1; echo '${PASSPHRASE}'`;
  t.is((await ws.cliIn(env, 'volumes', '--passphrase-command', command)).status, 0);
  const mount = ws.at('mnt');
  mkdirSync(mount);
  const server = ws.start('mount', '--foreground', mount);
  while (!readFileSync('/proc/self/mountinfo', 'utf8').includes(mount)) await sleep(10);
  t.regex(readFileSync(`/proc/${server.pid}/limits`, 'utf8'), /^Max core file size +1 /m);
});
