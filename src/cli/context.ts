/** What every command gets: its options, its output, and the repository opened with them. */
import type { Command } from 'commander';
import { TimebandError } from '../../bands/errors.ts';
import { toHex } from '../../bands/format/bytes.ts';
import type { PageCache } from '../../bands/store/session-directory.ts';
import { Catalog } from '../catalog.ts';
import { stateDirectory } from '../host.ts';
import { repositoryLayout } from '../layout.ts';
import { type DamagedVolume, Repository, type Unlock } from '../repository.ts';
import { readConfig } from '../repository-config.ts';
import type { SessionSummary } from '../sessions.ts';
import { limitCoreDumps } from '../sources/libc.ts';
import { EXIT } from './exit-codes.ts';
import { ProgressLine } from './progress-line.ts';
import type { Terminal } from './terminal.ts';
import { printable } from './text.ts';
import { getUnlock, type UnlockOptions, wipeUnlock } from './unlock.ts';

const PRIVATE_UMASK = 0o077;

/** The options of every command. */
export interface CommonOptions extends UnlockOptions {
  readonly repo?: string;
  /** False: --no-catalog. */
  readonly catalog?: boolean;
  readonly json?: true;
  readonly quiet?: true;
  readonly debug?: true;
  readonly lockWait?: string;
}

export function addCommonOptions(command: Command): Command {
  return command
    .option('--repo <path>', 'the repository (else TIMEBAND_REPO)')
    .option('--passphrase-file <file>', 'read the passphrase from a file')
    .option('--passphrase-command <command>', 'run a command that prints the passphrase')
    .option('--key-file <file>', 'unlock with a key file')
    .option('--recovery-phrase', 'unlock with a recovery phrase, asked for on the terminal ("init" and "key add": make one)')
    .option('--volume-key-file <file>', 'unlock one volume with its exported key')
    .option('--no-catalog', 'keep no catalog on this machine: nothing is cached, and a rollback is not noticed')
    .option('--json', 'print one JSON document on stdout')
    .option('--quiet', 'print nothing but errors and warnings')
    .option('--lock-wait <seconds>', 'wait so long for a lock that another process holds')
    .option('--debug', 'show where an error came from');
}

export class CommandContext {
  readonly terminal: Terminal;
  readonly options: CommonOptions;
  /** Raised by a command that is done, but found or skipped something. */
  exitCode = 0;

  constructor(terminal: Terminal, options: CommonOptions) {
    this.terminal = terminal;
    this.options = options;
  }

  get stateDirectory(): string {
    return stateDirectory(this.terminal.env);
  }

  /** @throws TimebandError USAGE */
  get repositoryPath(): string {
    const path = this.options.repo ?? this.terminal.env['TIMEBAND_REPO'];
    if (path !== undefined && path !== '') return path;
    throw new TimebandError('which repository? Name it with --repo PATH or TIMEBAND_REPO.', { code: 'USAGE' });
  }

  /** @throws TimebandError USAGE */
  get lockWaitMs(): number {
    const text = this.options.lockWait ?? '0';
    if (/^\d{1,7}$/.test(text)) return Number(text) * 1000;
    throw new TimebandError(`--lock-wait ${text}: give a number of seconds.`, { code: 'USAGE' });
  }

  /** Opens the repository with what `options` say, and the catalog beside it, for the time of `run`; then wipes the keys. */
  async withRepository<T>(
    run: (repository: Repository, catalog: Catalog, unlock: Unlock) => Promise<T>,
    options: UnlockOptions = this.options,
  ): Promise<T> {
    const { config } = await readConfig(repositoryLayout(this.repositoryPath)); // before anybody is asked for a passphrase
    const unlock = await getUnlock(options, this.terminal);
    try {
      this.keepPrivate();
      await using catalog = this.catalogOf(toHex(config.id));
      using repository = await this.openRepository(this.repositoryPath, unlock, catalog);
      return await run(repository, catalog, unlock);
    } finally {
      wipeUnlock(unlock);
    }
  }

  /** What LevelDB, tools and servers write is nobody else's, either: from here on. */
  keepPrivate(): void {
    process.umask(PRIVATE_UMASK);
  }

  catalogOf(repositoryId: string): Catalog {
    if (this.options.catalog === false) return Catalog.none();
    return new Catalog(this.stateDirectory, repositoryId, (message) => this.warn(message));
  }

  async openRepository(root: string, unlock: Unlock, catalog: Catalog): Promise<Repository> {
    const pageCacheFor = (volumeId: string): PageCache => catalog.pageCache(volumeId);
    const opening = Repository.open(root, unlock, { pageCacheFor, lockWaitMs: this.lockWaitMs, signal: this.terminal.signal });
    limitCoreDumps(); // while scrypt runs elsewhere
    return await opening;
  }

  /** The result: with --json the document, else the text (not with --quiet). */
  print(text: string, json: unknown): void {
    if (this.options.json === true) this.terminal.stdout.write(`${JSON.stringify(json, null, 2)}\n`);
    else if (this.options.quiet !== true && text !== '') this.terminal.stdout.write(`${printable(text)}\n`);
  }

  /** Asks on the terminal; undefined if there is none. */
  async ask(question: string): Promise<string | undefined> {
    return await this.terminal.askLine(printable(question));
  }

  warn(message: string): void {
    this.terminal.stderr.write(`timeband: warning: ${printable(message)}\n`);
  }

  /** Tells of volumes that a command over all of them had to pass over. */
  passOver(damaged: readonly DamagedVolume[]): void {
    for (const { id, error } of damaged) this.warn(`volume ${id} cannot be read: ${error.message}`);
    if (damaged.length > 0) this.exitCode = EXIT.incomplete;
  }

  /** Tells of sessions that cannot be read. */
  tellProblems(summaries: readonly SessionSummary[]): void {
    for (const { volume, session, problem } of summaries) {
      if (problem === undefined) continue;
      this.warn(`${volume}@${session} is damaged: ${problem}`);
      this.exitCode = EXIT.incomplete;
    }
  }

  /** A progress line for long work; undefined with --quiet. */
  progress(label: string): ProgressLine | undefined {
    return this.options.quiet === true ? undefined : new ProgressLine(this.terminal, label);
  }
}
