/**
 * Listing the many sessions of a large volume with what each added and would free. They are made in this process, by the
 * library, which is told what changed; the list is what a user sees, from the command line.
 */
import { open, rm } from 'node:fs/promises';
import path from 'node:path';
import type { ByteRange } from '../../../bands/format/geometry.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { Repository } from '../../../src/repository.ts';
import { syncVolume } from '../../../src/sync/sync.ts';
import { SeededRandom } from '../../random.ts';
import { attempt, type BenchContext } from '../context.ts';
import { medianUsage, type Usage } from '../measure.ts';
import { TimebandPeer } from '../peers/timeband.ts';
import { STEP } from '../step-titles.ts';

const BAND_BYTES = 2_097_152;
const IMAGE_BYTES = 100 * 1024 ** 3;
const DATA_BYTES = 4096;
/** Spread over all of the image, so that every index page has some. */
const DATA_BANDS = 1000;
/** Written in every session, as the metadata of a file system are. */
const BUSY_BANDS = 5;
/** Written besides, here and there. */
const OTHER_BANDS = 5;
const ROUNDS = 3;
const VOLUME = 'large';

export async function sessions(context: BenchContext): Promise<void> {
  if (context.settings.sessions === 0) return;
  await attempt(context, { step: STEP.listWarm, tool: 'timeband' }, () => new SessionsStep(context).run());
}

class SessionsStep {
  readonly #context: BenchContext;
  readonly #random = new SeededRandom('sessions');
  readonly #directory: string;
  readonly #image: string;
  readonly #peer: TimebandPeer;

  constructor(context: BenchContext) {
    this.#context = context;
    this.#directory = context.workspace.path('many');
    this.#image = path.join(this.#directory, 'many.img');
    this.#peer = new TimebandPeer(this.#directory);
  }

  async run(): Promise<void> {
    const { workspace, runner } = this.#context;
    await workspace.fresh('many');
    await runner.run(this.#peer.init());
    await this.#makeSessions();
    await this.#measure(STEP.listCold, 'caches of the kernel dropped, no catalog', async () => {
      await rm(this.#peer.stateDirectory, { recursive: true, force: true });
      return await runner.makeCold();
    });
    await this.#measure(STEP.listKernelCold, 'caches of the kernel dropped', () => runner.makeCold());
    await this.#measure(STEP.listWarm, 'nothing dropped', () => Promise.resolve(undefined));
    await workspace.remove(this.#directory);
  }

  async #makeSessions(): Promise<void> {
    const { settings, signal } = this.#context;
    const environment = this.#peer.command().env;
    await using handle = await open(this.#image, 'w');
    await handle.truncate(IMAGE_BYTES);
    const write = async (band: number): Promise<ByteRange> => {
      const offset = band * BAND_BYTES;
      await handle.write(this.#random.bytes(DATA_BYTES), 0, DATA_BYTES, offset);
      return { offset, length: DATA_BYTES };
    };
    const bands = Array.from({ length: DATA_BANDS }, (_, i) => Math.floor((i * IMAGE_BYTES) / BAND_BYTES / DATA_BANDS));
    for (const band of bands) await write(band);
    await using pool = new BandPool();
    using repository = await Repository.open(this.#peer.repository, { passphrase: environment?.['TIMEBAND_PASSPHRASE'] ?? '' });
    for (let session = 0; session < settings.sessions; session++) {
      const busy = bands.slice(0, BUSY_BANDS);
      const others = Array.from({ length: OTHER_BANDS }, () => bands[this.#random.below(DATA_BANDS)] ?? 0);
      const ranges: ByteRange[] = [];
      for (const band of [...busy, ...others]) ranges.push(await write(band));
      const changes = session === 0 ? {} : { changes: { since: 'latest', ranges } };
      await syncVolume(repository, { name: VOLUME, location: this.#image, sourceKind: 'image', signal, ...changes }, { pool });
    }
  }

  async #measure(step: string, how: string, prepare: () => Promise<number | undefined>): Promise<void> {
    const { runner, report, settings } = this.#context;
    const usages: Usage[] = [];
    let load: number | undefined;
    for (let round = 0; round < ROUNDS; round++) {
      load = await prepare();
      usages.push((await runner.run(this.#peer.command('sessions', VOLUME, '--quiet'))).usage);
    }
    const note = `${how}; median of ${ROUNDS}; ${settings.sessions} sessions of ${IMAGE_BYTES / 1024 ** 3} GiB`;
    report.add({ step, tool: 'timeband', usage: medianUsage(usages), load, note });
  }
}
