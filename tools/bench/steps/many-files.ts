/** Walking a file system of many small files in an opened session, beside the same image by a loop device. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { attempt, type BenchContext } from '../context.ts';
import { medianUsage, type Usage } from '../measure.ts';
import { unmountPatiently } from '../mounts.ts';
import { TimebandPeer } from '../peers/timeband.ts';
import { PLAIN_LOOP, STEP } from '../step-titles.ts';

const FOLDERS = 600;
const FILES_PER_FOLDER = 100;
const IMAGE_MIB = 512;
const ROUNDS = 3;
const VOLUME = 'files';

export async function manyFiles(context: BenchContext): Promise<void> {
  const row = { step: STEP.findFiles, tool: 'timeband' };
  if (process.getuid?.() !== 0) return context.report.add({ ...row, note: 'left out: needs root' });
  await attempt(context, row, async () => {
    const { runner, workspace } = context;
    const directory = await workspace.fresh('files');
    const timeband = new TimebandPeer(directory);
    const image = await makeImage(context, directory);
    await runner.run(timeband.init());
    await runner.run(timeband.command('sync', `${VOLUME}=${image}`, '--quiet'));
    const ways: readonly Way[] = [
      {
        tool: 'timeband',
        mount: (point) => runner.run(timeband.command('open', VOLUME, point, '--quiet')),
        unmount: (point) => runner.run(timeband.command('close', point, '--quiet')),
      },
      { tool: PLAIN_LOOP, mount: (point) => runner.run({ argv: ['mount', '-o', 'loop,ro,noload', image, point] }), unmount: unmountPatiently },
    ];
    await compare(context, ways);
    await workspace.remove(directory);
  });
}

interface Way {
  readonly tool: string;
  readonly mount: (point: string) => Promise<unknown>;
  readonly unmount: (point: string) => Promise<unknown>;
}

async function makeImage({ runner }: BenchContext, directory: string): Promise<string> {
  const stage = path.join(directory, 'stage');
  for (let folder = 0; folder < FOLDERS; folder++) {
    await mkdir(path.join(stage, String(folder)), { recursive: true });
    for (let file = 0; file < FILES_PER_FOLDER; file++) await writeFile(path.join(stage, String(folder), `file-${file}`), `${folder}/${file}\n`);
  }
  const image = path.join(directory, 'files.img');
  await runner.run({ argv: ['mke2fs', '-q', '-F', '-t', 'ext4', '-N', '80000', '-d', stage, image, `${IMAGE_MIB}M`] });
  await runner.run({ argv: ['rm', '-r', stage] });
  return image;
}

async function compare(context: BenchContext, ways: readonly Way[]): Promise<void> {
  const { runner, report, workspace } = context;
  const point = await workspace.fresh('found');
  const usages = new Map<string, Usage[]>(ways.map(({ tool }) => [tool, []]));
  let load = 0;
  let entries = 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (const { tool, mount, unmount } of ways) {
      load = Math.max(load, await runner.makeCold());
      await mount(point);
      try {
        const { stdout, usage } = await runner.run({ argv: ['find', point, '-printf', '%s\n'] });
        entries = stdout.split('\n').length - 1;
        usages.get(tool)?.push(usage);
      } finally {
        await unmount(point);
      }
    }
  }
  for (const [tool, runs] of usages) {
    const all = runs.map(({ wallMs }) => (wallMs / 1000).toFixed(2)).join(', ');
    report.add({ step: STEP.findFiles, tool, usage: medianUsage(runs), load, note: `${entries} entries; cold; median of ${all} s` });
  }
}
