import path from 'node:path';
import { TimebandError } from '../../../bands/errors.ts';
import { toHex } from '../../../bands/format/bytes.ts';
import { CIPHER_NAMES, type CipherName } from '../../../bands/format/primitives.ts';
import type { RepositoryConfig } from '../../../bands/format/repository-config.ts';
import type { InitOptions } from '../../init-repository.ts';
import { repositoryLayout } from '../../layout.ts';
import { Repository } from '../../repository.ts';
import { readConfig } from '../../repository-config.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { describePhrase, makeRecoveryPhrase, requireShown } from '../new-secret.ts';
import { getNewPassphrase, getPassphrase } from '../passphrase.ts';

export function addInit(define: Define): void {
  define(
    'init',
    'make a repository',
    (command) =>
      command
        .option('--cipher <name>', `what seals the bands: ${CIPHER_NAMES.join(' or ')} (aes-256-gcm)`)
        .option('--same-keys-as <path>', 'take the keys, cipher and passphrase of this repository: "copy" from it then copies bands as they are'),
    async (context, _args, options) => {
      refuseOtherKeys(context);
      const root = path.resolve(context.repositoryPath);
      const cipher = parseCipher(options['cipher']);
      const recoveryPhrase = context.options.recoveryPhrase === true ? makeRecoveryPhrase() : undefined;
      if (recoveryPhrase !== undefined) requireShown(context);
      const config =
        typeof options['sameKeysAs'] === 'string'
          ? await initWithKeysOf(context, root, { path: options['sameKeysAs'], cipher, recoveryPhrase })
          : await Repository.init(root, { passphrase: await getNewPassphrase(context.options, context.terminal), cipher, recoveryPhrase });
      const shown = recoveryPhrase === undefined ? '' : `\n${describePhrase(recoveryPhrase)}`;
      context.print(
        `Made a repository at ${root}.\nIts data can be read with the passphrase and the files in ${path.join(root, 'keys')} only: keep a copy of both elsewhere.${shown}`,
        { repository: root, id: toHex(config.id), cipher: config.cipher, recoveryPhrase: recoveryPhrase ?? null },
      );
    },
  );
}

/** What would be passed over would be taken for a way to open the repository. @throws TimebandError USAGE */
function refuseOtherKeys({ options }: CommandContext): void {
  if (options.keyFile === undefined && options.volumeKeyFile === undefined) return;
  throw new TimebandError(
    'a new repository gets a passphrase: leave --key-file and --volume-key-file out ("key add --new-key-file" makes a key file later).',
    {
      code: 'USAGE',
    },
  );
}

/** @throws TimebandError USAGE */
function parseCipher(name: unknown): CipherName | undefined {
  const cipher = CIPHER_NAMES.find((one) => one === name);
  if (name === undefined || cipher !== undefined) return cipher;
  throw new TimebandError(`no cipher "${String(name)}"; there are ${CIPHER_NAMES.join(' and ')}.`, { code: 'USAGE' });
}

/** The passphrase that opens the other repository opens the new one as well: nobody has to make up, or to mistype, a second one. */
async function initWithKeysOf(
  context: CommandContext,
  root: string,
  { path: other, cipher, recoveryPhrase }: { readonly path: string } & Pick<InitOptions, 'cipher' | 'recoveryPhrase'>,
): Promise<RepositoryConfig> {
  if (cipher !== undefined) throw new TimebandError('--same-keys-as takes the cipher over, too: leave --cipher out.', { code: 'USAGE' });
  await readConfig(repositoryLayout(other)); // before anybody is asked for a passphrase
  const passphrase = await getPassphrase(context.options, context.terminal);
  using sameKeysAs = await Repository.open(other, { passphrase });
  return await Repository.init(root, { passphrase, recoveryPhrase, sameKeysAs });
}
