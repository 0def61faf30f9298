/**
 * A `qemu-nbd` of our own that exports one image, read-only, on a socket in a private folder. As long as it runs, QEMU lets
 * nobody write to the image.
 *
 * It must not outlive us, even if we are killed: it ends with its only client (no --persistent); where `setpriv` is
 * installed the kernel kills it with its parent; and its folder is recorded before it is started, so that the next sync
 * finds one that was left, by the socket in its command line.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, TimebandError } from '../../../bands/errors.ts';
import { utf8 } from '../../../bands/format/bytes.ts';
import { createDirectories, createDirectory, readRegularFile, replaceFile } from '../../../bands/store/files.ts';
import { NbdClient } from '../../nbd/client/nbd-client.ts';
import { BASE_ALLOCATION, DIRTY_BITMAP_PREFIX } from '../../nbd/protocol.ts';
import { notStarted, toolEnvironment, toolError } from './qemu-tools.ts';

const EXPORT_NAME = 'disk';
const SOCKET_NAME = 'nbd.sock';
const FOLDER_PREFIX = 'timeband-nbd-';
/** A longer one would leave no room for the socket's name. */
const MAX_TEMPORARY_BYTES = 60;
const START_MS = 30_000;
const START_POLL_MS = 10;
const MAX_RECORD_BYTES = 4096;

export interface ExporterOptions {
  readonly image: string;
  /** Of the image, for --image-opts. */
  readonly imageOptions: string;
  /** A bitmap to export with it. */
  readonly bitmap: string | undefined;
  /** Where its folder is written down, in case that we are killed; undefined: nowhere. */
  readonly recordFile: string | undefined;
}

export class QemuExporter {
  readonly client: NbdClient;
  readonly #run: Run;

  private constructor(client: NbdClient, run: Run) {
    this.client = client;
    this.#run = run;
  }

  /** @throws TimebandError TOOL_MISSING, TOOL_FAILED, LOCKED, PERMISSION_DENIED */
  static async start(options: ExporterOptions): Promise<QemuExporter> {
    const run = await Run.start(options);
    try {
      return new QemuExporter(await run.connect(), run);
    } catch (error) {
      await run.end();
      throw error;
    }
  }

  /** Ends it; what it exported can be written to again. */
  async stop(): Promise<void> {
    await this.client.close();
    await this.#run.end();
  }
}

/** The process, and what belongs to it. */
class Run {
  readonly #options: ExporterOptions;
  readonly #folder: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #stderr = '';

  private constructor(options: ExporterOptions, folder: string, child: ChildProcess) {
    this.#options = options;
    this.#folder = folder;
    this.#child = child;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-4096);
    });
    this.#ended = new Promise((resolve) => child.once('close', () => resolve()));
  }

  static async start(options: ExporterOptions): Promise<Run> {
    const parent = Buffer.byteLength(tmpdir()) <= MAX_TEMPORARY_BYTES ? tmpdir() : '/tmp';
    const folder = path.join(parent, `${FOLDER_PREFIX}${randomBytes(8).toString('hex')}`);
    if (options.recordFile !== undefined) {
      await createDirectories(path.dirname(options.recordFile));
      await replaceFile(options.recordFile, utf8(folder));
    }
    await createDirectory(folder);
    const bitmap = options.bitmap === undefined ? [] : [`--bitmap=${options.bitmap}`];
    const args = ['--read-only', '--shared=1', `--export-name=${EXPORT_NAME}`, socketFlag(folder), ...bitmap, '--image-opts', options.imageOptions];
    try {
      return new Run(options, folder, await startExporter(args));
    } catch (error) {
      await forgetFolder(folder, options.recordFile);
      throw error;
    }
  }

  get #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Connects once it listens. */
  async connect(): Promise<NbdClient> {
    const { bitmap, image } = this.#options;
    const contexts = [BASE_ALLOCATION, ...(bitmap === undefined ? [] : [DIRTY_BITMAP_PREFIX + bitmap])];
    const endpoint = { socket: path.join(this.#folder, SOCKET_NAME) };
    for (let waited = 0; waited < START_MS && !this.#hasEnded; waited += START_POLL_MS) {
      try {
        return await NbdClient.connect({ endpoint, exportName: EXPORT_NAME, contexts });
      } catch (error) {
        const isNotThere = error instanceof TimebandError && ['ENOENT', 'ECONNREFUSED'].includes(errnoOf(error.cause) ?? '');
        if (!isNotThere) throw error;
        await sleep(START_POLL_MS); // it does not listen yet
      }
    }
    if (!this.#hasEnded)
      throw new TimebandError(`qemu-nbd does not export ${image} after ${START_MS / 1000} seconds.`, { code: 'TOOL_FAILED', path: image });
    await this.#ended;
    throw toolError('qemu-nbd', this.#stderr, image);
  }

  async end(): Promise<void> {
    this.#child.kill('SIGKILL'); // it only reads
    await this.#ended;
    await forgetFolder(this.#folder, this.#options.recordFile);
  }
}

async function startExporter(args: readonly string[]): Promise<ChildProcess> {
  try {
    return await started('setpriv', ['--pdeathsig', 'KILL', '--', 'qemu-nbd', ...args]);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw notStarted('setpriv', error);
  }
  return await started('qemu-nbd', args).catch((error: unknown) => {
    throw notStarted('qemu-nbd', error);
  });
}

/** In a session of its own: a Ctrl-C is for us, who then end it. */
function started(program: string, args: readonly string[]): Promise<ChildProcess> {
  const child = spawn(program, args, { env: toolEnvironment(), detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
  return new Promise((resolve, reject) => {
    child.once('spawn', () => resolve(child));
    child.once('error', reject);
  });
}

function socketFlag(folder: string): string {
  return `--socket=${path.join(folder, SOCKET_NAME)}`;
}

async function forgetFolder(folder: string, recordFile: string | undefined): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  if (recordFile !== undefined) await rm(recordFile, { force: true });
}

/** Ends what an earlier process that was killed left running, by the folder that it recorded. Nobody else may be using the record. */
export async function endLeftExporter(recordFile: string): Promise<void> {
  const folder = await readFolder(recordFile);
  if (folder === undefined) return;
  if (path.isAbsolute(folder) && path.basename(folder).startsWith(FOLDER_PREFIX)) {
    for (const pid of await processesWith(socketFlag(folder))) killQuietly(pid);
    await rm(folder, { recursive: true, force: true });
  }
  await rm(recordFile, { force: true });
}

async function readFolder(recordFile: string): Promise<string | undefined> {
  try {
    return new TextDecoder().decode(await readRegularFile(recordFile, { maxBytes: MAX_RECORD_BYTES, what: 'record of an exporter' }));
  } catch (error) {
    if (error instanceof TimebandError && error.code === 'RECORD_MISSING') return undefined;
    throw error;
  }
}

/** Processes of this machine with `flag` among their arguments. The random digits in it make it certain whose they are. */
async function processesWith(flag: string): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const commandLine = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => ''); // it has just ended
    if (commandLine.split('\0').includes(flag)) found.push(Number(name));
  }
  return found;
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // it has just ended
  }
}
