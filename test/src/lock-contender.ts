/** A process that takes a lock several times and fails if anybody else is inside with it. Arguments: locks folder, marker file, entries. */
import { rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { TimebandError } from '../../bands/errors.ts';
import { Lock } from '../../src/locks.ts';

const [directory = '', marker = '', entries = ''] = process.argv.slice(2);

async function enter(): Promise<void> {
  for (;;) {
    try {
      await using _lock = await Lock.acquire(directory, { scope: 'contended', what: 'the marker', command: 'contend' });
      writeFileSync(marker, String(process.pid), { flag: 'wx' }); // fails if somebody is inside
      await sleep(Math.random() * 3);
      rmSync(marker);
      return;
    } catch (error) {
      if (!(error instanceof TimebandError) || error.code !== 'LOCKED') throw error;
    }
  }
}

for (let i = 0; i < Number(entries); i++) await enter();
process.stdout.write('done');
