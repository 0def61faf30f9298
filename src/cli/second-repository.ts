/** The repository that is copied to, opened beside the first one. */
import { TimebandError } from '../../bands/errors.ts';
import { toHex } from '../../bands/format/bytes.ts';
import type { Catalog } from '../catalog.ts';
import { repositoryLayout } from '../layout.ts';
import type { Repository, Unlock } from '../repository.ts';
import { readConfig } from '../repository-config.ts';
import type { CommandContext } from './context.ts';
import { givenSecondPassphrase, type PassphraseOptions } from './passphrase.ts';

export interface Opened {
  readonly repository: Repository;
  readonly catalog: Catalog;
}

/** Where the second one is, and its passphrase as options give it. */
export interface SecondOptions extends PassphraseOptions {
  readonly path: string;
}

/** Opens both for the time of `run`. @throws TimebandError REPOSITORY_*, PASSPHRASE_MISSING, WRONG_KEY */
export async function withTwoRepositories<T>(
  context: CommandContext,
  options: SecondOptions,
  run: (first: Opened, second: Opened) => Promise<T>,
): Promise<T> {
  const { config } = await readConfig(repositoryLayout(options.path)); // before anybody is asked for a passphrase
  const id = toHex(config.id);
  return await context.withRepository(async (repository, catalog, unlock) => {
    // A plain copy of a repository has its id, and so its catalog, which one of us can have open at a time.
    await using ownCatalog = repository.id === id ? undefined : context.catalogOf(id);
    const secondCatalog = ownCatalog ?? catalog;
    using second = await openSecond(context, options, { unlock, catalog: secondCatalog });
    return await run({ repository, catalog }, { repository: second, catalog: secondCatalog });
  });
}

/** With its own passphrase if one is given; else what opened the first one is tried before anybody is asked. */
async function openSecond(
  context: CommandContext,
  options: SecondOptions,
  first: { readonly unlock: Unlock; readonly catalog: Catalog },
): Promise<Repository> {
  const open = (unlock: Unlock): Promise<Repository> => context.openRepository(options.path, unlock, first.catalog);
  const given = await givenSecondPassphrase(options, context.terminal);
  if (given !== undefined) return await open({ passphrase: given });
  try {
    return await open(first.unlock);
  } catch (error) {
    if (!(error instanceof TimebandError) || error.code !== 'WRONG_KEY') throw error;
  }
  const asked = await context.terminal.askSecret(`Passphrase of ${options.path}: `);
  if (asked !== undefined) return await open({ passphrase: asked });
  throw new TimebandError(
    `the key of the first repository does not open ${options.path}, and there is no terminal to ask on. Set TIMEBAND_TO_PASSPHRASE, or use --to-passphrase-file or --to-passphrase-command.`,
    { code: 'PASSPHRASE_MISSING', path: options.path },
  );
}
