import path from 'node:path';
import { TimebandError } from '../../../bands/errors.ts';
import { toHex } from '../../../bands/format/bytes.ts';
import { CIPHER_NAMES } from '../../../bands/format/primitives.ts';
import { Repository } from '../../repository.ts';
import type { Define } from '../define.ts';
import { describePhrase, makeRecoveryPhrase, requireShown } from '../new-secret.ts';
import { getNewPassphrase } from '../passphrase.ts';

export function addInit(define: Define): void {
  define(
    'init',
    'make a repository',
    (command) => command.option('--cipher <name>', `what seals the bands: ${CIPHER_NAMES.join(' or ')}`, 'aes-256-gcm'),
    async (context, _args, options) => {
      const root = path.resolve(context.repositoryPath);
      const cipher = CIPHER_NAMES.find((name) => name === options['cipher']);
      if (cipher === undefined)
        throw new TimebandError(`no cipher "${String(options['cipher'])}"; there are ${CIPHER_NAMES.join(' and ')}.`, { code: 'USAGE' });
      const recoveryPhrase = context.options.recoveryPhrase === true ? makeRecoveryPhrase() : undefined;
      if (recoveryPhrase !== undefined) requireShown(context);
      const passphrase = await getNewPassphrase(context.options, context.terminal);
      const config = await Repository.init(root, { passphrase, cipher, recoveryPhrase });
      const shown = recoveryPhrase === undefined ? '' : `\n${describePhrase(recoveryPhrase)}`;
      context.print(
        `Made a repository at ${root}.\nIts data can be read with the passphrase and the files in ${path.join(root, 'keys')} only: keep a copy of both elsewhere.${shown}`,
        { repository: root, id: toHex(config.id), cipher, recoveryPhrase: recoveryPhrase ?? null },
      );
    },
  );
}
