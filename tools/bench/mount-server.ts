/** A mount that a tool serves in another process: bringing it up, what it costs, taking it down. */
import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { TimebandError } from '../../bands/errors.ts';
import type { Command, Runner, Usage } from './measure.ts';
import { unmountPatiently } from './mounts.ts';
import { endedChildrenCpuMs, endMarked, markedCpuMs, markedProcesses, peakRssOf, resetPeakRss, waitForEnd } from './processes.ts';
import type { Workspace } from './workspace.ts';

const POLL_MS = 5;
const PATIENCE_MS = 60_000;
const END_PATIENCE_MS = 15_000;

export interface MountOptions {
  readonly directory: string;
  /** Brings the mount up, whether it then stays in the foreground or not. */
  readonly command: Command;
  /** Takes it down, whereupon the server ends; undefined for one that must be ended. */
  readonly unmount?: Command | undefined;
  /** Something in the mount, once it is there. */
  readonly look: () => Promise<string | undefined>;
}

export class MountServer {
  /** From the start of the command until something was there to be seen. */
  readonly visible: Usage;
  readonly #workspace: Workspace;
  readonly #runner: Runner;
  readonly #options: MountOptions;

  private constructor(parts: { workspace: Workspace; runner: Runner; options: MountOptions; visible: Usage }) {
    this.#workspace = parts.workspace;
    this.#runner = parts.runner;
    this.#options = parts.options;
    this.visible = parts.visible;
  }

  /** @throws TimebandError MOUNT_FAILED with what the tool said */
  static async start(environment: { readonly workspace: Workspace; readonly runner: Runner }, options: MountOptions): Promise<MountServer> {
    const { workspace } = environment;
    const { mark } = workspace;
    await using log = await open(workspace.path('mount.log'), 'w+');
    const [tool = '', ...args] = options.command.argv;
    const endedBefore = endedChildrenCpuMs();
    const startedAt = performance.now();
    const child = spawn(tool, args, {
      env: { ...workspace.environment, ...options.command.env },
      cwd: workspace.run,
      stdio: ['ignore', log.fd, log.fd],
    });
    let isFailed = false;
    child.once('error', () => {
      isFailed = true;
    });
    child.once('exit', (code) => {
      isFailed = code !== 0;
    });
    while ((await options.look()) === undefined) {
      if (isFailed || performance.now() - startedAt > PATIENCE_MS) {
        await unmountPatiently(options.directory);
        await endMarked(mark);
        const said = (await log.read({ buffer: Buffer.alloc(2000), position: 0 })).buffer.toString().replaceAll('\0', '').trim();
        throw new TimebandError(`the mount did not come up: ${said}`, { code: 'MOUNT_FAILED', path: options.directory });
      }
      await sleep(POLL_MS);
    }
    const wallMs = performance.now() - startedAt;
    const cpuMs = endedChildrenCpuMs() - endedBefore + markedCpuMs(mark);
    const visible = { wallMs, cpuMs, peakRssBytes: peakRssOf(markedProcesses(mark)) };
    return new MountServer({ ...environment, options, visible });
  }

  /** What `run` costs the process that reads and the one that serves. Its wall time is what `run` says. */
  async measure(run: () => Promise<Usage>): Promise<Usage> {
    const { mark } = this.#workspace;
    const servers = markedProcesses(mark);
    resetPeakRss(servers);
    const before = markedCpuMs(mark);
    const client = await run();
    return { wallMs: client.wallMs, cpuMs: client.cpuMs + markedCpuMs(mark) - before, peakRssBytes: peakRssOf(servers) };
  }

  /** Unmounts, and waits until the server has ended. */
  async stop(): Promise<void> {
    const { directory, unmount } = this.#options;
    try {
      if (unmount !== undefined) await this.#runner.run(unmount);
    } finally {
      await unmountPatiently(directory);
      if (unmount === undefined || !(await waitForEnd(this.#workspace.mark, END_PATIENCE_MS))) await endMarked(this.#workspace.mark);
    }
  }
}
