/** Random images, changed and synced in random order, against plain arrays: every session gives back what was there. */
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { checkRepository } from '../../src/check/check.ts';
import type { SyncOptions } from '../../src/sync/request.ts';
import { isSame } from '../support/bytes.ts';
import { BAND_256K, type Lab, lab } from '../support/library.ts';
import { type ImageStep, imageSteps, ModelImage } from '../support/model-image.ts';
import { type ModelSession, verifyDiff, verifyReads, verifyRecords, verifyRestores } from './model-checks.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

/** Up to a little more than nine bands. */
const MAX_SECTORS = 4700;

type Step = ImageStep | { readonly kind: 'sync'; readonly isForced: boolean };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: imageSteps(MAX_SECTORS) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('sync' as const), isForced: fc.boolean() }) },
  ),
  { minLength: 4, maxLength: 24 },
);

/** Runs the steps; gives the sessions with what was in the image at that time. */
async function play(
  t: ExecutionContext,
  at: Lab,
  how: { name: string; sectors: number; steps: readonly Step[]; knowsChanges: boolean },
): Promise<ModelSession[]> {
  const image = new ModelImage(at.at(`${how.name}.img`), how.sectors, BAND_256K);
  const sessions: ModelSession[] = [];
  for (const step of [...how.steps, { kind: 'sync', isForced: false } as const]) {
    if (step.kind !== 'sync') {
      image.apply(step);
      continue;
    }
    const last = sessions.at(-1);
    const touched = image.takeTouched();
    const options: Partial<SyncOptions> = {
      isForced: step.isForced,
      ...(how.knowsChanges && last !== undefined ? { changes: { since: last.id, ranges: touched } } : {}),
    };
    const result = await at.sync(how.name, image.file, options);
    const isSameImage = last !== undefined && isSame(last.bytes, image.bytes);
    t.is(result.status, isSameImage && !step.isForced ? 'unchanged' : 'created', 'a session is made exactly if something changed');
    if (result.status === 'created') sessions.push({ id: result.session ?? '', bytes: Uint8Array.from(image.bytes) });
  }
  return sessions;
}

async function verify(t: ExecutionContext, at: Lab, name: string, sessions: readonly ModelSession[]): Promise<void> {
  const volume = await at.repository.volume(name);
  t.deepEqual(
    await volume.sessionIds(),
    sessions.map(({ id }) => id),
  );
  for (const [i, model] of sessions.entries()) {
    const session = await volume.openSession(model.id);
    const base = sessions[i - 1];
    await verifyReads(t, session, model, pool);
    await verifyRestores(t, session, model, { pool, target: at.at('restored.img') });
    await verifyRecords(t, session, model, base === undefined ? undefined : { session: await volume.openSession(base.id), model: base });
    if (base !== undefined) await verifyDiff(t, volume, base, model);
    if (i >= 2) await verifyDiff(t, volume, sessions[0] ?? model, model);
  }
  const { findings } = await checkRepository(at.repository, { pool, volume: name, withData: true });
  t.deepEqual(findings, []);
}

let number = 0;

for (const knowsChanges of [false, true]) {
  test.serial(`every session of a random image is right${knowsChanges ? ', when the source knows what changed' : ''}`, async (t) => {
    const at = await lab(t, pool);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: MAX_SECTORS }), steps, async (sectors, played) => {
        const name = `v${number++}`;
        await verify(t, at, name, await play(t, at, { name, sectors, steps: played, knowsChanges }));
      }),
      { numRuns: 12 },
    );
  });
}

const write = (at: number, seed: number): ImageStep => ({ kind: 'fill band', at, seed });
const SYNC = { kind: 'sync', isForced: false } as const;

/** What random steps rarely hit, written down. Ten bands: a thousandth of a hundred is one band. */
const STORIES: readonly { readonly title: string; readonly steps: readonly Step[] }[] = [
  {
    title: 'a band that becomes zero, and data again',
    steps: [write(100, 1), SYNC, { kind: 'clear band', at: 100, seed: 0 }, SYNC, write(100, 1), SYNC],
  },
  {
    title: 'a band that becomes a hole, and data again',
    steps: [write(100, 1), SYNC, { kind: 'punch band', at: 100, seed: 0 }, SYNC, write(100, 2), SYNC],
  },
  {
    title: 'an image that becomes all zeros',
    steps: [write(0, 1), write(900, 2), SYNC, { kind: 'clear band', at: 0, seed: 0 }, { kind: 'punch band', at: 900, seed: 0 }, SYNC],
  },
  {
    title: 'blocks that become zero within a band',
    steps: [write(300, 1), SYNC, { kind: 'zero', at: 310, length: 4096, seed: 0 }, SYNC, { kind: 'punch', at: 330, length: 65_536, seed: 0 }, SYNC],
  },
  {
    title: 'a cut within a band, grown again: what was cut is zeros',
    steps: [write(100, 1), write(200, 2), SYNC, { kind: 'resize', sectors: 700 }, { kind: 'resize', sectors: 5120 }, SYNC],
  },
  {
    title: 'a cut within a band, synced, and grown again',
    steps: [write(100, 1), write(200, 2), SYNC, { kind: 'resize', sectors: 700 }, SYNC, { kind: 'resize', sectors: 5120 }, SYNC],
  },
  {
    title: 'an image that grows by less than a band, with data in the new part',
    steps: [
      { kind: 'resize', sectors: 1030 },
      write(999, 3),
      SYNC,
      { kind: 'resize', sectors: 1200 },
      { kind: 'write', at: 950, length: 512, seed: 4 },
      SYNC,
    ],
  },
  { title: 'the same content in another band', steps: [write(0, 1), SYNC, write(100, 1), { kind: 'clear band', at: 0, seed: 0 }, SYNC] },
  { title: 'a change that is undone before the next sync', steps: [write(0, 1), SYNC, write(0, 2), write(0, 1), SYNC] },
];

for (const { title, steps: story } of STORIES) {
  for (const knowsChanges of [false, true]) {
    test.serial(`${title}${knowsChanges ? ' (known changes)' : ''}`, async (t) => {
      const at = await lab(t, pool);
      await verify(t, at, 'v', await play(t, at, { name: 'v', sectors: 5120, steps: story, knowsChanges }));
    });
  }
}
