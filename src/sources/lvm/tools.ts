/** Running LVM's, device-mapper's and the thin-provisioning tools without a shell. */
import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { errnoOf, TimebandError } from '../../../bands/errors.ts';

/** Debian's package of each program. */
const PACKAGES = { lvm: 'lvm2', dmsetup: 'dmsetup', thin_delta: 'thin-provisioning-tools' } as const;
export type Tool = keyof typeof PACKAGES;

/** Longer than other LVM commands hold the lock of a volume group, or a metadata walk takes on a slow disk. */
const DEFAULT_TIMEOUT_MS = 300_000;
const DELTA_TIMEOUT_MS = 3_600_000;
const MAX_STDERR_LENGTH = 65_536;

/** Where such programs are, also if the user's PATH leaves them out (cron's does). */
function searchPath(): string {
  return [process.env['PATH'], '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'].filter(Boolean).join(':');
}

export async function isInstalled(tool: Tool): Promise<boolean> {
  for (const folder of searchPath().split(':')) {
    try {
      await access(path.join(folder, tool), constants.X_OK);
      return true;
    } catch {
      // the next one
    }
  }
  return false;
}

export function missingTool(tool: Tool): string {
  return `${tool} is not installed (Debian: apt-get install ${PACKAGES[tool]})`;
}

/** Runs a program and gives what it printed. @throws TimebandError TOOL_MISSING, TOOL_FAILED with what it said */
export async function runTool(tool: Tool, args: readonly string[]): Promise<string> {
  const lines: string[] = [];
  await runLines(tool, args, (line) => lines.push(line));
  return lines.join('\n');
}

/**
 * Runs a program and hands on each line that it prints. It is in a process group of its own: Ctrl-C on the terminal ends
 * the sync between two commands, not one of them halfway. LVM holds SIGTERM off while devices are suspended.
 * @throws TimebandError TOOL_MISSING, TOOL_FAILED; or what `onLine` throws
 */
export async function runLines(tool: Tool, args: readonly string[], onLine: (line: string) => void): Promise<void> {
  const env = { ...process.env, PATH: searchPath(), LC_ALL: 'C', LVM_SUPPRESS_FD_WARNINGS: '1' };
  const timeoutMs = tool === 'thin_delta' ? DELTA_TIMEOUT_MS : DEFAULT_TIMEOUT_MS;
  const child = spawn(tool, args, { env, detached: true, stdio: ['ignore', 'pipe', 'pipe'], timeout: timeoutMs });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (stderr.length < MAX_STDERR_LENGTH) stderr += text;
  });
  const ended = new Promise<{ readonly status: number | null; readonly error?: unknown }>((resolve) => {
    child.once('error', (error) => resolve({ status: null, error }));
    child.once('close', (status) => resolve({ status }));
  });
  try {
    for await (const line of createInterface({ input: child.stdout, crlfDelay: Number.POSITIVE_INFINITY })) onLine(line);
  } catch (error) {
    child.kill();
    await ended;
    throw error;
  }
  const { status, error } = await ended;
  if (status === 0) return;
  if (errnoOf(error) === 'ENOENT') throw new TimebandError(`${missingTool(tool)}.`, { code: 'TOOL_MISSING', cause: error });
  const said = complaint(stderr) || (error === undefined ? `it ended with ${status === null ? 'a signal' : `status ${status}`}` : String(error));
  throw new TimebandError(`${[tool, args[0]].join(' ')} failed: ${said}`, { code: 'TOOL_FAILED', cause: error });
}

/** What a program complained of: LVM's warnings come with every command and are left out, unless there is nothing else. */
export function complaint(stderr: string): string {
  const lines = stderr
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
  const errors = lines.filter((line) => !line.startsWith('WARNING:'));
  return (errors.length > 0 ? errors : lines).slice(0, 4).join(' ');
}
