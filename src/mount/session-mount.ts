/** One session served through FUSE at a private folder, step by step, each noted so that whatever kills this process, the next one finds it. */
import path from 'node:path';
import { messageOf, TimebandError } from '../../bands/errors.ts';
import { type BackgroundServer, throwIfInterrupted } from '../background/start.ts';
import type { OverlayChoice } from '../overlay.ts';
import type { Repository } from '../repository.ts';
import { IMAGE_NAME } from './mount-point.ts';
import { startMountServer } from './mounts.ts';
import type { MountRecord, MountRegistry } from './registry.ts';
import { closeRecord } from './take-down.ts';

export interface SessionMountOptions {
  readonly stateDirectory: string;
  readonly volume: string;
  /** A session's id. */
  readonly session: string;
  readonly cacheBytes?: number | undefined;
  /** Where what is written goes; undefined: it is read-only. */
  readonly overlay?: OverlayChoice | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Started ahead; else one is started. */
  readonly server?: BackgroundServer | undefined;
}

export class SessionMount {
  /** What is being done, for the message of what fails. */
  step = 'note what is opened';
  record: MountRecord;
  readonly #repository: Repository;
  readonly #options: SessionMountOptions;
  readonly #registry: MountRegistry;
  readonly #directory: string;

  /** @param at `directory` is the name under which it is noted */
  constructor(repository: Repository, options: SessionMountOptions, at: { registry: MountRegistry; directory: string; fusePoint: string }) {
    this.#repository = repository;
    this.#options = options;
    this.#registry = at.registry;
    this.#directory = at.directory;
    this.record = { server: undefined, repository: repository.layout.root, fusePoint: at.fusePoint, opened: { loop: undefined } };
  }

  async note(change: Partial<MountRecord>): Promise<void> {
    this.record = { ...this.record, ...change };
    await this.#registry.put(this.#directory, this.record);
  }

  /** @throws TimebandError INTERRUPTED */
  begin(step: string): void {
    throwIfInterrupted(this.#options.signal);
    this.step = step;
  }

  /** @returns the path of the session's image */
  async serve(): Promise<string> {
    await this.note({});
    this.begin('mount the session with FUSE');
    const { volume, session, cacheBytes, overlay, signal } = this.#options;
    const request = { mountPoint: this.record.fusePoint, allowOther: false, cacheBytes, only: { volume, session, overlay } };
    await using server = this.#options.server ?? (await startMountServer(this.#options.stateDirectory));
    await server.serve(
      { root: this.#repository.layout.root, key: this.#repository.exportKey(), request },
      {
        path: this.record.fusePoint,
        logFile: await this.#registry.newLogFile(this.#directory),
        onStarted: (server) => this.note({ server }),
        signal,
      },
    );
    return path.join(this.record.fusePoint, IMAGE_NAME);
  }

  /** Takes down all that is there of it. */
  async takeDown(): Promise<void> {
    await closeRecord(this.#registry, this.#directory, this.record);
  }

  /**
   * After an error in a step: undoes those before.
   * @param failure `what` failed, and the command that clears what could not be undone
   * @returns what to throw
   */
  async failed(error: unknown, { what, toClear }: { readonly what: string; readonly toClear: string }): Promise<TimebandError> {
    const left = await this.takeDown().then(
      () => 'The steps before it were undone.',
      (problem: unknown) => `Not undone: ${messageOf(problem)} Run "${toClear}".`,
    );
    const isInterrupted = this.#options.signal?.aborted === true; // then it may have been a tool that the same Ctrl-C ended
    return new TimebandError(`${what}: failed to ${this.step}: ${messageOf(error)} ${left}`, {
      code: isInterrupted ? 'INTERRUPTED' : error instanceof TimebandError ? error.code : 'IO_ERROR',
      cause: error,
      path: this.#directory,
    });
  }
}
