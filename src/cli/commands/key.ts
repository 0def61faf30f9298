/** `timeband key …`: the slots that open a repository. */
import { TimebandError } from '../../../bands/errors.ts';
import { scryptMemoryBytes } from '../../../bands/format/key-slot.ts';
import { addSlot, removeSlot, replaceSlot, slotsOpenedBy } from '../../keys/change-slots.ts';
import { SECRET_NAMES } from '../../keys/open-slots.ts';
import { type OfferedSecret, SlotSecret } from '../../keys/slot-secret.ts';
import { listSlots } from '../../keys/slots.ts';
import { repositoryLayout } from '../../layout.ts';
import type { Repository, Unlock } from '../../repository.ts';
import { readConfig } from '../../repository-config.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { EXIT } from '../exit-codes.ts';
import { describePhrase, makeKeyFile, makeRecoveryPhrase, requireShown } from '../new-secret.ts';
import { getAnotherPassphrase } from '../passphrase.ts';
import { formatBytes, formatTable, formatTime } from '../text.ts';
import { requireOffered } from '../unlock.ts';
import { addKeyExport } from './key-export.ts';
import { addKeyPaper } from './key-paper.ts';

export function addKey(define: Define): void {
  define('list', 'list the key slots; needs no passphrase', (command) => command, listCommand);
  define(
    'add',
    'add a way to open the repository: another passphrase (asked for), a key file, or a recovery phrase',
    (command) =>
      command
        .option('--new-key-file <file>', 'make a key file that opens the repository')
        .option('--new-passphrase-file <file>', 'read the new passphrase from a file instead of asking for it'),
    addCommand,
  );
  define(
    'change-passphrase [slot]',
    'replace a passphrase: that which was given, or that of SLOT',
    (command) => command.option('--new-passphrase-file <file>', 'read the new passphrase from a file instead of asking for it'),
    changeCommand,
  );
  define('remove <slot>', 'remove a key slot, if what was given opens another one', (command) => command, removeCommand);
  define('test', 'say which key slots a passphrase, key file or recovery phrase opens', (command) => command, testCommand);
  addKeyExport(define);
  addKeyPaper(define);
}

async function listCommand(context: CommandContext): Promise<void> {
  const layout = repositoryLayout(context.repositoryPath);
  const { digest } = await readConfig(layout);
  const found = await listSlots(layout.keys, digest);
  if (found.length === 0)
    throw new TimebandError(`${layout.keys} holds no key slot: nothing can be opened. Put the keys folder back from a copy.`, {
      code: 'REPOSITORY_CORRUPT',
      path: layout.keys,
    });
  for (const { problem } of found) if (problem !== undefined) context.warn(problem.message);
  if (found.some(({ problem }) => problem !== undefined)) context.exitCode = EXIT.incomplete;
  const rows = found.map(({ id, slot, problem }) => [
    id,
    slot === undefined ? '?' : SECRET_NAMES[slot.kind],
    slot === undefined ? '?' : formatTime(slot.createdMs),
    slot === undefined ? '?' : formatBytes(scryptMemoryBytes(slot.scrypt)),
    problem === undefined ? 'usable' : slot === undefined ? 'damaged' : 'of another repository',
  ]);
  context.print(formatTable(['SLOT', 'OPENED BY', 'CREATED', '>MEMORY', 'STATE'], rows), {
    slots: found.map(({ id, slot, problem }) => ({
      slot: id,
      kind: slot?.kind ?? null,
      created: slot === undefined ? null : new Date(slot.createdMs).toISOString(),
      memoryBytes: slot === undefined ? null : scryptMemoryBytes(slot.scrypt),
      problem: problem === undefined ? null : { code: problem.code, message: problem.message },
    })),
  });
}

async function addCommand(context: CommandContext, _args: readonly unknown[], options: Readonly<Record<string, unknown>>): Promise<void> {
  const { newKeyFile, newPassphraseFile } = options;
  const wantsPhrase = context.options.recoveryPhrase === true;
  if ([wantsPhrase, newKeyFile !== undefined, newPassphraseFile !== undefined].filter(Boolean).length > 1)
    throw new TimebandError('--recovery-phrase, --new-key-file and --new-passphrase-file exclude each other: add one at a time.', { code: 'USAGE' });
  if (wantsPhrase) requireShown(context);
  await context.withRepository(
    async (repository, _catalog, unlock) => {
      requireOffered(unlock);
      if (wantsPhrase) return await addPhrase(context, repository);
      if (typeof newKeyFile === 'string') return await addKeyFile(context, repository, newKeyFile);
      const passphrase = await getAnotherPassphrase(typeof newPassphraseFile === 'string' ? newPassphraseFile : undefined, context.terminal);
      const slot = await addOffered(repository, { passphrase });
      context.print(`Added key slot ${slot}: the new passphrase opens the repository, too.`, { slot, kind: 'passphrase' });
    },
    { ...context.options, recoveryPhrase: undefined }, // which says here what to make
  );
}

async function addPhrase(context: CommandContext, repository: Repository): Promise<void> {
  const recoveryPhrase = makeRecoveryPhrase();
  const slot = await addOffered(repository, { recoveryPhrase });
  context.print(`Added key slot ${slot}.\n${describePhrase(recoveryPhrase)}`, { slot, kind: 'recovery-phrase', recoveryPhrase });
}

async function addKeyFile(context: CommandContext, repository: Repository, file: string): Promise<void> {
  const slot = await makeKeyFile(file, (keyFile) => addOffered(repository, { keyFile }));
  context.print(`Added key slot ${slot}, which ${file} opens. Keep a copy of that file, away from the backup.`, { slot, kind: 'key-file', file });
}

async function addOffered(repository: Repository, offered: OfferedSecret): Promise<string> {
  using secret = SlotSecret.of(offered);
  return await addSlot(repository, secret);
}

async function changeCommand(context: CommandContext, [slot]: readonly unknown[], options: Readonly<Record<string, unknown>>): Promise<void> {
  const file = options['newPassphraseFile'];
  await context.withRepository(async (repository, _catalog, unlock) => {
    requireOffered(unlock);
    const slotId = typeof slot === 'string' ? slot : await slotToChange(repository, unlock);
    using secret = SlotSecret.of({ passphrase: await getAnotherPassphrase(typeof file === 'string' ? file : undefined, context.terminal) });
    await replaceSlot(repository, secret, { slotId });
    context.print(
      `Changed the passphrase of key slot ${slotId}. A copy of the repository from before is still opened by the old one; see "Keys" in the README.`,
      { slot: slotId },
    );
  });
}

/** The slot that the passphrase opened; after any other key, the only one for a passphrase. @throws TimebandError USAGE */
async function slotToChange(repository: Repository, unlock: Unlock): Promise<string> {
  if ('passphrase' in unlock && repository.openedSlotId !== undefined) return repository.openedSlotId;
  const found = (await listSlots(repository.layout.keys, repository.configDigest)).filter(({ slot }) => slot?.kind === 'passphrase');
  if (found.length === 1 && found[0] !== undefined) return found[0].id;
  const which =
    found.length === 0 ? 'there is none for a passphrase; add one with "timeband key add"' : `there are ${found.map(({ id }) => id).join(', ')}`;
  throw new TimebandError(`which key slot is to get a new passphrase? Name it: ${which}.`, { code: 'USAGE' });
}

async function removeCommand(context: CommandContext, [slot]: readonly unknown[]): Promise<void> {
  await context.withRepository(async (repository, _catalog, unlock) => {
    using secret = SlotSecret.of(requireOffered(unlock));
    await removeSlot(repository, secret, String(slot));
    context.print(`Removed key slot ${String(slot)}. Copies of the repository from before still have it.`, { slot: String(slot) });
  });
}

async function testCommand(context: CommandContext): Promise<void> {
  await context.withRepository(async (repository, _catalog, unlock) => {
    if ('volumeKey' in unlock) return await testVolumeKey(context, repository);
    using secret = SlotSecret.of(requireOffered(unlock));
    const slots = await slotsOpenedBy(repository, secret);
    context.print(`The ${SECRET_NAMES[secret.kind]} opens the repository: key slot ${slots.join(', ')}.`, { kind: secret.kind, slots, volume: null });
  });
}

async function testVolumeKey(context: CommandContext, repository: Repository): Promise<void> {
  const { volumes, damaged } = await repository.listVolumes();
  const [name] = volumes.map((volume) => volume.name);
  if (name === undefined)
    throw new TimebandError(damaged[0]?.error.message ?? 'the volume of this key is not in the repository any more.', {
      code: damaged[0]?.error.code ?? 'VOLUME_NOT_FOUND',
    });
  context.print(`The volume key opens volume "${name}", and nothing else.`, { kind: 'volume-key', slots: [], volume: name });
}
