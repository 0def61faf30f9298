import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { checkFileSystem } from '../../fuse/file-system-check.ts';
import { runToEnd } from '../../fuse/tools.ts';
import { codeOf } from '../support/library.ts';

test('a program that is run to its end gives its status and all it says; one that is not installed gives undefined', async (t) => {
  t.deepEqual(await runToEnd('sh', ['-c', 'echo out; echo err >&2; exit 4'], undefined), { status: 4, output: 'out\nerr' });
  t.is(await runToEnd('timeband-no-such-program', [], undefined), undefined);
  const { output = '' } = (await runToEnd('sh', ['-c', 'yes | head -c 1000000'], undefined)) ?? {};
  t.true(output.length > 60_000 && output.length <= 65_536, 'cut');
});

test('a program that is interrupted has ended when that is told; one that is killed came to no result', async (t) => {
  const controller = new AbortController();
  const running = runToEnd('sleep', ['1000'], controller.signal);
  await sleep(50);
  controller.abort();
  t.is(await codeOf(() => running), 'INTERRUPTED');
  t.is(await codeOf(() => runToEnd('sh', ['-c', 'kill -9 $$'], undefined)), 'TOOL_FAILED');
});

test('what has no checker is skipped and said', async (t) => {
  t.like(await checkFileSystem('/dev/null', { type: 'crypto_LUKS', partitionType: undefined }), { verdict: 'skipped', tool: undefined });
  t.like(await checkFileSystem('/dev/null', { type: undefined, partitionType: '0x83' }), { verdict: 'skipped' });
  t.like(await checkFileSystem('/dev/null', { type: undefined, partitionType: '21686148-6449-6E6F-744E-656564454649' }), { verdict: 'nothing' });
  t.like(await checkFileSystem('/dev/null', { type: 'swap', partitionType: '0x82' }), { verdict: 'nothing' });
});
