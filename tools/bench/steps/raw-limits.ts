/** What this machine can do at best, with no backup tool in the way. */
import { createCipheriv } from 'node:crypto';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { attempt, type BenchContext, formatRate } from '../context.ts';
import { loadAverage, type Usage } from '../measure.ts';
import { MountServer } from '../mount-server.ts';
import { existing } from '../peers/peer.ts';
import { RANDOM_READS, readRandomly } from '../random-reads.ts';

const NULL_FUSE = fileURLToPath(new URL('../children/null-fuse.js', import.meta.url));
const CHUNK_BYTES = 131_072;
const SEALED_BYTES = 2 * 1024 ** 3;
const NULL_READ_MIB = 1024;
const TOOL = 'raw';

export async function rawLimits(context: BenchContext): Promise<void> {
  const parts: readonly (readonly [step: string, run: (context: BenchContext) => Promise<void>])[] = [
    ['cold read (dd)', readCold],
    ['cold read, O_DIRECT (dd)', readDirect],
    ['copy (cp) + sync', copy],
    ['zstd -1 -T1', compress],
    ['AES-256-GCM', seal],
    ['null FUSE', nullFuse],
  ];
  for (const [step, run] of parts) await attempt(context, { step, tool: TOOL }, () => run(context));
}

async function readCold({ runner, report, base }: BenchContext): Promise<void> {
  const load = await runner.makeCold();
  const { usage } = await runner.run({ argv: ['dd', `if=${base.file}`, 'of=/dev/null', 'bs=1M', 'status=none'] });
  report.add({ step: 'cold read (dd)', tool: TOOL, usage, load, note: `${formatRate(base.allocatedBytes, usage)} of data` });
}

/** Past the page cache: what the disk gives, without what the kernel takes for keeping it. Not every file system can. */
async function readDirect({ runner, report, base }: BenchContext): Promise<void> {
  const load = await runner.makeCold();
  const { usage } = await runner.run({ argv: ['dd', `if=${base.file}`, 'of=/dev/null', 'bs=2M', 'iflag=direct', 'status=none'] });
  report.add({ step: 'cold read, O_DIRECT (dd)', tool: TOOL, usage, load, note: `${formatRate(base.allocatedBytes, usage)} of data` });
}

async function copy({ runner, report, base, workspace }: BenchContext): Promise<void> {
  const directory = await workspace.fresh('copy');
  const target = path.join(directory, 'copy.img');
  const load = await runner.makeCold();
  const usage = await runner.runAll([{ argv: ['cp', '--reflink=never', base.file, target] }, { argv: ['sync', target] }]);
  report.add({ step: 'copy (cp) + sync', tool: TOOL, usage, load, note: `holes kept; ${formatRate(base.allocatedBytes, usage)} of data` });
  await workspace.remove(directory);
}

async function compress({ runner, report, base }: BenchContext): Promise<void> {
  const load = await runner.makeCold();
  const { stdout, usage } = await runner.run({ argv: ['sh', '-c', 'zstd -1 -T1 -q -c "$1" | wc -c', 'sh', base.file] });
  report.add({
    step: 'zstd -1 -T1',
    tool: TOOL,
    usage,
    storedBytes: Number(stdout),
    load,
    note: `${formatRate(base.allocatedBytes, usage)} of data`,
  });
}

/** In this process: node:crypto is what Timeband seals with. */
async function seal({ report }: BenchContext): Promise<void> {
  const load = loadAverage();
  const key = new Uint8Array(32);
  const nonce = new Uint8Array(12);
  const chunk = new Uint8Array(CHUNK_BYTES);
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  for (let done = 0; done < SEALED_BYTES; done += CHUNK_BYTES) {
    const cipher = createCipheriv('aes-256-gcm', key, nonce);
    cipher.update(chunk);
    cipher.final();
  }
  const wallMs = performance.now() - startedAt;
  const cpu = process.cpuUsage(cpuBefore);
  const usage: Usage = { wallMs, cpuMs: (cpu.user + cpu.system) / 1000, peakRssBytes: undefined };
  report.add({ step: 'AES-256-GCM', tool: TOOL, usage, load, note: `node:crypto, 128 KiB chunks, 2 GiB: ${formatRate(SEALED_BYTES, usage)}` });
}

async function nullFuse(context: BenchContext): Promise<void> {
  const { runner, report, workspace } = context;
  const directory = await workspace.fresh('null');
  const image = path.join(directory, 'image');
  const server = await MountServer.start(context, {
    directory,
    command: { argv: [process.execPath, NULL_FUSE, directory] },
    look: () => existing(image),
  });
  try {
    const load = await runner.makeCold();
    const dd = { argv: ['dd', `if=${image}`, 'of=/dev/null', 'bs=1M', `count=${NULL_READ_MIB}`, 'status=none'] };
    const usage = await server.measure(async () => (await runner.run(dd)).usage);
    report.add({ step: 'null FUSE: 1 GiB read', tool: TOOL, usage, load, note: formatRate(NULL_READ_MIB * 1_048_576, usage) });
    await runner.makeCold();
    let note = '';
    const random = await server.measure(async () => {
      const reads = await readRandomly(runner, { file: image, reference: undefined });
      note = reads.note;
      return reads.usage;
    });
    report.add({ step: 'null FUSE: random 4 KiB reads', tool: TOOL, usage: random, load, note: `${RANDOM_READS} reads; ${note}` });
  } finally {
    await server.stop();
  }
}
