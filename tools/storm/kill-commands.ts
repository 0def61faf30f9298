/** The commands that are killed, each with what it may have done to the repository when it was. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { SeededRandom } from '../random.ts';
import { digestOfFile, ScratchImage } from './scratch-image.ts';
import { type LabelState, type RepositoryState, type SessionState, type VolumeState, violated } from './state.ts';

/** What a command does; one that was killed has done all of it, or a part that these words leave open, or nothing. */
export interface Effect {
  /** A session of the volume of this name; a volume of this name without sessions may have come before it. */
  readonly appears?: { readonly volume: string; readonly digest: string; readonly labels: LabelState };
  /** Ids of sessions that are deleted, in any order. */
  readonly vanish?: readonly string[];
  /** Id of a volume that is deleted, whole. */
  readonly vanishingVolume?: string;
  readonly relabels?: { readonly session: string; readonly labels: LabelState };
  readonly renames?: { readonly volume: string; readonly name: string; readonly note: string };
}

export interface Plan {
  readonly args: readonly string[];
  readonly effect: Effect;
  /** A file outside of the repository that the command writes. */
  readonly output?: string;
  /** Looks at what the command made outside of the repository; it was killed or not. */
  readonly verify?: () => void;
  /** The same command again must succeed and this hold after it. */
  readonly verifyAgain?: () => void;
}

/** What plans are made from. */
export interface Scene {
  readonly folder: string;
  /** Where copies go. */
  readonly secondRepository: string;
  readonly random: SeededRandom;
  readonly state: RepositoryState;
  /** By the name that the volume was made with. */
  readonly images: Map<string, ScratchImage>;
  /** Images of volumes, by volume id. */
  readonly imageOf: Map<string, ScratchImage>;
}

export interface KillCommand {
  readonly name: string;
  /** How often it is chosen. */
  readonly weight: number;
  /** Undefined: there is nothing to do it to now. */
  plan(scene: Scene): Plan | undefined;
}

const NO_LABELS: LabelState = { tags: [], note: '', isProtected: false };
const FIRST_BANDS = 14;
const MAX_VOLUMES = 3;

function pick<T>(random: SeededRandom, items: readonly T[]): T | undefined {
  return items.length === 0 ? undefined : items[random.below(items.length)];
}

function anyVolume({ random, state }: Scene, sessions = 1): VolumeState | undefined {
  return pick(
    random,
    [...state.values()].filter((volume) => volume.sessions.length >= sessions),
  );
}

function anySession(scene: Scene): { readonly volume: VolumeState; readonly session: SessionState } | undefined {
  const volume = anyVolume(scene);
  const session = volume === undefined ? undefined : pick(scene.random, volume.sessions);
  return volume === undefined || session === undefined ? undefined : { volume, session };
}

/** A sync of a volume whose image has changed. */
export function planSync(scene: Scene, volume: VolumeState, labels: LabelState = NO_LABELS, options: readonly string[] = []): Plan {
  const image = scene.imageOf.get(volume.id);
  if (image === undefined) throw new RangeError('volume: has no image');
  image.change();
  return {
    args: ['sync', `${volume.name}=${image.file}`, '--json', ...options],
    effect: { appears: { volume: volume.name, digest: image.digest(), labels } },
  };
}

/** A first sync, of a new volume. */
export function planFirstSync(scene: Scene): Plan {
  const name = `volume-${scene.images.size}`;
  const image = new ScratchImage(path.join(scene.folder, `${name}.img`), scene.random, FIRST_BANDS);
  scene.images.set(name, image);
  return {
    args: ['sync', `${name}=${image.file}`, '--band-size', '256K', '--json'],
    effect: { appears: { volume: name, digest: image.digest(), labels: NO_LABELS } },
  };
}

function planLabels(
  scene: Scene,
  make: (labels: LabelState, target: string) => { readonly args: readonly string[]; readonly labels: LabelState } | undefined,
): Plan | undefined {
  const found = anySession(scene);
  if (found === undefined) return undefined;
  const { volume, session } = found;
  const planned = make(session.labels, `${volume.name}@${session.id}`);
  return planned && { args: planned.args, effect: { relabels: { session: session.id, labels: planned.labels } } };
}

function planDelete(scene: Scene, evenNewest: boolean): Plan | undefined {
  const volume = anyVolume(scene, 2);
  if (volume === undefined) return undefined;
  const chosen = evenNewest
    ? volume.sessions.slice(-1 - scene.random.below(2))
    : volume.sessions.slice(0, -1).filter(() => scene.random.below(2) === 0);
  const ids = (chosen.length === 0 ? volume.sessions.slice(0, 1) : chosen).map(({ id }) => id);
  return {
    args: ['delete', ...ids.map((id) => `${volume.name}@${id}`), '--yes', ...(evenNewest ? ['--even-newest'] : [])],
    effect: { vanish: ids },
  };
}

function planPrune(scene: Scene): Plan | undefined {
  const keep = 1 + scene.random.below(3);
  const volume = anyVolume(scene, keep + 1);
  if (volume === undefined) return undefined;
  const vanish = volume.sessions.slice(0, -keep).filter(({ labels }) => !labels.isProtected);
  return { args: ['prune', volume.name, '--keep-last', String(keep), '--yes'], effect: { vanish: vanish.map(({ id }) => id) } };
}

function planRename(scene: Scene): Plan | undefined {
  const volume = anyVolume(scene, 0);
  if (volume === undefined) return undefined;
  const renamed = `renamed-${scene.random.below(1_000_000)}`;
  return { args: ['rename', volume.name, renamed], effect: { renames: { volume: volume.id, name: renamed, note: volume.note } } };
}

function planVolumeNote(scene: Scene): Plan | undefined {
  const volume = anyVolume(scene, 0);
  if (volume === undefined) return undefined;
  const note = `note ${scene.random.below(1000)}`;
  return { args: ['note', volume.name, note], effect: { renames: { volume: volume.id, name: volume.name, note } } };
}

function planDeleteVolume(scene: Scene): Plan | undefined {
  const volume = scene.state.size < 2 ? undefined : anyVolume(scene, 0);
  if (volume === undefined) return undefined;
  return { args: ['delete-volume', volume.name, '--name', volume.name], effect: { vanishingVolume: volume.id } };
}

function verifyFile(file: string, digest: string): void {
  if (digestOfFile(file) !== digest) violated(`${file} is not the session that was restored`);
}

function planRestore(scene: Scene): Plan | undefined {
  const found = anySession(scene);
  if (found === undefined) return undefined;
  const output = path.join(scene.folder, 'restored.img');
  for (const name of readdirSync(scene.folder)) if (name.startsWith('restored.img')) rmSync(path.join(scene.folder, name)); // what killed ones left beside it
  return {
    args: ['restore', `${found.volume.name}@${found.session.id}`, output],
    effect: {},
    output,
    verify: () => void (existsSync(output) && verifyFile(output, found.session.digest)),
  };
}

/** Over what an earlier one left, whole or half. */
function planInPlace(scene: Scene): Plan | undefined {
  const found = anySession(scene);
  if (found === undefined) return undefined;
  const output = path.join(scene.folder, 'in-place.img');
  if (!existsSync(output)) new ScratchImage(output, scene.random, FIRST_BANDS).change();
  return {
    args: ['restore', `${found.volume.name}@${found.session.id}`, output, '--in-place'],
    effect: {},
    output,
    verifyAgain: () => verifyFile(output, found.session.digest),
  };
}

/** Into a second repository; once it is through, that one is whole and has the same bytes. */
function planCopy(scene: Scene): Plan | undefined {
  const volume = anyVolume(scene);
  return volume && { args: ['copy', volume.name, '--to', scene.secondRepository], effect: {}, verifyAgain: () => undefined };
}

/** Every command that writes. A new one is added here. */
export const KILL_COMMANDS: readonly KillCommand[] = [
  { name: 'sync', weight: 6, plan: (scene) => planTaggedSync(scene) },
  { name: 'first sync', weight: 2, plan: (scene) => (scene.state.size >= MAX_VOLUMES ? undefined : planFirstSync(scene)) },
  { name: 'delete', weight: 3, plan: (scene) => planDelete(scene, false) },
  { name: 'delete --even-newest', weight: 2, plan: (scene) => planDelete(scene, true) },
  { name: 'delete-volume', weight: 1, plan: planDeleteVolume },
  { name: 'prune', weight: 3, plan: planPrune },
  { name: 'tag', weight: 1, plan: (scene) => planTag(scene) },
  {
    name: 'untag',
    weight: 1,
    plan: (scene) =>
      planLabels(scene, (labels, target) =>
        labels.tags[0] === undefined ? undefined : { args: ['untag', target, ...labels.tags], labels: { ...labels, tags: [] } },
      ),
  },
  {
    name: 'protect',
    weight: 1,
    plan: (scene) =>
      planLabels(scene, (labels, target) => ({
        args: [labels.isProtected ? 'unprotect' : 'protect', target],
        labels: { ...labels, isProtected: !labels.isProtected },
      })),
  },
  {
    name: 'note',
    weight: 1,
    plan: (scene) => planLabels(scene, (labels, target) => ({ args: ['note', target, 'a note'], labels: { ...labels, note: 'a note' } })),
  },
  { name: 'note of a volume', weight: 1, plan: planVolumeNote },
  { name: 'rename', weight: 1, plan: planRename },
  { name: 'restore', weight: 1, plan: planRestore },
  { name: 'restore --in-place', weight: 2, plan: planInPlace },
  { name: 'check --repair', weight: 2, plan: () => ({ args: ['check', '--repair'], effect: {} }) },
  { name: 'copy', weight: 2, plan: planCopy },
  { name: 'check --data', weight: 1, plan: () => ({ args: ['check', '--data'], effect: {} }) },
];

function planTaggedSync(scene: Scene): Plan | undefined {
  const volume = anyVolume(scene, 0);
  if (volume === undefined) return undefined;
  const tag = `tag-${scene.random.below(5)}`;
  const isTagged = scene.random.below(2) === 0;
  return isTagged
    ? planSync(scene, volume, { ...NO_LABELS, tags: [tag], note: 'new' }, ['--tag', tag, '--note', 'new', '--force'])
    : planSync(scene, volume);
}

function planTag(scene: Scene): Plan | undefined {
  const tag = `tag-${scene.random.below(5)}`;
  return planLabels(scene, (labels, target) => ({
    args: ['tag', target, tag],
    labels: { ...labels, tags: [...new Set([...labels.tags, tag])].sort() },
  }));
}
