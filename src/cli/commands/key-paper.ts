import { TimebandError } from '../../../bands/errors.ts';
import { utf8 } from '../../../bands/format/bytes.ts';
import { decodeRecoveryPhrase, encodeRecoveryPhrase } from '../../../bands/format/recovery-phrase.ts';
import { addSlot, removeSlot } from '../../keys/change-slots.ts';
import { type Paper, renderPaperHtml, renderPaperText } from '../../keys/paper.ts';
import { type OfferedSecret, SlotSecret } from '../../keys/slot-secret.ts';
import type { Repository } from '../../repository.ts';
import type { Define } from '../define.ts';
import { makeRecoveryPhrase } from '../new-secret.ts';
import { requireOffered } from '../unlock.ts';
import { requireTarget, writeSecret } from './key-export.ts';

export function addKeyPaper(define: Define): void {
  define(
    'paper [file]',
    'write a page to be printed, with the recovery phrase or key file that was given, else with a new recovery phrase',
    (command) => command.option('--text', 'plain text instead of HTML'),
    async (context, [file], options) => {
      const target = typeof file === 'string' ? file : undefined;
      requireTarget(context, target);
      const write = async (paper: Paper): Promise<void> => {
        const page = options['text'] === true ? renderPaperText(paper) : renderPaperHtml(paper);
        await writeSecret(context, target, utf8(page));
        if (target === undefined) return;
        const { slotId, secret } = paper;
        context.print(`Wrote ${target}, for key slot ${slotId}. Print it, delete the file, and keep the page away from the backup.`, {
          file: target,
          slot: slotId,
          kind: secret.kind,
        });
      };
      await context.withRepository(async (repository, _catalog, unlock) => {
        const offered = requireOffered(unlock);
        const about = { repositoryId: repository.id, location: repository.layout.root, printedMs: Date.now() };
        if ('passphrase' in offered) return await withNewPhrase(repository, offered, (added) => write({ ...about, ...added }));
        await write({ ...about, slotId: repository.openedSlotId ?? '', secret: secretToPrint(offered) });
      });
    },
  );
}

/** A phrase whose page cannot be written is nobody's: its slot is removed again. */
async function withNewPhrase(
  repository: Repository,
  offered: OfferedSecret,
  write: (added: Pick<Paper, 'slotId' | 'secret'>) => Promise<void>,
): Promise<void> {
  const phrase = makeRecoveryPhrase();
  using secret = SlotSecret.of({ recoveryPhrase: phrase });
  const slotId = await addSlot(repository, secret);
  try {
    await write({ slotId, secret: { kind: 'recovery-phrase', phrase } });
  } catch (error) {
    using passphrase = SlotSecret.of(offered);
    await removeSlot(repository, passphrase, slotId);
    throw error;
  }
}

/** @throws TimebandError UNSUPPORTED for a key file that cannot be typed */
function secretToPrint(offered: Exclude<OfferedSecret, { passphrase: string }>): Paper['secret'] {
  if ('recoveryPhrase' in offered) return { kind: 'recovery-phrase', phrase: encodeRecoveryPhrase(decodeRecoveryPhrase(offered.recoveryPhrase)) };
  const text = new TextDecoder('latin1').decode(offered.keyFile).replace(/\r?\n$/, '');
  if (/^[\x20-\x7e]{1,200}$/.test(text)) return { kind: 'key-file', text };
  throw new TimebandError('the key file is not one line of text that could be typed from paper. Use a recovery phrase: leave --key-file out.', {
    code: 'UNSUPPORTED',
  });
}
