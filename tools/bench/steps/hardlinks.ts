/**
 * A large volume of which little changes: every band has data, ten of them change, the source says which. A session is
 * then mostly hardlinks, so it is held against `cp -al` of the folder of bands. At the end it is opened: there is a file system
 * on it, whose metadata lies where no data is written.
 */
import { type FileHandle, open, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { TimebandError } from '../../../bands/errors.ts';
import { SeededRandom } from '../../random.ts';
import { attempt, type BenchContext, diskUse } from '../context.ts';
import { addUsage, medianUsage, type Usage } from '../measure.ts';
import { TimebandPeer } from '../peers/timeband.ts';
import { STEP, WITH_SYNC } from '../step-titles.ts';

const BAND_BYTES = 2_097_152;
const DATA_BYTES = 4096;
const CHANGED_BANDS = 10;
const ROUNDS = 3;
const VOLUME = 'large';
/** Little metadata, at the start of bands. */
const SMALL_FILE_SYSTEM = ['-q', '-F', '-t', 'ext4', '-O', '^resize_inode', '-N', '16384', '-J', 'size=4', '-E', 'nodiscard,lazy_itable_init=1'];

export async function hardlinks(context: BenchContext): Promise<void> {
  if (context.settings.hardlinkBands === 0) return;
  await attempt(context, { step: STEP.linked, tool: 'timeband' }, () => new HardlinkStep(context).run());
}

class HardlinkStep {
  readonly #context: BenchContext;
  readonly #bands: number;
  readonly #random = new SeededRandom('hardlinks');
  readonly #directory: string;
  readonly #image: string;
  readonly #peer: TimebandPeer;
  #session = '';

  constructor(context: BenchContext) {
    this.#context = context;
    this.#bands = context.settings.hardlinkBands;
    this.#directory = context.workspace.path('large');
    this.#image = path.join(this.#directory, 'large.img');
    this.#peer = new TimebandPeer(this.#directory);
  }

  async run(): Promise<void> {
    const { workspace, runner } = this.#context;
    await workspace.fresh('large');
    await this.#makeImage();
    await runner.run(this.#peer.init());
    await this.#firstSync();
    const rounds: { readonly sync: Usage; readonly link: Usage; readonly linkAndSync: Usage }[] = [];
    let load = 0;
    for (let round = 0; round < ROUNDS; round++) {
      load = Math.max(load, await runner.makeCold());
      rounds.push({ sync: await this.#changeAndSync(round), ...(await this.#copyLinks()) });
    }
    const add = (tool: string, usages: readonly Usage[]): void =>
      this.#context.report.add({ step: STEP.linked, tool, usage: medianUsage(usages), load, note: `median of ${ROUNDS}; ${this.#bands} bands` });
    add(
      'timeband',
      rounds.map(({ sync }) => sync),
    );
    add(
      'cp -al',
      rounds.map(({ link }) => link),
    );
    add(
      `cp -al${WITH_SYNC}`,
      rounds.map(({ linkAndSync }) => linkAndSync),
    );
    await this.#open();
    await workspace.remove(this.#directory);
  }

  async #makeImage(): Promise<void> {
    await using handle = await open(this.#image, 'w');
    await handle.truncate(this.#bands * BAND_BYTES);
    await this.#context.runner.run({ argv: ['mke2fs', ...SMALL_FILE_SYSTEM, this.#image] });
    for (let band = 0; band < this.#bands; band++) await this.#write(handle, band);
    await handle.sync();
  }

  /** New data at the end of a band. */
  async #write(handle: FileHandle, band: number): Promise<void> {
    await handle.write(this.#random.bytes(DATA_BYTES), 0, DATA_BYTES, (band + 1) * BAND_BYTES - DATA_BYTES);
  }

  /** Until its file system is mounted. */
  async #open(): Promise<void> {
    const { runner, report, workspace } = this.#context;
    if (process.getuid?.() !== 0) return report.add({ step: STEP.opened, tool: 'timeband', note: 'left out: needs root' });
    const directory = await workspace.fresh('opened');
    for (const [step, how] of [
      [STEP.opened, 'cold'],
      [STEP.openedAgain, 'the program and the repository are in memory'],
    ] as const) {
      const usages: Usage[] = [];
      let load = 0;
      for (let round = 0; round < ROUNDS; round++) {
        if (step === STEP.opened) load = Math.max(load, await runner.makeCold());
        usages.push((await runner.run(this.#peer.command('open', VOLUME, directory, '--quiet'))).usage);
        await runner.run(this.#peer.command('close', directory, '--quiet'));
      }
      const times = usages.map(({ wallMs }) => (wallMs / 1000).toFixed(2)).join(', ');
      report.add({
        step,
        tool: 'timeband',
        usage: medianUsage(usages),
        load,
        note: `until the file system is mounted; ${how}; median of ${times} s`,
      });
    }
  }

  async #sync(...args: readonly string[]): Promise<Usage> {
    const { stdout, usage } = await this.#context.runner.run(this.#peer.command('sync', '--json', '--quiet', ...args));
    this.#session = newSession(stdout);
    return usage;
  }

  async #firstSync(): Promise<void> {
    const { runner, report } = this.#context;
    const load = await runner.makeCold();
    const usage = await this.#sync(`${VOLUME}=${this.#image}`);
    const storedBytes = await diskUse(runner, this.#peer.repository);
    const note = `${((this.#bands * BAND_BYTES) / 1024 ** 3).toFixed(0)} GiB, sparse: 4 KiB of data in each of ${this.#bands} bands`;
    report.add({ step: 'first backup of many bands', tool: 'timeband', usage, storedBytes, load, note });
  }

  /** Changes ten bands and backs them up, from cold, until all is durable. */
  async #changeAndSync(round: number): Promise<Usage> {
    const { runner, workspace } = this.#context;
    const bands = Array.from({ length: CHANGED_BANDS }, () => this.#random.below(this.#bands));
    await using handle = await open(this.#image, 'r+');
    for (const band of bands) await this.#write(handle, band);
    await handle.sync();
    const ranges = workspace.path(`ranges-${round}`);
    await writeFile(ranges, bands.map((band) => `${(band + 1) * BAND_BYTES - DATA_BYTES} ${DATA_BYTES}\n`).join(''));
    await runner.makeCold();
    const sync = await this.#sync(VOLUME, '--changed-ranges', ranges, '--since', this.#session);
    return addUsage(sync, await this.#syncDisk());
  }

  async #syncDisk(): Promise<Usage> {
    return (await this.#context.runner.run({ argv: ['sync', '-f', this.#directory] })).usage;
  }

  /** The same number of hardlinks, from cold, by cp. */
  async #copyLinks(): Promise<{ readonly link: Usage; readonly linkAndSync: Usage }> {
    const { runner, workspace } = this.#context;
    const volumes = path.join(this.#peer.repository, 'volumes');
    const [volume = ''] = await readdir(volumes);
    const bands = path.join(volumes, volume, 'sessions', this.#session, 'bands');
    const copy = path.join(this.#directory, 'copy');
    await runner.makeCold();
    const link = (await runner.run({ argv: ['cp', '-al', bands, copy] })).usage;
    const linkAndSync = addUsage(link, await this.#syncDisk());
    await workspace.remove(copy);
    return { link, linkAndSync };
  }
}

/** The session that `sync --json` reports. */
function newSession(stdout: string): string {
  const document: { readonly results?: readonly { readonly status?: unknown; readonly session?: unknown }[] } = JSON.parse(stdout);
  const result = document.results?.[0];
  if (result?.status === 'created' && typeof result.session === 'string') return result.session;
  throw new TimebandError(`sync made no session: ${stdout}`, { code: 'TOOL_FAILED' });
}
