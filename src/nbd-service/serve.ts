/** Serving sessions over NBD in this process until it is told to stop. Needs no root and no FUSE. */
import { once } from 'node:events';
import { messageOf } from '../../bands/errors.ts';
import { ReadCache } from '../../bands/store/read-cache.ts';
import { BandPool } from '../../bands/workers/band-pool.ts';
import type { Service } from '../background/serve.ts';
import { NbdServer } from '../nbd/server/nbd-server.ts';
import type { ServedExport } from '../nbd/server/served-export.ts';
import type { Repository } from '../repository.ts';
import { type ServedSession, type SessionChoice, serveSession } from '../served-session.ts';

/** A session under the name of an export. */
export interface NamedSession extends SessionChoice {
  readonly exportName: string;
}

export interface NbdRequest {
  /** An absolute path. */
  readonly socket: string;
  readonly cacheBytes: number | undefined;
  readonly sessions: readonly NamedSession[];
}

/** @throws TimebandError SESSION_NOT_FOUND, TARGET_EXISTS, LOCKED, IO_ERROR; nothing listens then */
export async function serveNbd(repository: Repository, request: NbdRequest, log: (line: string) => void): Promise<Service> {
  const pool = new BandPool(undefined, { servesReaders: true });
  const served: ServedSession[] = [];
  const letGo = async (): Promise<void> => {
    await pool.close();
    const ended = await Promise.allSettled(served.map((session) => session.close())); // one that fails keeps no other from being made durable
    for (const one of ended) if (one.status === 'rejected') throw one.reason;
  };
  try {
    const options = { pool, cache: new ReadCache(request.cacheBytes), command: 'serve-nbd' };
    const exports: ServedExport[] = [];
    for (const choice of request.sessions) {
      const session = await serveSession(repository, choice, options);
      served.push(session);
      exports.push({ name: choice.exportName, description: `${choice.volume}@${choice.session}`, image: session.image });
    }
    const server = await NbdServer.listen({ socket: request.socket, exports, onError: (what, error) => log(`${what}: ${messageOf(error)}`) });
    const stop = new AbortController();
    const gone = once(stop.signal, 'abort')
      .then(() => server.close())
      .finally(letGo);
    return {
      gone,
      async down() {
        stop.abort();
        await gone;
      },
    };
  } catch (error) {
    await letGo();
    throw error;
  }
}
