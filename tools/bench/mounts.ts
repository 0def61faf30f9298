/** Mounts below a folder: finding them, and taking them down whatever happened. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const BUSY_TRIES = 25;
const BUSY_WAIT_MS = 200;

/** Mount points at or below `directory`, the innermost first. */
export function mountsBelow(directory: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => (line.split(' ')[4] ?? '').replaceAll(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))))
    .filter((point) => point === directory || point.startsWith(`${directory}/`))
    .reverse();
}

/** The command that unmounts: FUSE mounts of other users than root need fusermount. */
export function unmountCommand(directory: string): string[] {
  return process.getuid?.() === 0 ? ['umount', directory] : ['fusermount', '-u', directory];
}

/** Unmounts; a mount that is busy for a moment longer is waited for, and then taken out of the tree at least. */
export async function unmountPatiently(directory: string): Promise<void> {
  for (let i = 0; i < BUSY_TRIES; i++) {
    const [tool = '', ...args] = unmountCommand(directory);
    const isDone = await run(tool, args).then(
      () => true,
      () => !mountsBelow(directory).includes(directory),
    );
    if (isDone) return;
    await sleep(BUSY_WAIT_MS);
  }
  await run(process.getuid?.() === 0 ? 'umount' : 'fusermount', process.getuid?.() === 0 ? ['-l', directory] : ['-uz', directory]).catch(
    () => undefined,
  );
}

/** Takes down every mount at or below `directory`. @returns those that are still there */
export async function unmountBelow(directory: string): Promise<string[]> {
  for (const point of mountsBelow(directory)) await unmountPatiently(point);
  return mountsBelow(directory);
}
