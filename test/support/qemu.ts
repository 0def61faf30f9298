/** QEMU's own tools: images, writes into them, servers. What is started ends with the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { ended } from './processes.ts';
import { sh } from './workspace.ts';

/** Makes an empty qcow2 image. */
export function makeQcow2(file: string, sizeBytes: number, ...args: string[]): void {
  sh('qemu-img', 'create', '-q', '-f', 'qcow2', ...args, file, String(sizeBytes));
}

/** Runs commands of qemu-io on an image, as a guest would write. */
export function qemuIo(file: string, ...commands: string[]): void {
  const said = sh('qemu-io', '-f', 'qcow2', '-d', 'unmap', ...commands.flatMap((command) => ['-c', command]), file);
  if (/failed|error/i.test(said)) throw new Error(said);
}

/** The disk in an image, by QEMU's own reading. */
export function diskOf(image: string, copy: string): Uint8Array {
  sh('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', image, copy);
  const bytes = readFileSync(copy);
  rmSync(copy);
  return bytes;
}

interface Bitmap {
  readonly name: string;
  readonly flags: readonly string[];
}

export function bitmapsOf(image: string): Bitmap[] {
  return JSON.parse(sh('qemu-img', 'info', '--output=json', '-U', image))['format-specific'].data.bitmaps ?? [];
}

/** Starts a program that listens on a socket and waits until it does; killed when the test ends. */
export async function serve(t: ExecutionContext, socket: string, program: string, ...args: string[]): Promise<ChildProcess> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  const end = ended(child);
  while (!existsSync(socket)) {
    if (child.exitCode !== null) throw new Error(`${program}: ${(await end).stderr}`);
    await sleep(5);
  }
  return child;
}

/** qemu-nbd that stays for many clients. */
export async function serveImage(t: ExecutionContext, socket: string, ...args: string[]): Promise<ChildProcess> {
  return await serve(t, socket, 'qemu-nbd', '--persistent', '--shared=8', '--socket', socket, ...args);
}

/** Processes whose command line has `text` in it. */
export function processesNaming(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && commandLine(name).includes(text))
    .map(Number);
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return ''; // it has just ended
  }
}

/** Folders of exporters' sockets. */
export function exporterFolders(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.startsWith('timeband-nbd-'));
}
