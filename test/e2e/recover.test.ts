/** The recovery script on whole repositories: those that every version must open, and new ones of the real program. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { Repository } from '../../src/repository.ts';
import { fill } from '../support/bytes.ts';
import { FAST_SCRYPT } from '../support/library.ts';
import { firstWrongByte, type Part, writeParts } from '../support/parts.ts';
import { judgeVectors, RECOVER, recover } from '../support/recover.ts';
import { PASSPHRASE, sh, type Workspace, workspace } from '../support/workspace.ts';

interface Golden {
  readonly passphrase: string;
  readonly sessions: readonly { readonly volume: string; readonly session: string; readonly sha256: string; readonly tags: readonly string[] }[];
}

function fixture(name: string): string {
  return fileURLToPath(new URL(`../../../test/fixtures/${name}`, import.meta.url));
}

for (const name of ['aes-256-gcm', 'chacha20-poly1305'].flatMap((cipher) => [`repository-v1-${cipher}`, `repository-padded-${cipher}`])) {
  for (const zstd of ['module', 'program'] as const) {
    test(`${name} is restored byte for byte, zstd by the ${zstd}`, async (t) => {
      const ws = workspace(t);
      const repo = fixture(name);
      const golden: Golden = JSON.parse(readFileSync(`${repo}.json`, 'utf8'));
      const options = { zstd, env: { TIMEBAND_PASSPHRASE: golden.passphrase } };
      const { stdout } = await recover(ws, ['list', repo], options);
      for (const { volume, session, sha256, tags } of golden.sessions) {
        t.true([volume, session, ...tags].every((word) => stdout.includes(word)));
        const target = ws.at(`${session}.img`);
        t.is((await recover(ws, ['restore', repo, `${volume}@${session}`, target], options)).status, 0);
        t.is(createHash('sha256').update(readFileSync(target)).digest('hex'), sha256);
      }
      t.is((await recover(ws, ['verify', repo], options)).status, 0);
    });
  }
}

test('the recovery script takes every test vector of the format and refuses every fault', (t) => {
  const { wrong, count } = judgeVectors();
  t.deepEqual(wrong, []);
  t.true(count > 250);
});

const MIB = 1_048_576;

interface Made {
  readonly name: string;
  readonly bandSize: string;
  readonly sizeBytes: number;
  readonly pad?: string;
  /** What is written before each session. */
  readonly steps: readonly (readonly Part[])[];
}

/** Text that compresses, at half a chunk's border, with zeros behind. */
function text(label: string, length: number): Uint8Array {
  return new Uint8Array(Buffer.from(`${label}\n`.repeat(Math.ceil(length / (label.length + 1))))).subarray(0, length);
}

const VOLUMES: readonly Made[] = [
  {
    name: 'appvms/work/private',
    bandSize: '256K',
    sizeBytes: 5 * MIB + 3 * 512,
    steps: [
      [
        { at: 0, bytes: fill('noise', 400_000) },
        { at: 2 * MIB + 70_000, bytes: text('some text', 300_001) },
        { at: 5 * MIB, bytes: fill('the end', 3 * 512) },
      ],
      [
        { at: 131_072, bytes: new Uint8Array(MIB) },
        { at: 4 * MIB, bytes: text('more', 512) },
      ],
      [],
    ],
  },
  {
    name: 'disk',
    bandSize: '2M',
    sizeBytes: 9 * MIB + 512,
    steps: [
      [
        { at: 2 * MIB, bytes: fill('a whole band', 2 * MIB) },
        { at: 7 * MIB, bytes: text('text', 2 * MIB + 512) },
      ],
      [{ at: 3 * MIB, bytes: text('changed', 4096) }],
    ],
  },
  {
    name: 'padded',
    bandSize: '256K',
    sizeBytes: 2 * MIB + 512,
    pad: 'padme',
    steps: [
      [
        { at: 0, bytes: text('some text', 300_001) },
        { at: MIB, bytes: fill('noise', 400_000) },
      ],
      [{ at: 2 * MIB, bytes: text('the end', 512) }],
    ],
  },
  { name: 'in-a-bucket', bandSize: '512K', sizeBytes: 3 * MIB, pad: '512K', steps: [[{ at: 600_000, bytes: text('some text', MIB) }]] },
  { name: 'empty/zeros', bandSize: '2M', sizeBytes: 4 * MIB, steps: [[]] },
  ...['1M', '4M', '8M', '16M', '32M', '64M'].map((bandSize) => ({
    name: `bands-of-${bandSize}`,
    bandSize,
    sizeBytes: 66 * MIB + 512,
    steps: [
      [
        { at: 3 * MIB + 500, bytes: text('some text', 300_000) },
        { at: 65 * MIB, bytes: fill('noise', MIB + 512) },
      ],
    ],
  })),
];

/** Syncs every volume step by step; gives each session and the image that it must give back. */
async function syncAll(ws: Workspace): Promise<{ title: string; image: string }[]> {
  const made: { title: string; image: string }[] = [];
  for (const { name, bandSize, sizeBytes, pad, steps } of VOLUMES) {
    const live = ws.at('live.img');
    rmSync(live, { force: true });
    for (const [i, parts] of steps.entries()) {
      writeParts(live, sizeBytes, parts);
      const [result] = (
        await ws.json(
          'sync',
          `${name}=${live}`,
          '--force',
          ...(i === 0 ? ['--band-size', bandSize, ...(pad === undefined ? [] : ['--pad', pad])] : []),
        )
      ).results;
      const image = ws.at(`${name.replaceAll('/', '-')}-${i}.img`);
      sh('cp', '--sparse=always', live, image);
      made.push({ title: `${name}@${result.session}`, image });
    }
  }
  return made;
}

for (const cipher of ['aes-256-gcm', 'chacha20-poly1305'] as const) {
  test(`a repository with ${cipher} brings the script that restores every session of it`, async (t) => {
    const ws = workspace(t);
    await Repository.init(ws.repo, { passphrase: PASSPHRASE, cipher, scrypt: FAST_SCRYPT });
    const script = path.join(ws.repo, 'recover.py');
    t.is(readFileSync(script, 'utf8'), readFileSync(RECOVER, 'utf8'));
    t.regex(readFileSync(path.join(ws.repo, 'README.txt'), 'utf8'), /python3 recover\.py list/);
    for (const { title, image } of await syncAll(ws)) {
      for (const zstd of ['module', 'program'] as const) {
        const target = ws.at('restored.img');
        t.is((await recover(ws, ['restore', title, target], { script, zstd })).status, 0, title);
        t.is(firstWrongByte(target, image), undefined, title);
        t.true(statSync(target).blocks <= statSync(image).blocks + 64, 'zeros take no space');
        t.is(statSync(target).mode & 0o777, 0o600);
        rmSync(target);
      }
    }
    t.is((await recover(ws, ['verify'], { script })).status, 0);
    const list = await recover(ws, ['list'], { script });
    t.is(list.status, 0);
    for (const { name } of VOLUMES) t.true(list.stdout.includes(name));
    t.is((await ws.json('check')).findings.length, 0);
    t.is((await ws.json('check', '--no-key')).findings.length, 0);
    rmSync(script);
    t.is((await ws.json('check', '--no-key')).findings.length, 0, 'a repository of before the script stays valid');
  });
}

test('a session is named by its id, the beginning of it, or latest; the newest one if by nothing', async (t) => {
  const ws = workspace(t);
  const repo = fixture('repository-v1-aes-256-gcm');
  const env = { TIMEBAND_PASSPHRASE: 'golden passphrase' };
  const restored = async (spec: string): Promise<string> => {
    const { status, stdout } = await recover(ws, ['restore', repo, `appvms/golden${spec}`, ws.at('out.img')], { env });
    rmSync(ws.at('out.img'), { force: true });
    return status === 0 ? (/golden@(\S+)$/m.exec(stdout)?.[1] ?? '') : `status ${status}`;
  };
  t.is(await restored(''), '20261121T130925.853Z');
  t.is(await restored('@latest'), '20261121T130925.853Z');
  t.is(await restored('@20261121T130921.485Z'), '20261121T130921.485Z');
  t.is(await restored('@20261121T130921'), '20261121T130921.485Z');
  t.is(await restored('@20261121T1309'), 'status 1', 'two sessions begin like this');
  t.is(await restored('@2025'), 'status 1');
  t.is(await restored('@'), 'status 2');
});

interface Refusal {
  readonly title: string;
  readonly status: number;
  readonly args: (ws: Workspace) => readonly string[];
  readonly prepare?: (ws: Workspace) => void;
  readonly env?: NodeJS.ProcessEnv;
}

const WRONG: NodeJS.ProcessEnv = { TIMEBAND_PASSPHRASE: 'another passphrase' };

function rewrite(file: string, change: (text: string) => string): void {
  writeFileSync(file, change(readFileSync(file, 'utf8')));
}

function slotOf(ws: Workspace): string {
  const keys = path.join(ws.repo, 'keys');
  return path.join(keys, readdirSync(keys)[0] ?? '');
}

const REFUSALS: readonly Refusal[] = [
  { title: 'a wrong passphrase', status: 12, args: (ws) => ['list', ws.repo], env: WRONG },
  { title: 'no passphrase and no terminal', status: 12, args: (ws) => ['list', ws.repo], env: { TIMEBAND_PASSPHRASE: undefined } },
  { title: 'no repository', status: 10, args: (ws) => ['list', ws.folder('nothing')] },
  { title: 'a folder that does not exist', status: 10, args: (ws) => ['list', ws.at('nowhere')] },
  { title: 'no command', status: 2, args: () => [] },
  { title: 'too few arguments', status: 2, args: (ws) => ['restore', ws.repo] },
  { title: 'too many arguments', status: 2, args: (ws) => ['list', ws.repo, 'disk'] },
  { title: '--size without --salvage', status: 2, args: (ws) => ['restore', ws.repo, 'other', ws.at('out.img'), '--size', '512'] },
  { title: 'an unknown volume', status: 1, args: (ws) => ['restore', ws.repo, 'unknown', ws.at('out.img')] },
  { title: 'a target that exists', status: 1, args: (ws) => ['restore', ws.repo, 'other', ws.at('there.img')] },
  { title: 'a target that is a dangling link', status: 1, args: (ws) => ['restore', ws.repo, 'other', ws.at('link.img')] },
  { title: 'a target within the repository', status: 1, args: (ws) => ['restore', ws.repo, 'other', path.join(ws.repo, 'out.img')] },
  {
    title: 'a cipher that was exchanged in repository.json',
    status: 12,
    args: (ws) => ['list', ws.repo],
    prepare: (ws) => rewrite(path.join(ws.repo, 'repository.json'), (json) => json.replace('aes-256-gcm', 'chacha20-poly1305')),
  },
  {
    title: 'other spacing in repository.json',
    status: 13,
    args: (ws) => ['list', ws.repo],
    prepare: (ws) => rewrite(path.join(ws.repo, 'repository.json'), (json) => json.replace('  "id"', '   "id"')),
  },
  {
    title: 'a field twice in repository.json',
    status: 13,
    args: (ws) => ['list', ws.repo],
    prepare: (ws) => rewrite(path.join(ws.repo, 'repository.json'), (json) => json.replace('  "id"', '  "version": 1,\n  "id"')),
  },
  {
    title: 'a later version of the format',
    status: 1,
    args: (ws) => ['list', ws.repo],
    prepare: (ws) => rewrite(path.join(ws.repo, 'repository.json'), (json) => json.replace('"version": 1', '"version": 2')),
  },
  {
    title: 'a key slot that asks for 4 GiB of memory',
    status: 13,
    args: (ws) => ['list', ws.repo],
    prepare: (ws) => rewrite(slotOf(ws), (json) => json.replace('"logN": 17', '"logN": 21').replace('"r": 8', '"r": 16')),
  },
  {
    title: 'a key slot of a kind that is not known',
    status: 13,
    args: (ws) => ['list', ws.repo],
    prepare: (ws) => rewrite(slotOf(ws), (json) => json.replace('"passphrase"', '"telepathy"')),
  },
  { title: 'no key slots', status: 13, args: (ws) => ['list', ws.repo], prepare: (ws) => rmSync(path.join(ws.repo, 'keys'), { recursive: true }) },
  { title: 'no volumes', status: 13, args: (ws) => ['list', ws.repo], prepare: (ws) => rmSync(path.join(ws.repo, 'volumes'), { recursive: true }) },
  {
    title: 'a link in the place of the volumes',
    status: 13,
    args: (ws) => ['verify', ws.repo],
    prepare: (ws) => {
      sh('mv', path.join(ws.repo, 'volumes'), ws.at('elsewhere'));
      sh('ln', '-s', ws.at('elsewhere'), path.join(ws.repo, 'volumes'));
    },
  },
];

for (const { title, status, args, prepare, env = {} } of REFUSALS) {
  test(`${title}: exit status ${status}, and nothing is written`, async (t) => {
    const ws = workspace(t);
    sh('cp', '-a', fixture('repository-v1-aes-256-gcm'), ws.repo);
    writeFileSync(ws.at('there.img'), 'there');
    sh('ln', '-s', ws.at('nowhere', 'file'), ws.at('link.img'));
    prepare?.(ws);
    const words = args(ws);
    const before = sh('find', ws.root, '-printf', '%p %s %T@\n');
    const result = await recover(ws, words, { env: { TIMEBAND_PASSPHRASE: 'golden passphrase', ...env } });
    t.is(result.status, status, result.stderr);
    t.true(result.stderr.length > 0);
    t.false(result.stderr.includes('Traceback'));
    t.is(sh('find', ws.root, '-printf', '%p %s %T@\n'), before);
  });
}

test('a damaged key slot does not hinder a passphrase that opens another', async (t) => {
  const ws = workspace(t);
  sh('cp', '-a', fixture('repository-v1-aes-256-gcm'), ws.repo);
  writeFileSync(path.join(ws.repo, 'keys', '0000000000000000.json'), '{}\n');
  t.is((await recover(ws, ['list', ws.repo], { env: { TIMEBAND_PASSPHRASE: 'golden passphrase' } })).status, 0);
});

test('a passphrase is taken in any Unicode form, from a file, too', async (t) => {
  const ws = workspace(t);
  const passphrase = 'Blåbær\u0308';
  await ws.cliIn({ TIMEBAND_PASSPHRASE: passphrase }, 'init');
  writeFileSync(ws.at('passphrase'), `${passphrase.normalize('NFD')}\n`);
  t.is((await recover(ws, ['list', ws.repo, '--passphrase-file', ws.at('passphrase')], { env: { TIMEBAND_PASSPHRASE: PASSPHRASE } })).status, 0);
  t.is((await recover(ws, ['list', ws.repo])).status, 12);
  t.false(existsSync(ws.at('out.img')));
});
