/** Files that a command writes for the user: private, durable, and never over one that is there unless that was said. */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, TimebandError } from '../../bands/errors.ts';
import { syncDirectory, writeNewFile } from '../../bands/store/files.ts';

/** @param advice what to do if the file exists: "Name another file." @throws TimebandError TARGET_EXISTS, IO_ERROR */
export async function writeOutput(file: string, bytes: Uint8Array, advice: string): Promise<void> {
  try {
    await writeNewFile(file, bytes);
  } catch (error) {
    const isTaken = error instanceof TimebandError && errnoOf(error.cause) === 'EEXIST';
    if (!isTaken) await rm(file, { force: true }).catch(() => undefined); // it is ours, and not whole; mostly there is none
    if (!isTaken) throw error;
    throw new TimebandError(`${file} exists; nothing was written. ${advice}`, { code: 'TARGET_EXISTS', cause: error, path: file });
  }
  await syncDirectory(path.dirname(path.resolve(file)));
}
