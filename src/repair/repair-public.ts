/** Mending what of a repository needs no key: folders for work in progress, and the texts for whoever finds it. */
import { equalBytes, utf8 } from '../../bands/format/bytes.ts';
import { createDirectory, replaceFile, statIfPresent } from '../../bands/store/files.ts';
import { readRecoveryScript } from '../recovery-script.ts';
import type { Repository } from '../repository.ts';
import { REPOSITORY_README } from '../repository-readme.ts';
import { readRemains } from './record-candidates.ts';
import type { RepairLog } from './repair-log.ts';

/** Makes missing folders again that may be empty, and puts README.txt and recover.py back to those of this version. */
export async function repairPublicFiles({ layout }: Repository, log: RepairLog): Promise<void> {
  for (const [name, folder] of [
    ['trash', layout.trash],
    ['locks', layout.locks],
  ] as const) {
    if ((await statIfPresent(folder)) === undefined)
      await log.act({}, { what: `folder ${name}`, how: 'made again' }, () => createDirectory(folder, { allowExisting: true }));
  }
  await putBack(layout.readme, 'README.txt', utf8(REPOSITORY_README), log);
  await putBack(layout.recoveryScript, 'recover.py', await readRecoveryScript(), log);
}

async function putBack(file: string, what: string, bytes: Uint8Array, log: RepairLog): Promise<void> {
  const present = await readRemains(file);
  if (present !== undefined && equalBytes(present, bytes)) return;
  const how = present === undefined ? 'written again' : 'put back to that of this version of Timeband';
  await log.act({}, { what, how }, () => replaceFile(file, bytes));
}
