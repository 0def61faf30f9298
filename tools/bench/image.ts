/**
 * The image that is backed up: an ext4 file system filled to 60 % with real files, the rest holes. The same files on the
 * same machine give the same bytes: identifiers, hash seed and all times are fixed.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, rename, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf } from '../../bands/errors.ts';
import { selectFiles } from './file-selection.ts';
import type { Runner } from './measure.ts';
import type { Workspace } from './workspace.ts';

const MIB = 1_048_576;
const FILLED = 0.6;
/** Raised when the way the image is made changes: one of another recipe is not used again. */
const RECIPE = 1;
const EPOCH = 1_700_000_000;
const UUID = '7b3c5f04-6d1e-4a52-9c80-2f4e6a8b0c1d';
const HASH_SEED = '1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f0';
const ROOT_INODE = 2;
const FIRST_FREE_INODE = 11;
const TIMES = ['atime', 'ctime', 'crtime', 'mtime'] as const;

export interface BaseImage {
  readonly file: string;
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  readonly files: number;
  readonly sha256: string;
}

interface Description extends BaseImage {
  readonly recipe: number;
  readonly mtimeMs: number;
}

/** The image of that size in the work folder, made if it is not there yet. */
export async function prepareImage(workspace: Workspace, runner: Runner, sizeMiB: number): Promise<BaseImage> {
  const file = path.join(workspace.root, `image-${sizeMiB}.img`);
  const description = `${file}.json`;
  const known = await readDescription(description);
  const found = await stat(file).catch(() => undefined);
  if (known?.recipe === RECIPE && known.file === file && found?.size === known.sizeBytes && found.mtimeMs === known.mtimeMs) return known;
  const temporary = workspace.path('new.img');
  const files = await makeImage(workspace, runner, { file: temporary, sizeBytes: sizeMiB * MIB });
  const sha256 = await hashFile(temporary);
  await rename(temporary, file);
  const { size, blocks, mtimeMs } = await stat(file);
  const made: Description = { file, sizeBytes: size, allocatedBytes: blocks * 512, files, sha256, recipe: RECIPE, mtimeMs };
  await writeFile(description, JSON.stringify(made));
  return made;
}

async function readDescription(file: string): Promise<Description | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

async function makeImage(workspace: Workspace, runner: Runner, image: { readonly file: string; readonly sizeBytes: number }): Promise<number> {
  const stage = await workspace.fresh('stage');
  const { files } = await selectFiles(image.sizeBytes * FILLED, workspace.root);
  const list = workspace.path('files');
  await writeFile(list, files.map((file) => `${file}\0`).join(''));
  const copy = 'tar -C / -cf - --null --no-recursion --ignore-failed-read -T "$1" 2>/dev/null | tar -C "$2" -xf - && test -n "$(ls -A "$2")"';
  await runner.run({ argv: ['sh', '-c', copy, 'sh', list, stage] });
  await writeFile(image.file, '');
  await truncate(image.file, image.sizeBytes);
  const extended = `hash_seed=${HASH_SEED},nodiscard,root_owner=0:0`;
  const env = { E2FSPROGS_FAKE_TIME: String(EPOCH) };
  await runner.run({
    argv: ['mke2fs', '-q', '-F', '-t', 'ext4', '-b', '4096', '-m', '0', '-L', 'bench', '-U', UUID, '-E', extended, '-d', stage, image.file],
    env,
  });
  await workspace.remove(stage);
  await fixTimes(workspace, runner, { file: image.file, env });
  await runner.run({ argv: ['fallocate', '--dig-holes', image.file] });
  return files.length;
}

/** mke2fs takes over times of the staged copies, which differ from run to run: every inode gets the same. */
async function fixTimes(
  workspace: Workspace,
  runner: Runner,
  image: { readonly file: string; readonly env: Readonly<Record<string, string>> },
): Promise<void> {
  const { stdout } = await runner.run({ argv: ['dumpe2fs', '-h', image.file] });
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(stdout)?.[1]);
  const last = field('Inode count') - field('Free inodes');
  const script = workspace.path('times');
  const lines: string[] = [];
  for (let inode = ROOT_INODE; inode <= last; inode = inode === ROOT_INODE ? FIRST_FREE_INODE : inode + 1) {
    for (const time of TIMES) lines.push(`sif <${inode}> ${time} @${EPOCH}`, `sif <${inode}> ${time}_extra 0`);
  }
  await writeFile(script, `${lines.join('\n')}\n`);
  await runner.run({ argv: ['debugfs', '-w', '-f', script, image.file], env: image.env });
}

async function hashFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: MIB })) hash.update(chunk);
  return hash.digest('hex');
}
