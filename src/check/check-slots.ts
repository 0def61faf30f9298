/** What a check says of the key slots: those that open nothing, because they are damaged or of another repository. Needs no key. */
import { TimebandError } from '../../bands/errors.ts';
import { listSlots } from '../keys/slots.ts';
import { type Finding, finding } from './findings.ts';

/** Findings name the folder in the place of a volume. @throws TimebandError IO_ERROR */
export async function checkSlots(keysDirectory: string, configDigest: Uint8Array): Promise<Finding[]> {
  const slots = await listSlots(keysDirectory, configDigest);
  const findings = slots.flatMap(({ problem }) => (problem === undefined ? [] : [finding({ volume: 'keys' }, problem)]));
  if (slots.length > 0) return findings;
  const error = new TimebandError(`${keysDirectory}: no key slot is left; nothing can be opened. Put the keys folder back from a copy.`, {
    code: 'REPOSITORY_CORRUPT',
    path: keysDirectory,
  });
  return [finding({ volume: 'keys' }, error)];
}
