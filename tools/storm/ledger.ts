/** What many processes have told of the sessions that they made and deleted, and what follows for everybody who reads. */
import { violated } from './state.ts';

export interface LedgerSession {
  readonly volume: string;
  readonly id: string;
  /** SHA-256 of the image that was synced, in hex. */
  readonly digest: string;
}

interface Entry extends LedgerSession {
  isProtected: boolean;
  /** Commands under way that may delete it. */
  threats: number;
  /** Commands so far that might have. */
  threatened: number;
}

/** A session as it was when somebody began to read it. */
export interface Reading {
  readonly session: LedgerSession;
  /** Whether somebody may have deleted it since, or was about to when the reading began. */
  mayBeGone(): boolean;
}

export class Ledger {
  readonly #entries = new Map<string, Entry>();
  readonly #deleted = new Set<string>();
  /** What prunes deleted, with how many of the newest they had to keep. */
  readonly #pruned: { readonly volume: string; readonly id: string; readonly keepLast: number }[] = [];

  commit(session: LedgerSession): void {
    this.#entries.set(keyOf(session), { ...session, isProtected: false, threats: 0, threatened: 0 });
  }

  protect(session: LedgerSession): void {
    const entry = this.#entries.get(keyOf(session));
    if (entry !== undefined) entry.isProtected = true;
  }

  /** The sessions of a volume that nobody has deleted, oldest first. */
  sessionsOf(volume: string): (LedgerSession & { readonly isProtected: boolean })[] {
    return [...this.#entries.values()]
      .filter((entry) => entry.volume === volume && !this.#deleted.has(keyOf(entry)))
      .sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** Announces a command that may delete sessions. @returns what to call when it has ended */
  threaten(sessions: readonly LedgerSession[]): () => void {
    const entries = sessions.flatMap((session) => this.#entries.get(keyOf(session)) ?? []);
    for (const entry of entries) entry.threats++;
    for (const entry of entries) entry.threatened++;
    return () => {
      for (const entry of entries) entry.threats--;
    };
  }

  delete(session: { readonly volume: string; readonly id: string }): void {
    this.#deleted.add(keyOf(session));
  }

  prune(session: { readonly volume: string; readonly id: string; readonly keepLast: number }): void {
    if (this.#entries.get(keyOf(session))?.isProtected === true) violated(`a prune deleted the protected session ${keyOf(session)}`);
    this.#pruned.push(session);
    this.delete(session);
  }

  read(session: LedgerSession): Reading {
    const entry = this.#entries.get(keyOf(session));
    const before = entry?.threatened;
    const wasThreatened = (entry?.threats ?? 0) > 0;
    return { session, mayBeGone: () => wasThreatened || entry?.threatened !== before || this.#deleted.has(keyOf(session)) };
  }

  /** When all is told: no prune took one of the newest. @throws Violation */
  verifyPrunes(): void {
    for (const { volume, id, keepLast } of this.#pruned) {
      const newer = [...this.#entries.values()].filter((entry) => entry.volume === volume && entry.id > id).length;
      if (newer < keepLast) violated(`a prune that keeps ${keepLast} deleted ${volume}@${id}, and only ${newer} are newer`);
    }
  }
}

function keyOf({ volume, id }: { readonly volume: string; readonly id: string }): string {
  return `${volume}@${id}`;
}
