/** The process behind a mount of the tests, which they kill. */
import { setTimeout as sleep } from 'node:timers/promises';
import { MountRegistry } from '../../src/mount/registry.ts';
import { isRunning } from './processes.ts';

async function serverPid(stateDirectory: string, directory: string): Promise<number> {
  const pid = (await new MountRegistry(stateDirectory).get(directory))?.server?.pid;
  if (pid === undefined) throw new Error(`nothing serves ${directory}`); // to kill process 0 would be to kill ourselves
  return pid;
}

export async function untilServerEnds(stateDirectory: string, directory: string): Promise<void> {
  const pid = await serverPid(stateDirectory, directory);
  while (isRunning(pid)) await sleep(5);
}

/** kill -9; the process has ended when this returns. */
export async function killServer(stateDirectory: string, directory: string): Promise<void> {
  process.kill(await serverPid(stateDirectory, directory), 'SIGKILL');
  await untilServerEnds(stateDirectory, directory);
}
