/** Waiting for locks, holding them for another program, and changing what a volume is called. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { makeFastRepository } from '../support/library.ts';
import { ended } from '../support/processes.ts';
import { type Workspace, workspace } from '../support/workspace.ts';

async function ready(t: ExecutionContext): Promise<Workspace> {
  const ws = workspace(t);
  await makeFastRepository(ws.repo);
  writeFileSync(ws.at('disk.img'), new Uint8Array(4096).fill(1));
  await ws.ok('sync', `disk=${ws.at('disk.img')}`);
  return ws;
}

test.serial('with-lock keeps writers out while its command runs; who waits gets in after it', async (t) => {
  const ws = await ready(t);
  const holder = ended(ws.start('with-lock', '--', '/bin/sh', '-c', 'touch held; while [ ! -e go ]; do sleep 0.05; done; exit 7'));
  while (!existsSync(ws.at('held'))) await sleep(10);
  const refused = await ws.cli('sync', 'disk', '--force');
  t.is(refused.status, 11);
  t.regex(refused.stderr, /with-lock/);
  t.is((await ws.cli('sync', `new=${ws.at('disk.img')}`)).status, 11, 'a new volume is refused, too');
  t.is((await ws.cli('sessions')).status, 0, 'readers are not');
  const waiting = ended(ws.start('sync', 'disk', '--force', '--lock-wait', '60'));
  await sleep(500);
  writeFileSync(ws.at('go'), '');
  t.is((await holder).status, 7, 'the status is that of the command');
  t.is((await waiting).status, 0);
  t.is((await ws.json('sessions', 'disk')).sessions.length, 2);
  t.deepEqual(readdirSync(`${ws.repo}/locks`), []);
});

test.serial('the time to wait is a number of seconds, and waiting ends with it', async (t) => {
  const ws = await ready(t);
  t.is((await ws.cli('sync', 'disk', '--lock-wait', 'soon')).status, 2);
  const holder = ws.start('with-lock', '--', 'sh', '-c', 'touch held; exec sleep 60');
  while (!existsSync(ws.at('held'))) await sleep(10);
  t.is((await ws.cli('sync', 'disk', '--force', '--lock-wait', '1')).status, 11);
  holder.kill('SIGTERM');
  await ended(holder);
  t.deepEqual(readdirSync(`${ws.repo}/locks`), []);
});

test.serial('a volume gets another name and a note; its sessions stay as they are', async (t) => {
  const ws = await ready(t);
  const before = await ws.json('show', 'disk@latest');
  t.is((await ws.json('rename', 'disk', 'work/private')).volume, 'work/private');
  t.is((await ws.json('note', 'work/private', 'the disk of work')).note, 'the disk of work');
  t.is((await ws.json('show', 'work/private@latest')).manifestSha256, before.manifestSha256);
  t.is((await ws.cli('show', 'disk@latest')).status, 1);
  await ws.ok('sync', `disk=${ws.at('disk.img')}`);
  const taken = await ws.cli('rename', 'disk', 'work/private');
  t.is(taken.status, 1);
  t.regex(taken.stderr, /exists already/);
  t.is((await ws.cli('rename', 'disk', 'a@b')).status, 2);
  t.is((await ws.cli('check', '--data')).status, 0);
  t.like(await ws.json('tag', 'disk@latest', 'b', 'a'), { tags: ['a', 'b'], protected: false });
  t.like(await ws.json('untag', 'disk@latest', 'b'), { tags: ['a'] });
  t.like(await ws.json('protect', 'disk@a'), { protected: true });
  t.like(await ws.json('note', 'disk@a', 'first'), { note: 'first', tags: ['a'], protected: true });
  t.like(await ws.json('unprotect', 'disk@a'), { protected: false, note: 'first' });
});
