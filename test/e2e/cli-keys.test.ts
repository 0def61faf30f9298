/** `timeband key …`, as people use it: several ways into one repository, and never none. */
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { Repository } from '../../src/repository.ts';
import { openSource } from '../../src/sources/open-source.ts';
import type { SyncEnvironment } from '../../src/sync/request.ts';
import { syncVolume } from '../../src/sync/sync.ts';
import { fill } from '../support/bytes.ts';
import { makeFastRepository } from '../support/library.ts';
import { firstWrongByte, writeParts } from '../support/parts.ts';
import { PASSPHRASE, sh, type Workspace, workspace } from '../support/workspace.ts';

const NONE = { TIMEBAND_PASSPHRASE: undefined };

async function ready(t: ExecutionContext): Promise<Workspace> {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  return ws;
}

function slotFiles(ws: Workspace): string[] {
  return readdirSync(ws.at('repo', 'keys')).map((name) => path.join(ws.repo, 'keys', name));
}

/** Everything in the repository but its keys, scripts and locks: names, inodes, sizes and times. */
function dataOf(ws: Workspace): string {
  return sh('find', path.join(ws.repo, 'volumes'), '-printf', '%p %i %s %T@\n');
}

test.serial('a passphrase, a key file and a recovery phrase open the repository side by side; no band is touched', async (t) => {
  const ws = await ready(t);
  writeParts(ws.at('disk.img'), 1_048_576, [{ at: 0, bytes: fill('disk', 300_000) }]);
  await ws.ok('sync', `disk=${ws.at('disk.img')}`);
  const before = dataOf(ws);
  writeFileSync(ws.at('second'), 'another passphrase\n');
  const added = await ws.json('key', 'add', '--new-passphrase-file', ws.at('second'));
  const keyFile = await ws.json('key', 'add', '--new-key-file', ws.at('key'));
  const phrase = await ws.json('key', 'add', '--recovery-phrase');
  t.is(statSync(ws.at('key')).mode & 0o777, 0o600);
  t.is(phrase.recoveryPhrase.split(' ').length, 24);
  t.is(dataOf(ws), before);
  const list = await ws.json('key', 'list');
  t.deepEqual(list.slots.map(({ kind }: { kind: string }) => kind).sort(), ['key-file', 'passphrase', 'passphrase', 'recovery-phrase']);
  const opens = async (slot: string, env: NodeJS.ProcessEnv, ...args: string[]): Promise<void> => {
    const { status, stdout } = await ws.cliIn({ ...NONE, ...env }, 'key', 'test', '--json', ...args);
    t.is(status, 0, stdout);
    t.deepEqual(JSON.parse(stdout).slots, [slot]);
  };
  await opens(added.slot, {}, '--passphrase-file', ws.at('second'));
  await opens(keyFile.slot, {}, '--key-file', ws.at('key'));
  await opens(keyFile.slot, { TIMEBAND_KEY_FILE: ws.at('key') });
  await opens(phrase.slot, { TIMEBAND_RECOVERY_PHRASE: phrase.recoveryPhrase });
  t.is((await ws.cliIn(NONE, 'restore', 'disk', ws.at('out.img'), '--key-file', ws.at('key'))).status, 0);
  t.is(firstWrongByte(ws.at('out.img'), ws.at('disk.img')), undefined);
  t.is((await ws.json('check', '--no-key')).findings.length, 0);
  t.is((await ws.cli('volumes', '--key-file', ws.at('key'), '--passphrase-file', ws.at('second'))).status, 2, 'one key is enough');
});

test.serial('a slot is removed only by somebody who holds the key of another, and never the last', async (t) => {
  const ws = await ready(t);
  const [first = ''] = slotFiles(ws).map((file) => path.basename(file, '.json'));
  const last = await ws.cli('key', 'remove', first);
  t.is(last.status, 2);
  t.regex(last.stderr, /last key slot/);
  const { slot } = await ws.json('key', 'add', '--new-key-file', ws.at('key'));
  t.is((await ws.cli('key', 'remove', first)).status, 2, 'the passphrase opens only this one');
  t.is((await ws.cli('key', 'remove', 'ffffffffffffffff')).status, 2);
  t.is(slotFiles(ws).length, 2);
  await ws.ok('key', 'remove', first, '--key-file', ws.at('key'));
  t.is((await ws.cli('volumes')).status, 12, 'the passphrase opens nothing any more');
  t.is((await ws.cli('key', 'remove', slot, '--key-file', ws.at('key'))).status, 2);
  t.is((await ws.cli('volumes', '--key-file', ws.at('key'))).status, 0);
  writeFileSync(path.join(ws.repo, 'keys', '0123456789abcdef.json'), '{}');
  t.is((await ws.cli('key', 'remove', slot, '--key-file', ws.at('key'))).status, 2, 'a damaged slot does not count as one that stays');
  await ws.ok('key', 'remove', '0123456789abcdef', '--key-file', ws.at('key'));
});

test.serial('of two that remove each the slot of the other, one is left', async (t) => {
  const ws = await ready(t);
  const [first = ''] = slotFiles(ws).map((file) => path.basename(file, '.json'));
  const { slot } = await ws.json('key', 'add', '--new-key-file', ws.at('key'));
  const done = await Promise.all([ws.cli('key', 'remove', first, '--key-file', ws.at('key')), ws.cli('key', 'remove', slot)]);
  t.is(slotFiles(ws).length, 1, done.map(({ stderr }) => stderr).join());
  t.deepEqual(done.map(({ status }) => status === 0).sort(), [false, true]);
});

test.serial('the passphrase is changed while a sync is under way: the sync goes on, the old one opens nothing', async (t) => {
  const ws = await ready(t);
  writeParts(ws.at('disk.img'), 8_388_608, [{ at: 0, bytes: fill('disk', 3_000_000) }]);
  writeFileSync(ws.at('new'), 'new\n');
  const key = ['--passphrase-file', ws.at('new')];
  const [before = ''] = slotFiles(ws);
  await using pool = new BandPool();
  using repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  const environment: SyncEnvironment = {
    pool,
    async openSource(...args) {
      t.is(readdirSync(path.join(ws.repo, 'locks')).length, 1, 'the volume is locked');
      await ws.ok('key', 'change-passphrase', '--new-passphrase-file', ws.at('new'));
      return await openSource(...args);
    },
  };
  t.is((await syncVolume(repository, { name: 'disk', location: ws.at('disk.img') }, environment)).status, 'created');
  t.deepEqual(slotFiles(ws), [before], 'in the same slot');
  t.is((await ws.cli('volumes')).status, 12);
  t.is((await ws.cli('check', '--data', ...key)).status, 0);
  await ws.ok('restore', 'disk', ws.at('out.img'), ...key);
  t.is(firstWrongByte(ws.at('out.img'), ws.at('disk.img')), undefined);
});

test.serial('a forgotten passphrase is replaced with the recovery phrase that init showed', async (t) => {
  const ws = workspace(t);
  t.is((await ws.cli('init', '--recovery-phrase', '--quiet')).status, 2, 'it would not be shown');
  t.false(existsSync(ws.repo));
  const { recoveryPhrase } = await ws.json('init', '--recovery-phrase');
  writeFileSync(ws.at('new'), 'new\n');
  const env = { ...NONE, TIMEBAND_RECOVERY_PHRASE: recoveryPhrase };
  t.is((await ws.cliIn(env, 'key', 'change-passphrase', '--new-passphrase-file', ws.at('new'))).status, 0);
  t.is((await ws.cli('volumes')).status, 12);
  t.is((await ws.cli('volumes', '--passphrase-file', ws.at('new'))).status, 0);
  const mistyped = await ws.cliIn({ ...NONE, TIMEBAND_RECOVERY_PHRASE: recoveryPhrase.replace(/ \S+$/, ' abandom') }, 'volumes');
  t.is(mistyped.status, 12);
  t.regex(mistyped.stderr, /word 24 is not in the list/);
  t.false(mistyped.stderr.includes('abandom'));
});

test.serial('a wrong secret, a damaged slot, a lost one and one of another repository are told apart', async (t) => {
  const ws = await ready(t);
  const other = workspace(t);
  await makeFastRepository(other.repo);
  const failure = async (env: NodeJS.ProcessEnv = {}): Promise<readonly [number | null, string]> => {
    const { status, stderr } = await ws.cliIn(env, 'volumes');
    return [status, stderr];
  };
  const [wrongStatus, wrong] = await failure({ TIMEBAND_PASSPHRASE: 'wrong' });
  t.is(wrongStatus, 12);
  t.regex(wrong, /does not open this repository \(1 key slot/);
  const [noneStatus, none] = await failure({ ...NONE, TIMEBAND_KEY_FILE: strayKeyFile(ws) });
  t.is(noneStatus, 12);
  t.regex(none, /no key slot of this repository takes a key file; it has slots for: passphrase/);
  const [file = ''] = slotFiles(ws);
  const whole = readFileSync(file, 'utf8');
  writeFileSync(
    file,
    whole.replace(/"wrapped": "(.)/, (_, digit) => `"wrapped": "${digit === '0' ? 1 : 0}`),
  );
  const [damagedStatus, damaged] = await failure();
  t.is(damagedStatus, 13);
  t.regex(damaged, /damaged/);
  writeFileSync(file, whole.replace('"logN": 10', '"logN": 30'));
  const [greedyStatus, greedy] = await failure();
  t.is(greedyStatus, 13);
  t.regex(greedy, /1048576 MiB of memory/);
  rmSync(file);
  const [lostStatus, lost] = await failure();
  t.is(lostStatus, 13);
  t.regex(lost, /no key slot .* put back the keys folder/s);
  t.is((await ws.cli('key', 'list')).status, 13);
  const [foreign = ''] = slotFiles(other);
  writeFileSync(path.join(ws.repo, 'keys', path.basename(foreign)), readFileSync(foreign));
  const [foreignStatus, another] = await failure();
  t.is(foreignStatus, 12);
  t.regex(another, /made for another repository/);
  t.is((await ws.cli('key', 'list')).status, 3);
  writeFileSync(file, whole);
  t.is((await ws.cli('volumes')).status, 0, 'and none of it stops a slot that is whole');
});

/** A key file that opens nothing. */
function strayKeyFile(ws: Workspace): string {
  writeFileSync(ws.at('stray'), `${'0f'.repeat(32)}\n`);
  return ws.at('stray');
}

test.serial('a key file is always a new file; one that exists, or cannot be written, adds nothing', async (t) => {
  const ws = await ready(t);
  writeFileSync(ws.at('there'), 'there');
  t.is((await ws.cli('key', 'add', '--new-key-file', ws.at('there'))).status, 1);
  t.is(readFileSync(ws.at('there'), 'utf8'), 'there');
  t.is((await ws.cli('key', 'add', '--new-key-file', ws.at('no', 'folder'))).status, 1);
  t.is((await ws.cli('key', 'add', '--new-key-file', ws.at('key'), '--recovery-phrase')).status, 2);
  t.is(slotFiles(ws).length, 1);
  t.false(existsSync(ws.at('key')));
});

test.serial('no more slots are added than are ever tried', async (t) => {
  const ws = await ready(t);
  const [file = ''] = slotFiles(ws);
  for (let i = 0; i < 63; i++) writeFileSync(path.join(ws.repo, 'keys', `f${String(i).padStart(15, '0')}.json`), readFileSync(file));
  const { status, stderr } = await ws.cli('key', 'add', '--new-key-file', ws.at('key'));
  t.is(status, 1);
  t.regex(stderr, /64 key slots/);
  t.false(existsSync(ws.at('key')));
});

test.serial('the printed page holds what opens the repository, and is for its owner only', async (t) => {
  const ws = await ready(t);
  const added = await ws.json('key', 'paper', ws.at('page.txt'), '--text');
  const text = readFileSync(ws.at('page.txt'), 'utf8');
  t.is(statSync(ws.at('page.txt')).mode & 0o777, 0o600);
  const words = [...text.matchAll(/(?<=^| )(\d{1,2}) ([a-z]+)\b/gm)]
    .map(([, number, word]) => ({ number: Number(number), word }))
    .filter(({ word }) => word !== 'words');
  const phrase = words
    .sort((a, b) => a.number - b.number)
    .map(({ word }) => word)
    .join(' ');
  const tested = await ws.cliIn({ ...NONE, TIMEBAND_RECOVERY_PHRASE: phrase }, 'key', 'test', '--json');
  t.deepEqual(JSON.parse(tested.stdout).slots, [added.slot]);
  for (const part of [JSON.parse(readFileSync(path.join(ws.repo, 'repository.json'), 'utf8')).id, ws.repo, added.slot, 'recover.py'])
    t.true(text.includes(part), part);
  t.is((await ws.cli('key', 'paper', ws.at('page.txt'))).status, 1, 'it exists');
  t.is(slotFiles(ws).length, 2, 'and nothing is left of the phrase that was not printed');
  const again = await ws.cliIn({ ...NONE, TIMEBAND_RECOVERY_PHRASE: phrase }, 'key', 'paper', ws.at('page.html'));
  t.is(again.status, 0);
  const html = readFileSync(ws.at('page.html'), 'utf8');
  for (const word of phrase.split(' ')) t.true(html.includes(`</small> ${word}<`));
  t.false(/<script|<link|src=|href=/.test(html), 'it loads nothing');
  await ws.ok('key', 'add', '--new-key-file', ws.at('key'));
  const piped = await ws.cliIn(NONE, 'key', 'paper', '--text', '--key-file', ws.at('key'));
  t.true(piped.stdout.includes(readFileSync(ws.at('key'), 'utf8').trim()));
  t.is((await ws.cli('key', 'paper', '--json')).status, 2);
});

test.serial('a new slot brings a recovery script that knows it into an older repository', async (t) => {
  const ws = await ready(t);
  const script = path.join(ws.repo, 'recover.py');
  const ours = readFileSync(script, 'utf8');
  const add = async (): Promise<string> => {
    await ws.ok('key', 'add', '--new-key-file', ws.at(`key-${readdirSync(ws.root).length}`));
    return readFileSync(script, 'utf8');
  };
  writeFileSync(script, '#!/usr/bin/env python3\n# the first one\n');
  t.is(await add(), ours);
  rmSync(script);
  t.is(await add(), ours);
  const newer = ours.replace(/^VERSION = \d+$/m, 'VERSION = 999');
  writeFileSync(script, newer);
  t.is(await add(), newer, 'a newer one stays');
});

test.serial('keys that were closed can seal nothing any more', async (t) => {
  const ws = await ready(t);
  const repository = await Repository.open(ws.repo, { passphrase: PASSPHRASE });
  const volume = await repository.createVolume('disk');
  const { bandKey, recordsKey } = volume.context.keys;
  t.false(bandKey.every((byte) => byte === 0));
  repository.close();
  t.true(
    [bandKey, recordsKey].every((key) => key.every((byte) => byte === 0)),
    'they are overwritten',
  );
  t.throws(() => volume.context.keys.bandKey, { instanceOf: TypeError });
  await t.throwsAsync(async () => await repository.createVolume('other'));
});
