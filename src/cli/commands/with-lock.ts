import { spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { constants } from 'node:os';
import { ioError } from '../../../bands/errors.ts';
import { NAME_PATTERN } from '../../../bands/format/names.ts';
import { repositoryLayout } from '../../layout.ts';
import { Lock } from '../../locks.ts';
import { LIST_LOCK } from '../../repository.ts';
import { readConfig } from '../../repository-config.ts';
import type { Define } from '../define.ts';

const SIGNAL_BASE = 128;

export function addWithLock(define: Define): void {
  define(
    'with-lock <command...>',
    'run a command while no session is made or deleted in the repository, such as a copy of it; needs no passphrase (give -- first)',
    (command) => command,
    async (context, [argv]) => {
      const layout = repositoryLayout(context.repositoryPath);
      await readConfig(layout);
      const [program = '', ...args] = argv as string[];
      const command = `with-lock ${program}`;
      const waitMs = context.lockWaitMs;
      const { signal } = context.terminal;
      const held: Lock[] = [];
      try {
        held.push(await Lock.acquire(layout.locks, { ...LIST_LOCK, command, waitMs, signal }));
        for (const scope of (await readdir(layout.volumes)).filter((name) => NAME_PATTERN.test(name)))
          held.push(await Lock.acquire(layout.locks, { scope, what: `volume ${scope}`, command, waitMs, signal }));
        context.exitCode = await run(program, args, signal);
      } finally {
        for (const lock of held) await lock.release();
      }
    },
  );
}

/** Runs a program on this terminal. @returns its exit status, or 128 and the number of the signal that ended it, as a shell has it */
async function run(program: string, args: readonly string[], signal: AbortSignal): Promise<number> {
  return await new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: 'inherit' });
    signal.addEventListener('abort', () => child.kill('SIGTERM'), { once: true });
    child.once('error', (error) => reject(ioError(error, 'run', program)));
    child.once('close', (status, signal) => resolve(status ?? SIGNAL_BASE + (signal === null ? 0 : constants.signals[signal])));
  });
}
