import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, TimebandError } from '../../../bands/errors.ts';
import type { BackgroundServer } from '../../background/start.ts';
import { knownDamage } from '../../damaged-bands.ts';
import type { ServedMount } from '../../mount/serve-tree.ts';
import type { Repository } from '../../repository.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { scratchFolder, WRITABLE_OPTION } from '../overlay-options.ts';
import { parseSize } from '../text.ts';

const BUSY_POLL_MS = 500;

/** Loaded by the commands that mount only: a machine without FUSE backs up and restores all the same. */
async function loadMounts(): Promise<typeof import('../../mount/mounts.ts')> {
  return await import('../../mount/mounts.ts');
}

/** The process that will serve a mount: it loads while the key is derived. */
export async function startServerAhead(context: CommandContext): Promise<BackgroundServer> {
  const { startMountServer } = await loadMounts();
  context.keepPrivate();
  return await startMountServer(context.stateDirectory);
}

export function parseCacheSize(value: unknown): number | undefined {
  if (typeof value !== 'string') return undefined;
  const bytes = parseSize(value);
  if (bytes === undefined || bytes === 0) throw new TimebandError(`"${value}" is not a size; write 64M, 256M, 1G …`, { code: 'USAGE' });
  return bytes;
}

export function addMount(define: Define): void {
  define(
    'mount <dir>',
    'show every session as DIR/NAME/SESSION/image',
    (command) =>
      command
        .option('--foreground', 'serve the mount in this process until it is unmounted')
        .option('--allow-other', 'let other users read it, too')
        .option(...WRITABLE_OPTION)
        .option('--cache-size <size>', 'memory for decoded data (256M)'),
    async (context, [dir], options) => {
      const directory = String(dir);
      const allowOther = options['allowOther'] === true;
      const cacheBytes = parseCacheSize(options['cacheSize']);
      const scratch = scratchFolder(context, options);
      if (options['foreground'] === true) return await serveHere(context, directory, { allowOther, cacheBytes, scratchFolder: scratch });
      await using server = await startServerAhead(context);
      const { mountRepository } = await loadMounts();
      const mounted = await context.withRepository(async (repository) => {
        await warnOfDamage(context, repository);
        return await mountRepository(repository, {
          stateDirectory: context.stateDirectory,
          directory,
          allowOther,
          cacheBytes,
          scratchFolder: scratch,
          signal: context.terminal.signal,
          server,
        });
      });
      context.print(`Mounted at ${mounted}. Take it down with: timeband unmount ${mounted}`, { mountPoint: mounted });
    },
  );

  define(
    'unmount <dir>',
    'take a mount down',
    (command) => command,
    async (context, [dir]) => {
      const { unmountRepository } = await loadMounts();
      const directory = await unmountRepository(context.stateDirectory, String(dir));
      context.print(`Unmounted ${directory}.`, { mountPoint: directory });
    },
  );
}

/** What is damaged is served all the same: only reading it is an error. */
async function warnOfDamage(context: CommandContext, repository: Repository): Promise<void> {
  for (const volume of (await repository.listVolumes()).volumes) {
    const list = await knownDamage(volume, (message) => context.warn(message));
    if (list.length > 0)
      context.warn(
        `${list.length} band(s) of "${volume.name}" are known to be damaged; reading them fails (EIO). "timeband check ${volume.name}" lists them.`,
      );
  }
}

async function serveHere(
  context: CommandContext,
  directory: string,
  options: { readonly allowOther: boolean; readonly cacheBytes: number | undefined; readonly scratchFolder: string | undefined },
): Promise<void> {
  const { serveMount } = await import('../../mount/serve.ts');
  const { mountPointName } = await import('../../mount/mount-point.ts');
  const { MountRegistry } = await import('../../mount/registry.ts');
  await context.withRepository(async (repository) => {
    await warnOfDamage(context, repository);
    const mountPoint = await mountPointName(directory);
    const lock = await new MountRegistry(context.stateDirectory).lock(mountPoint, 'mount');
    const mount = await serveMount(repository, { mountPoint, ...options, only: undefined }, (line) => context.warn(line)).finally(() =>
      lock.release(),
    );
    context.print(`Mounted at ${mount.mountPoint}. Ctrl-C takes it down.`, { mountPoint: mount.mountPoint });
    const takeDown = (): void => void takeDownWhenFree(context, mount);
    if (context.terminal.signal.aborted) takeDown();
    context.terminal.signal.addEventListener('abort', takeDown);
    await mount.gone;
  });
}

/** A second Ctrl-C ends the process and leaves a dead mount, so one that came too early has to do. */
async function takeDownWhenFree(context: CommandContext, mount: ServedMount): Promise<void> {
  for (let isTold = false; ; isTold = true) {
    try {
      return await mount.down();
    } catch (error) {
      if (!isTold) context.warn(`still mounted: ${messageOf(error)} It is taken down as soon as nothing uses it any more.`);
    }
    await sleep(BUSY_POLL_MS);
  }
}
