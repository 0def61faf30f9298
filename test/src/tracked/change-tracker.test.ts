/** The tracker against a plain model: two repositories, syncs that stop anywhere, histories that are put back. */
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import type { SessionToken } from '../../../src/sources/source.ts';
import { ChangeTracker, dirtyRanges, TRACKED_BAND_BYTES } from '../../../src/tracked/change-tracker.ts';

const BANDS = 11;
const SIZE = BANDS * TRACKED_BAND_BYTES - 512;
const OWNERS = ['a', 'b'].map((letter) => ({ repositoryId: letter.repeat(32), volumeId: '0'.repeat(32) }));

type Step =
  | { readonly kind: 'write'; readonly band: number }
  | { readonly kind: 'sync' | 'freeze' | 'bind' | 'commit' | 'drop' | 'stop' | 'reopen' }
  | { readonly kind: 'put back' | 'forget'; readonly owner: number };

const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('write'), band: fc.nat(BANDS - 1) }) },
    { weight: 8, arbitrary: fc.record({ kind: fc.constantFrom('sync', 'freeze', 'bind', 'commit', 'drop', 'stop', 'reopen') }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('put back', 'forget'), owner: fc.nat(1) }) },
  ) as fc.Arbitrary<Step>,
  { maxLength: 80, size: 'max' },
);

interface Session {
  readonly token: SessionToken;
  readonly content: readonly number[];
}

interface Sync {
  readonly owner: number;
  readonly session: Session;
  readonly epoch: number;
  stage: 'frozen' | 'bound' | 'committed';
}

/** An image of one number a band, and the sessions of two repositories. */
class Model {
  tracker: ChangeTracker = ChangeTracker.create(SIZE);
  readonly content: number[] = Array.from({ length: BANDS }, () => 0);
  readonly repositories: Session[][] = [[], []];
  known = 0;
  #sync: Sync | undefined;
  #count = 0;

  apply(step: Step): void {
    this.#count++;
    if (step.kind === 'write') {
      this.tracker.current.set(step.band);
      this.content[step.band] = this.#count;
    } else if (step.kind === 'put back') this.repositories[step.owner]?.pop();
    else if (step.kind === 'forget') {
      this.tracker.forget(OWNERS[step.owner] ?? { repositoryId: '', volumeId: '' });
      this.tracker.compact(this.#sync?.epoch);
    } else if (step.kind === 'sync') for (const kind of ['stop', 'freeze', 'bind', 'commit', 'drop'] as const) this.#goOn(kind);
    else this.#goOn(step.kind);
  }

  #goOn(kind: 'freeze' | 'bind' | 'commit' | 'drop' | 'stop' | 'reopen'): void {
    const sync = this.#sync;
    if (kind === 'freeze' && sync === undefined) this.#freeze();
    if (kind === 'bind' && sync?.stage === 'frozen') {
      this.tracker.bind(sync.session.token, sync.epoch);
      sync.stage = 'bound';
    }
    if (kind === 'commit' && sync !== undefined && sync.stage !== 'committed') {
      this.repositories[sync.owner]?.push(sync.session); // also one whose bind failed
      sync.stage = 'committed';
    }
    if (kind === 'drop' && sync?.stage === 'committed') this.tracker.keepOnly(sync.session.token);
    if (kind === 'drop' || kind === 'stop') this.#sync = undefined;
    if (kind === 'reopen') {
      this.tracker = this.tracker.clone();
      this.#sync = undefined;
    }
    this.tracker.compact(this.#sync?.epoch);
  }

  #freeze(): void {
    const owner = this.#count % 2;
    const commitId = this.#count.toString(16).padStart(32, '0');
    const token = { ...(OWNERS[owner] ?? { repositoryId: '', volumeId: '' }), commitId };
    this.#sync = { owner, session: { token, content: [...this.content] }, epoch: this.tracker.beginEpoch(), stage: 'frozen' };
  }

  /** Whatever the next sync would be told names every band that differs. */
  check(t: ExecutionContext): void {
    for (const sessions of this.repositories) {
      const newest = sessions.at(-1);
      const dirty = newest === undefined ? undefined : this.tracker.changesSince(newest.token);
      if (newest === undefined || dirty === undefined) continue;
      this.known++;
      for (const [band, value] of this.content.entries()) if (newest.content[band] !== value) t.true(dirty.has(band), `band ${band}`);
    }
    t.true(this.tracker.state.epochs.length <= this.tracker.state.marks.length + 2);
  }
}

test('a session that is the newest, whatever happened on the way, has all changes named, or is not known', (t) => {
  let known = 0;
  fc.assert(
    fc.property(steps, (list) => {
      const model = new Model();
      for (const step of list) {
        model.apply(step);
        model.check(t);
      }
      known += model.known;
    }),
    { numRuns: 400 },
  );
  t.true(known > 5000, `${known} times`);
});

test('after a sync only what was written since it froze is named, in whole bands cut at the end', (t) => {
  const tracker = ChangeTracker.create(SIZE);
  const token = { repositoryId: 'a'.repeat(32), volumeId: 'b'.repeat(32), commitId: 'c'.repeat(32) };
  tracker.current.set(1);
  const epoch = tracker.beginEpoch();
  for (const band of [4, 5, BANDS - 1]) tracker.current.set(band);
  tracker.bind(token, epoch);
  tracker.keepOnly(token);
  tracker.compact(undefined);
  const dirty = tracker.changesSince(token);
  t.deepEqual(dirty && dirtyRanges(dirty, SIZE), [
    { offset: 4 * TRACKED_BAND_BYTES, length: 2 * TRACKED_BAND_BYTES },
    { offset: (BANDS - 1) * TRACKED_BAND_BYTES, length: TRACKED_BAND_BYTES - 512 },
  ]);
  t.is(tracker.state.epochs.length, 1);
  t.is(tracker.changesSince({ ...token, commitId: 'd'.repeat(32) }), undefined);
});
