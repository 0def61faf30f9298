/**
 * The image on XFS, changed a little: Timeband learns from the extents of a clone what changed; the others read all of
 * it. Held against the least that could be done, too: a sync that is told which ranges changed. And a 100 GB image of
 * which nothing changed.
 */
import { open, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { attempt, type BenchContext, diskUse, formatRate } from '../context.ts';
import type { Usage } from '../measure.ts';
import { makePeers } from '../peers/find-peers.ts';
import type { Peer } from '../peers/peer.ts';
import { TimebandPeer } from '../peers/timeband.ts';
import { type ChangedRange, SourceFolder } from '../source.ts';
import { STEP, TOLD } from '../step-titles.ts';

const MIB = 1_048_576;
/** The image, the old blocks that a clone keeps, and what XFS takes for itself. */
const FILE_SYSTEM_SHARE = 1.2;
const FILE_SYSTEM_EXTRA_BYTES = 512 * MIB;
const LARGE_BYTES = 100 * 1024 ** 3;
const LARGE_DATA_BYTES = 64 * MIB;
const VOLUME = 'disk';

export async function reflink(context: BenchContext): Promise<void> {
  await attempt(context, { step: STEP.reflink, tool: 'timeband' }, async () => {
    const step = new ReflinkStep(context);
    await step.prepare();
    await step.changed();
    await step.unchanged();
    await step.takeDown();
  });
}

class ReflinkStep {
  readonly #context: BenchContext;
  readonly #mount: string;
  readonly #peers: readonly Peer[];
  /** Backs the same image up, but is told what changed. */
  readonly #told: TimebandPeer;
  #source: SourceFolder | undefined;
  #toldBase = '';

  constructor(context: BenchContext) {
    this.#context = context;
    this.#mount = context.workspace.path('xfs');
    this.#peers = makePeers(context.found, (name) => context.workspace.path('reflink', name));
    this.#told = new TimebandPeer(context.workspace.path('reflink', 'told'));
  }

  /** Makes the file system, puts the image on it, and backs it up with every tool. */
  async prepare(): Promise<void> {
    const { workspace, runner, base } = this.#context;
    await workspace.fresh('xfs');
    for (const name of [...this.#peers.map((peer) => peer.name), 'told']) await workspace.fresh(path.join('reflink', name));
    const file = workspace.path('xfs.img');
    await runner.run({ argv: ['truncate', '-s', String(Math.ceil(base.sizeBytes * FILE_SYSTEM_SHARE) + FILE_SYSTEM_EXTRA_BYTES), file] });
    await runner.run({ argv: ['mkfs.xfs', '-q', '-f', file] });
    await runner.run({ argv: ['mount', '-o', 'loop', file, this.#mount] });
    this.#source = await SourceFolder.create(path.join(this.#mount, 'source'), runner, base);
    for (const peer of [...this.#peers, this.#told]) {
      await runner.run(peer.init());
      await runner.run(peer.backup(this.#source, 'first'));
    }
    // The session that the ranges count from; and its source does not look at clones.
    this.#toldBase = await this.#newestSession(this.#told);
  }

  /** Changes the image once, and backs it up with every tool. */
  async changed(): Promise<void> {
    const source = this.#requireSource();
    const { runner, report } = this.#context;
    const ranges = await source.change();
    const preview = await this.#cold(() => runner.run(this.#timeband().command('sources', VOLUME, '--quiet')));
    report.add({ step: STEP.look, tool: 'timeband', ...preview, note: 'start, key, clone, comparison of extents; nothing is read' });
    for (const peer of this.#peers) {
      await attempt(this.#context, { step: STEP.reflink, tool: peer.name }, async () => {
        const before = await diskUse(runner, peer.repository);
        const done = await this.#cold(() => runner.run(peer.backup(source, 'changed')));
        const growth = ((await diskUse(runner, peer.repository)) - before) / MIB;
        report.add({
          step: STEP.reflink,
          tool: peer.name,
          ...done,
          note: `${formatRate(source.sizeBytes, done.usage)} of image, repository +${growth.toFixed(1)} MiB`,
        });
      });
    }
    await this.#syncTold(ranges);
  }

  async #syncTold(ranges: readonly ChangedRange[]): Promise<void> {
    const { runner, report, workspace } = this.#context;
    const file = workspace.path('changed-ranges');
    await writeFile(file, ranges.map(({ offset, length }) => `${offset} ${length}\n`).join(''));
    const command = this.#told.command('sync', VOLUME, '--quiet', '--source', 'image', '--changed-ranges', file, '--since', this.#toldBase);
    const done = await this.#cold(() => runner.run(command));
    report.add({ step: STEP.reflink, tool: TOLD, ...done, note: 'told which ranges changed: reads, seals, writes and links only' });
  }

  /** A large image with nothing changed. */
  async unchanged(): Promise<void> {
    const { runner, report } = this.#context;
    const image = path.join(this.#mount, 'large.img');
    await using handle = await open(image, 'w');
    await handle.truncate(LARGE_BYTES);
    for (let at = 0; at < LARGE_DATA_BYTES; at += MIB) await handle.write(Buffer.alloc(MIB, at), 0, MIB, at * 1000);
    await handle.sync();
    const peer = this.#timeband();
    await runner.run(peer.command('sync', `large=${image}`, '--quiet'));
    const done = await this.#cold(() => runner.run(peer.command('sync', 'large', '--quiet')));
    report.add({ step: STEP.unchangedLarge, tool: 'timeband', ...done, note: '100 GiB, sparse, on XFS' });
  }

  async takeDown(): Promise<void> {
    const { workspace, runner } = this.#context;
    await runner.run({ argv: ['umount', this.#mount] });
    for (const name of ['xfs.img', 'reflink']) await workspace.remove(workspace.path(name));
  }

  async #cold(run: () => Promise<{ readonly usage: Usage }>): Promise<{ readonly usage: Usage; readonly load: number }> {
    const load = await this.#context.runner.makeCold();
    return { usage: (await run()).usage, load };
  }

  async #newestSession(peer: TimebandPeer): Promise<string> {
    const { stdout } = await this.#context.runner.run(peer.command('show', VOLUME, '--json'));
    const shown: { readonly session: string } = JSON.parse(stdout);
    return shown.session;
  }

  #timeband(): TimebandPeer {
    const found = this.#peers.find((peer) => peer instanceof TimebandPeer);
    if (found === undefined) throw new RangeError('peers: timeband is not among them');
    return found;
  }

  #requireSource(): SourceFolder {
    if (this.#source === undefined) throw new RangeError('source: not prepared');
    return this.#source;
  }
}
