/** Programs on a pseudo terminal of their own, which ask and are answered. */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { sh, type Workspace } from './workspace.ts';

export interface Pty {
  readonly child: ChildProcess;
  shown(): string;
  /** Types once the prompt is shown as often as said and the terminal no longer echoes. */
  answer(prompt: RegExp, times: number, text: string): Promise<void>;
  status(): Promise<number>;
}

/** Runs `timeband` on a pseudo terminal of its own. */
export function onTerminal(t: ExecutionContext, ws: Workspace, args: string): Pty {
  return commandOnTerminal(t, ws, `"${process.execPath}" "${ws.program}" ${args}`);
}

/** Runs any command of the shell there. */
export function commandOnTerminal(t: ExecutionContext, ws: Workspace, line: string): Pty {
  const { TIMEBAND_PASSPHRASE: _, ...env } = ws.env;
  const command = `tty; ${line}; echo "status $?"`;
  const child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    env,
    cwd: ws.root,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  let text = '';
  child.stdout?.setEncoding('utf8').on('data', (more: string) => {
    text += more;
  });
  const until = async (isTime: () => boolean): Promise<void> => {
    while (!isTime()) {
      if (child.exitCode !== null) throw new Error(`it ended: ${text}`);
      await sleep(5);
    }
  };
  return {
    child,
    shown: () => text,
    async answer(prompt, times, typed) {
      await until(() => [...text.matchAll(new RegExp(prompt, 'g'))].length >= times);
      const [terminal = ''] = /\/dev\/pts\/\d+/.exec(text) ?? [];
      await until(() => sh('stty', '-F', terminal, '-a').includes('-echo '));
      child.stdin?.write(typed);
    },
    async status() {
      const end = /status (\d+)/;
      while (!end.test(text)) await sleep(5);
      child.stdin?.end();
      return Number(end.exec(text)?.[1]);
    },
  };
}
