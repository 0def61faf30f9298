/** Runs tools/recover.py, as a user without Timeband would. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ByteRange } from '../../bands/format/geometry.ts';
import type { CliResult, Workspace } from './workspace.ts';

/** Debian's, whose packages tools/setup.sh installs; another Python may come first in PATH. */
const PYTHON = '/usr/bin/python3';
export const RECOVER: string = fileURLToPath(new URL('../../../tools/recover.py', import.meta.url));
const HANGS_AFTER_MS = 90_000;

export interface RecoverOptions {
  /** The file to run; that of the checkout unless said otherwise. */
  readonly script?: string;
  /** How frames are decompressed: with Python's package, or with the program because the package is missing. */
  readonly zstd?: 'module' | 'program';
  /** Changes of the environment; undefined takes a variable away. */
  readonly env?: NodeJS.ProcessEnv;
}

/** A folder in which Python finds no module `zstandard`, whatever is installed. */
function blockModule(ws: Workspace): string {
  const folder = ws.at('blocked');
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'zstandard.py'), 'raise ImportError("blocked by the test")\n');
  return folder;
}

/** Runs the script without a terminal, so that it cannot ask for a passphrase. */
export function recover(ws: Workspace, args: readonly string[], options: RecoverOptions = {}): Promise<CliResult> {
  const blocked = options.zstd === 'program' ? { PYTHONPATH: blockModule(ws) } : {};
  const env = { ...ws.env, PYTHONDONTWRITEBYTECODE: '1', ...blocked, ...options.env };
  return new Promise((resolve) => {
    const child = execFile(
      'setsid',
      ['--wait', PYTHON, options.script ?? RECOVER, ...args],
      { env, cwd: ws.root, maxBuffer: 67_108_864, timeout: HANGS_AFTER_MS, killSignal: 'SIGKILL' },
      (_error, stdout, stderr) => resolve({ status: child.exitCode, stdout, stderr }),
    );
  });
}

/** Every test vector of the format that the script judges wrong, and how many it judged. */
export function judgeVectors(): { readonly wrong: string[]; readonly count: number } {
  const program = fileURLToPath(new URL('../../../test/support/recover-vectors.py', import.meta.url));
  const output = execFileSync(PYTHON, [program], { encoding: 'utf8' });
  return { wrong: output.match(/^wrong: .*$/gm) ?? [], count: Number(/^(\d+) looked at$/m.exec(output)?.[1]) };
}

/** The ranges that a restore lists as missing. */
export function missingRanges({ stderr }: CliResult): ByteRange[] {
  return [...stderr.matchAll(/^missing (\d+) (\d+) /gm)].map(([, offset, length]) => ({ offset: Number(offset), length: Number(length) }));
}

/** The sessions that `verify` names, as VOLUME@SESSION, each once. */
export function damagedTitles({ stdout }: CliResult): string[] {
  return [...new Set([...stdout.matchAll(/^damaged (\S+@\S+): /gm)].map(([, title]) => title ?? ''))].sort();
}
