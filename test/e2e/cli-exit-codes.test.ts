/** Every exit status, for real, with the reason on stderr and as a document. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { currentProcess } from '../../src/host.ts';
import { lab } from '../support/library.ts';
import { writeParts } from '../support/parts.ts';
import { sh, type Workspace, workspace } from '../support/workspace.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** A repository with one session of the volume "disk". */
async function ready(t: ExecutionContext): Promise<Workspace> {
  const at = await lab(t, pool);
  writeParts(at.at('disk.img'), 4_194_304, [{ at: 0, bytes: new Uint8Array(512).fill(1) }]);
  await at.sync('disk', at.at('disk.img'));
  return at;
}

interface Failure {
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly args: (ws: Workspace) => readonly string[];
  readonly prepare?: (ws: Workspace) => void;
  readonly env?: NodeJS.ProcessEnv;
}

const FAILURES: readonly Failure[] = [
  { title: 'a source that does not exist', status: 1, code: 'SOURCE_NOT_FOUND', args: () => ['sync', 'new=/nowhere/image'] },
  { title: 'a source that is a folder', status: 1, code: 'SOURCE_INVALID', args: (ws) => ['sync', `new=${ws.root}`] },
  { title: 'a source that is a character device', status: 1, code: 'SOURCE_INVALID', args: () => ['sync', 'new=/dev/zero'] },
  {
    title: 'a source that is a pipe',
    status: 1,
    code: 'SOURCE_INVALID',
    prepare: (ws) => void sh('mkfifo', ws.at('pipe')),
    args: (ws) => ['sync', `new=${ws.at('pipe')}`],
  },
  ...[0, 1, 511, 513, 1_000_000].map((bytes) => ({
    title: `a source of ${bytes} bytes`,
    status: 1,
    code: 'SOURCE_INVALID',
    prepare: (ws: Workspace) => writeFileSync(ws.at('odd.img'), new Uint8Array(bytes)),
    args: (ws: Workspace) => ['sync', `new=${ws.at('odd.img')}`],
  })),
  { title: 'an unknown volume', status: 1, code: 'VOLUME_NOT_FOUND', args: () => ['sessions', 'other'] },
  { title: 'an unknown session', status: 1, code: 'SESSION_NOT_FOUND', args: () => ['show', 'disk@latest~7'] },
  { title: 'a target that exists', status: 1, code: 'TARGET_EXISTS', args: (ws) => ['restore', 'disk', ws.at('disk.img')] },
  { title: 'nothing mounted', status: 1, code: 'NOT_MOUNTED', args: (ws) => ['unmount', ws.folder('mnt')] },
  { title: 'nothing opened', status: 1, code: 'NOT_MOUNTED', args: (ws) => ['close', ws.folder('mnt')] },
  { title: 'a mount point that does not exist', status: 1, code: 'MOUNT_FAILED', args: (ws) => ['mount', ws.at('nowhere')] },
  { title: 'init of a repository', status: 1, code: 'REPOSITORY_EXISTS', args: () => ['init'] },
  {
    title: 'init of a folder that is not empty',
    status: 1,
    code: 'TARGET_INVALID',
    prepare: (ws) => writeFileSync(path.join(ws.folder('used'), 'file'), ''),
    args: (ws) => ['init', '--repo', ws.at('used')],
  },
  { title: 'no repository named', status: 2, code: 'USAGE', args: () => ['volumes'], env: { TIMEBAND_REPO: '' } },
  { title: 'a first sync without a source', status: 2, code: 'USAGE', args: () => ['sync', 'new'] },
  { title: 'a name that no volume can have', status: 2, code: 'USAGE', args: (ws) => ['sync', `a//b=${ws.at('disk.img')}`] },
  { title: 'a tag that no session can have', status: 2, code: 'USAGE', args: () => ['sync', 'disk', '--tag', 'latest'] },
  { title: 'a band size that is none', status: 2, code: 'USAGE', args: (ws) => ['sync', `new=${ws.at('disk.img')}`, '--band-size', '3M'] },
  { title: 'a date that does not exist', status: 2, code: 'USAGE', args: () => ['show', 'disk@2026-02-30'] },
  { title: 'a cipher that is none', status: 2, code: 'USAGE', args: (ws) => ['init', '--repo', ws.at('new'), '--cipher', 'rot13'] },
  { title: 'init with a key file', status: 2, code: 'USAGE', args: (ws) => ['init', '--repo', ws.at('new'), '--key-file', ws.at('disk.img')] },
  {
    title: 'init with a passphrase in two places',
    status: 2,
    code: 'USAGE',
    prepare: (ws) => writeFileSync(ws.at('one'), 'one'),
    args: (ws) => ['init', '--repo', ws.at('new'), '--passphrase-file', ws.at('one'), '--passphrase-command', 'echo another'],
  },
  { title: 'a key that is written below a file', status: 1, code: 'IO_ERROR', args: (ws) => ['key', 'export', 'disk', ws.at('disk.img', 'key')] },
  { title: 'check --no-key of one volume', status: 2, code: 'USAGE', args: () => ['check', 'disk', '--no-key'] },
  {
    title: 'in place and over everything',
    status: 2,
    code: 'USAGE',
    args: (ws) => ['restore', 'disk', ws.at('disk.img'), '--in-place', '--overwrite'],
  },
  { title: 'in place on stdout', status: 2, code: 'USAGE', args: () => ['restore', 'disk', '-', '--in-place'] },
  {
    title: 'a place for a restore that compares nothing',
    status: 2,
    code: 'USAGE',
    args: (ws) => ['restore', 'disk', ws.at('new'), '--at', 'latest'],
  },
  { title: 'in place where nothing is', status: 1, code: 'TARGET_INVALID', args: (ws) => ['restore', 'disk', ws.at('new'), '--in-place'] },
  { title: 'check --no-key of a part', status: 2, code: 'USAGE', args: () => ['check', '--no-key', '--subset', '5%'] },
  { title: 'check of a part that is none', status: 2, code: 'USAGE', args: () => ['check', '--subset', '8/7'] },
  { title: 'check of the newest session and of another', status: 2, code: 'USAGE', args: () => ['check', 'disk@latest', '--newest'] },
  { title: 'a repair by checkers that write nothing', status: 2, code: 'USAGE', args: () => ['check', '--fsck', '--repair'] },
  {
    title: 'check --fsck of the newest session and of another',
    status: 2,
    code: 'USAGE',
    args: () => ['check', 'disk@latest', '--fsck', '--newest'],
  },
  { title: 'check for no time', status: 2, code: 'USAGE', args: () => ['check', '--max-duration', '0m'] },
  { title: 'a document beside the restored bytes', status: 2, code: 'USAGE', args: () => ['restore', 'disk', '-'] },
  { title: 'a folder that is no repository', status: 10, code: 'REPOSITORY_NOT_FOUND', args: (ws) => ['volumes', '--repo', ws.folder('empty')] },
  { title: 'a repository that is not there', status: 10, code: 'REPOSITORY_NOT_FOUND', args: () => ['check', '--no-key', '--repo', '/nowhere'] },
  {
    title: 'a lock of another machine',
    status: 11,
    code: 'LOCKED',
    prepare(ws) {
      const [id = ''] = readdirSync(path.join(ws.repo, 'volumes'));
      const holder = { ...currentProcess(), host: 'elsewhere/0', command: 'sync', since: '2026-11-21T10:00:00.000Z' };
      writeFileSync(path.join(ws.repo, 'locks', `${id}.0.json`), JSON.stringify(holder));
    },
    args: () => ['sync', 'disk'],
  },
  { title: 'another passphrase', status: 12, code: 'WRONG_KEY', args: () => ['volumes'], env: { TIMEBAND_PASSPHRASE: 'wrong' } },
  {
    title: 'a passphrase file that is not there',
    status: 12,
    code: 'PASSPHRASE_MISSING',
    args: () => ['volumes', '--passphrase-file', '/nowhere/passphrase'],
  },
  { title: 'a passphrase command that fails', status: 12, code: 'PASSPHRASE_MISSING', args: () => ['volumes', '--passphrase-command', 'exit 3'] },
  {
    title: 'a repository.json that is cut',
    status: 13,
    code: 'REPOSITORY_CORRUPT',
    prepare: (ws) => writeFileSync(path.join(ws.repo, 'repository.json'), readFileSync(path.join(ws.repo, 'repository.json')).subarray(0, 20)),
    args: () => ['volumes'],
  },
  {
    title: 'a session without its manifest',
    status: 13,
    code: 'RECORD_MISSING',
    prepare: (ws) => void sh('/bin/sh', '-c', `rm ${ws.repo}/volumes/*/sessions/*/manifest`),
    args: (ws) => ['restore', 'disk', ws.at('out.img')],
  },
];

for (const { title, status, code, args, prepare, env = {} } of FAILURES) {
  test.serial(`${title} ends with status ${status}, a message, and a document with the code ${code}`, async (t) => {
    const ws = await ready(t);
    prepare?.(ws);
    const result = await ws.cliIn(env, ...args(ws), '--json');
    t.is(result.status, status, result.stderr);
    const { error } = JSON.parse(result.stdout);
    t.deepEqual(Object.keys(error), ['code', 'message', 'path']);
    t.is(error.code, code);
    t.true(result.stderr.startsWith(`timeband: ${error.message}`));
    t.notRegex(result.stderr, /^\s+at /m, 'no stack trace without --debug');
  });
}

for (const args of [[], ['unknown'], ['volumes', '--unknown'], ['sync'], ['restore', 'disk'], ['diff', 'disk@latest'], ['mount']]) {
  test.serial(`"timeband ${args.join(' ')}" is wrong usage: status 2, and where help is`, async (t) => {
    const ws = workspace(t);
    mkdirSync(ws.repo);
    const { status, stdout, stderr } = await ws.cli(...args);
    t.is(status, 2);
    t.is(stdout, '');
    t.regex(stderr, /--help|Usage:/);
    const withJson = await ws.cli(...args, '--json');
    t.is(withJson.status, 2);
    t.is(JSON.parse(withJson.stdout).error.code, 'USAGE', 'with --json there is a document, too');
  });
}

test.serial('help and version are printed to stdout with status 0', async (t) => {
  const ws = workspace(t);
  for (const command of [
    'init',
    'sync',
    'volumes',
    'sessions',
    'show',
    'restore',
    'check',
    'diff',
    'mount',
    'unmount',
    'open',
    'close',
    'break-lock',
  ]) {
    const { status, stdout, stderr } = await ws.cli(command, '--help');
    t.deepEqual([status, stderr], [0, '']);
    t.regex(stdout, /--repo.*--passphrase-file.*--json.*--quiet/s);
  }
  const help = await ws.cli('--help');
  t.is(help.status, 0);
  for (const status of ['0', '1', '2', '3', '10', '11', '12', '13', '130']) t.regex(help.stdout, new RegExp(`\\b${status}\\b`));
  t.regex((await ws.cli('--version')).stdout, /^\d+\.\d+\.\d+\n$/);
});

test.serial('--debug shows where an error came from, with its causes', async (t) => {
  const ws = await ready(t);
  const { status, stderr } = await ws.cli('sync', 'new=/nowhere/image', '--debug');
  t.is(status, 1);
  t.regex(stderr, /^\s+at .*\n.*ENOENT/ms);
});

test.serial('of several volumes the ones that can be synced are: 3 if some failed, the status of the first if all did', async (t) => {
  const ws = await ready(t);
  const some = await ws.cli('sync', 'disk', 'new=/nowhere/image', `second=${ws.at('disk.img')}`, '--json');
  t.is(some.status, 3);
  const document = JSON.parse(some.stdout);
  t.deepEqual(
    document.results.map((one: { volume: string; status: string }) => [one.volume, one.status]),
    [
      ['disk', 'unchanged'],
      ['second', 'created'],
    ],
  );
  t.deepEqual(
    document.failures.map((one: { volume: string; code: string }) => [one.volume, one.code]),
    [['new', 'SOURCE_NOT_FOUND']],
  );
  t.is((await ws.cli('sync', 'a=/nowhere/a', 'b=/nowhere/b')).status, 1);
});

test.serial('whoever reads the output may go away: the command ends with its own status and says nothing; a full disk is said', async (t) => {
  const ws = await ready(t);
  for (const command of ['volumes', 'sessions', 'show disk@latest', 'check', 'sessions --json']) {
    const { stderr } = await ws.shell(`{ sleep 0.2; timeband ${command}; echo $? > status; } | true`);
    t.deepEqual([readFileSync(ws.at('status'), 'utf8'), stderr], ['0\n', ''], command);
  }
  const full = await ws.shell('timeband sessions > /dev/full');
  t.is(full.status, 1);
  t.regex(full.stderr, /cannot write the output/);
});
