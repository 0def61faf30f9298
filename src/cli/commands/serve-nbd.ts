import path from 'node:path';
import { messageOf, TimebandError } from '../../../bands/errors.ts';
import { formatNbdAddress } from '../../nbd/nbd-address.ts';
import type { NamedSession, NbdRequest } from '../../nbd-service/serve.ts';
import type { OverlayChoice } from '../../overlay.ts';
import type { Repository } from '../../repository.ts';
import { splitVolumeAndSession } from '../../session-spec.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { warnOfKnownDamage } from '../known-damage.ts';
import { addOverlayOptions, overlayChoice } from '../overlay-options.ts';
import { parseCacheSize } from './mount.ts';

export function addServeNbd(define: Define): void {
  define(
    'serve-nbd <session...>',
    'serve NAME[@SESSION] as disks over NBD, for qemu, nbdcopy and libvirt: without FUSE, without root',
    (command) =>
      addOverlayOptions(command)
        .requiredOption('--socket <path>', 'the Unix socket to listen at')
        .option('--foreground', 'serve in this process until it is interrupted')
        .option('--cache-size <size>', 'memory for decoded data (256M)'),
    async (context, [texts], options) => {
      const socket = path.resolve(String(options['socket']));
      const cacheBytes = parseCacheSize(options['cacheSize']);
      const overlay = overlayChoice(context, options);
      const specs = (texts as string[]).map(String);
      if (specs.length > 1 && overlay !== undefined && 'file' in overlay)
        throw new TimebandError('--overlay FILE holds what is written over one session; serve one, or use --writable.', { code: 'USAGE' });
      if (new Set(specs).size < specs.length) throw new TimebandError('a session is named twice.', { code: 'USAGE' });
      await context.withRepository(async (repository) => {
        const request = { socket, cacheBytes, sessions: await resolveAll(context, repository, { specs, overlay }) };
        if (options['foreground'] === true) return await serveHere(context, repository, request);
        const { startNbd } = await import('../../nbd-service/servers.ts');
        await startNbd(repository, { stateDirectory: context.stateDirectory, request, signal: context.terminal.signal });
        printServed(context, request, `End it with: timeband stop-nbd ${socket}`);
      });
    },
  );

  define(
    'stop-nbd <socket>',
    'end a server that serve-nbd started in the background',
    (command) => command,
    async (context, [text]) => {
      const { stopNbd } = await import('../../nbd-service/servers.ts');
      const socket = path.resolve(String(text));
      await stopNbd(context.stateDirectory, socket);
      context.print(`Nothing is served at ${socket} any more.`, { socket });
    },
  );
}

/** An export is called what its session was called on the command line. */
async function resolveAll(
  context: CommandContext,
  repository: Repository,
  { specs, overlay }: { readonly specs: readonly string[]; readonly overlay: OverlayChoice | undefined },
): Promise<NamedSession[]> {
  const sessions: NamedSession[] = [];
  for (const spec of specs) {
    const { name, session } = splitVolumeAndSession(spec);
    const volume = await repository.volume(name);
    const id = await volume.resolve(session);
    await warnOfKnownDamage(context, volume, id);
    sessions.push({ exportName: spec, volume: name, session: id, overlay });
  }
  return sessions;
}

async function serveHere(context: CommandContext, repository: Repository, request: NbdRequest): Promise<void> {
  const { serveNbd } = await import('../../nbd-service/serve.ts');
  const service = await serveNbd(repository, request, (line) => context.warn(line));
  printServed(context, request, 'Ctrl-C ends it.');
  const { signal } = context.terminal;
  const stop = (): void => void service.down().catch((error: unknown) => context.warn(messageOf(error)));
  signal.addEventListener('abort', stop);
  if (signal.aborted) stop();
  await service.gone;
}

function printServed(context: CommandContext, { socket, sessions }: NbdRequest, advice: string): void {
  const exports = sessions.map(({ exportName, volume, session, overlay }) => {
    const uri = formatNbdAddress({ endpoint: { socket }, exportName, parameters: new Map() });
    return { name: exportName, volume, session, isWritable: overlay !== undefined, uri };
  });
  const lines = exports.map(({ volume, session, uri, isWritable }) => `Serving ${volume}@${session}${isWritable ? ', writable,' : ''} at ${uri}`);
  context.print([...lines, advice].join('\n'), { socket, exports });
}
