import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import type { Lab } from '../../support/library.ts';
import { MAIN, mounted, mountLab, mountsUnder, mountTest, nothingLeft, processesOf, until, writeMixed } from './mount-support.ts';
import type { ReaderReport, ReaderTask } from './random-reader.ts';

const READER = fileURLToPath(new URL('./random-reader.js', import.meta.url));
const pool: BandPool = new BandPool(2);
test.after.always(() => pool.close());

/** Volumes v0, v1 … of 100 bands, each from its image img0, img1 … */
async function setScene(t: ExecutionContext, volumes: number): Promise<Lab> {
  const space = await mountLab(t, pool);
  for (let i = 0; i < volumes; i++) {
    writeMixed(space.at(`img${i}`), `volume ${i}`, 100);
    await space.sync(`v${i}`, space.at(`img${i}`));
  }
  return space;
}

async function readAtRandom(task: ReaderTask): Promise<ReaderReport> {
  const child = spawn(process.execPath, [READER, JSON.stringify(task)], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  await once(child, 'close');
  return JSON.parse(output);
}

/** Runs readers at the same time over the volumes of a mount in turn, and puts together what they found. */
async function readTogether(
  space: Lab,
  folder: string,
  options: { readonly readers: number; readonly reads: number; readonly isDirect: boolean },
): Promise<ReaderReport> {
  const volumes = readdirSync(folder).length;
  const reports = await Promise.all(
    Array.from({ length: options.readers }, (_, i) =>
      readAtRandom({
        file: `${folder}/v${i % volumes}/latest/image`,
        reference: space.at(`img${i % volumes}`),
        reads: options.reads,
        seed: i,
        isDirect: options.isDirect,
      }),
    ),
  );
  return { wrong: reports.flatMap(({ wrong }) => wrong), errors: [...new Set(reports.flatMap(({ errors }) => errors))] };
}

/** A server in the foreground that may have so many files open and no more. */
async function mountedWithLimit(t: ExecutionContext, space: Lab, openFiles: number): Promise<string> {
  const folder = space.folder('mnt');
  const script = `ulimit -n ${openFiles}; exec "$0" "$@"`;
  const server = spawn('sh', ['-c', script, process.execPath, MAIN, 'mount', '--foreground', folder], {
    env: space.env,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.teardown(() => server.kill('SIGKILL'));
  await once(server.stdout, 'data');
  server.stdout.resume();
  return folder;
}

mountTest('thirty processes that read at random at the same time get the right bytes', async (t) => {
  const space = await setScene(t, 1);
  const folder = await mounted(space);
  t.deepEqual(await readTogether(space, folder, { readers: 30, reads: 20, isDirect: false }), { wrong: [], errors: [] });
  await space.ok('unmount', folder);
  await nothingLeft(t, space);
});

mountTest('thirty processes that read past the page cache, so that all requests reach the server, get the right bytes', async (t) => {
  const space = await setScene(t, 1);
  const folder = await mounted(space);
  t.deepEqual(await readTogether(space, folder, { readers: 30, reads: 40, isDirect: true }), { wrong: [], errors: [] });
  await space.ok('unmount', folder);
  await nothingLeft(t, space);
});

mountTest('a server that may open 64 files serves random reads of one image', async (t) => {
  const space = await setScene(t, 1);
  const folder = await mountedWithLimit(t, space, 64);
  t.deepEqual(await readTogether(space, folder, { readers: 4, reads: 60, isDirect: true }), { wrong: [], errors: [] });
  await space.ok('unmount', folder);
  await nothingLeft(t, space);
});

mountTest('a server that may open 64 files serves random reads of four images at once', async (t) => {
  const space = await setScene(t, 4);
  const folder = await mountedWithLimit(t, space, 64);
  t.deepEqual(await readTogether(space, folder, { readers: 8, reads: 60, isDirect: true }), { wrong: [], errors: [] });
  await space.ok('unmount', folder);
  await nothingLeft(t, space);
});

mountTest('a server that runs out of files never gives wrong bytes, can be unmounted, and ends', async (t) => {
  const space = await setScene(t, 4);
  const folder = await mountedWithLimit(t, space, 64);
  const { wrong } = await readTogether(space, folder, { readers: 8, reads: 60, isDirect: true });
  t.deepEqual(wrong, []);
  await until('the mount can be taken down', async () => (await space.cli('unmount', folder)).status === 0 || mountsUnder(space.root).length === 0);
  t.deepEqual(mountsUnder(space.root), []);
  await until('the process has ended', () => processesOf(space).length === 0);
});
