/** The worker thread: what it does with one band at a time. Loaded by the pool; each export is a task. */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, futimesSync, lstatSync, openSync, writeSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { getPriority, setPriority, constants as systemConstants } from 'node:os';
import { workerData } from 'node:worker_threads';
import { crc32 } from 'node:zlib';
import { nodePrimitives } from '../crypto/node-primitives.ts';
import { createZstdCodec } from '../crypto/zstd.ts';
import { ioError, isShortage, messageOf, TimebandError, withPath } from '../errors.ts';
import {
  type BandScratch,
  checkPadding,
  createBandScratch,
  decodeBand as decodeBandFile,
  encodeBand,
  frameBand,
  hasValidCrc,
} from '../format/band-file.ts';
import { type BandContext, type BandHeader, maxBandFileBytes, openBandHeader, readBandSalt, SALT_BYTES } from '../format/band-header.ts';
import { equalBytes } from '../format/bytes.ts';
import { CHUNK_BYTES } from '../format/geometry.ts';
import type { StoredBand } from '../format/index-page.ts';
import { FILE_MODE, readAt, readFully, removeFileSync, statIfPresent, syncFile } from '../store/files.ts';
import { HeaderCache } from '../store/header-cache.ts';
import { type LinkOutcome, linkOrCopy } from '../store/link-file.ts';
import { readBandFile } from '../store/open-band-file.ts';
import { readChunk as readChunkOf } from '../store/read-chunk.ts';
import type { WorkerStart } from './band-pool.ts';
import { BufferPool, DIRECT_BLOCK_BYTES, differingRuns, isZero, nonZeroRuns } from './buffers.ts';
import { mayKnow } from './digest-filter.ts';
import type {
  AdoptBandTask,
  BandFileTask,
  BandInput,
  BandKeyMaterial,
  CheckBandTask,
  CheckCrcTask,
  CopyBandTask,
  DecodeBandTask,
  DescribeBandTask,
  LinkFilesTask,
  ReadChunkTask,
  ReframeBandTask,
  ResealBandResult,
  ResealBandTask,
  RestoreBandResult,
  RestoreBandTask,
  SourcePart,
  StoreBandResult,
  StoreBandTask,
  UpdateBandTask,
  WireResult,
} from './tasks.ts';
import { toWireError } from './tasks.ts';

const { loaded, niceness }: WorkerStart = workerData;
if (niceness > 0) makeWay(niceness);
Atomics.add(loaded, 0, 1); // the pool waits for it before it stops a thread

/** No file of a repository is larger: bands have at most 64 MiB, manifests a line for each GiB. */
const MAX_SEALED_BYTES = 134_217_728;
const codec = createZstdCodec();
const buffers = new BufferPool();
const chunkScratch = new Uint8Array(CHUNK_BYTES);
/** Of the bands that chunks were read of. */
const headers = new HeaderCache();
let scratch: { bandBytes: number; buffers: BandScratch } | undefined;

/** Linux has a priority for each thread, and this sets that of the thread it is called in. */
function makeWay(steps: number): void {
  try {
    setPriority(Math.min(getPriority() + steps, systemConstants.priority.PRIORITY_LOW));
  } catch {
    // where that is forbidden, all threads are equal
  }
}

function contextOf(keys: BandKeyMaterial): BandContext {
  return { primitives: nodePrimitives, codec, ...keys };
}

function scratchFor(bandBytes: number): BandScratch {
  if (scratch?.bandBytes !== bandBytes) scratch = { bandBytes, buffers: createBandScratch(bandBytes) };
  return scratch.buffers;
}

/** Runs a task; TimebandErrors travel as values because cloning an error loses its code. */
async function answer<T>(work: () => Promise<T>): Promise<WireResult<T>> {
  try {
    return { value: await work() };
  } catch (error) {
    if (error instanceof TimebandError) return { error: toWireError(error) };
    throw error;
  }
}

/** Fills `out`, a whole band; what is no data is zeros. @returns the bytes that were read */
async function readInput(input: BandInput, out: Uint8Array): Promise<number> {
  if ('sealed' in input) {
    const { sealed } = input;
    await withBandFile(sealed.file, sealed.band, (bytes) => verifyBytes(sealed, bytes, out));
    return sealed.band.fileBytes;
  }
  if ('bytes' in input) {
    out.set(input.bytes);
    out.fill(0, input.bytes.length);
    return input.bytes.length;
  }
  let filled = 0;
  let readBytes = 0;
  for (const part of input.parts) {
    out.fill(0, filled, part.start);
    await readPart(part, out);
    filled = part.start + part.length;
    readBytes += part.length;
  }
  out.fill(0, filled);
  return readBytes;
}

async function readPart(part: SourcePart, out: Uint8Array): Promise<void> {
  if (part.directFd !== undefined && (await readDirect(part.directFd, part, out))) return;
  for (let done = 0; done < part.length; ) {
    const got = await readAt(part.fd, out.subarray(part.start + done, part.start + part.length), part.position + done).catch((cause: unknown) => {
      throw unreadable(part, part.position + done, cause);
    });
    if (got === 0) throw cutShort(part, part.position + done);
    done += got;
  }
}

/** One read of whole blocks. @returns false if the page cache has to be asked: a short read, or none (EINVAL: blocks that do not fit, EIO: let it tell where) */
async function readDirect(
  fd: number,
  { start, length, position }: Pick<SourcePart, 'start' | 'length' | 'position'>,
  out: Uint8Array,
): Promise<boolean> {
  const end = Math.min(out.length, Math.ceil((start + length) / DIRECT_BLOCK_BYTES) * DIRECT_BLOCK_BYTES);
  try {
    return (await readAt(fd, out.subarray(start, end), position)) >= length;
  } catch {
    return false;
  }
}

function unreadable({ path }: SourcePart, position: number, cause: unknown): TimebandError {
  return new TimebandError(`cannot read ${path} at byte ${position}: ${messageOf(cause)}. No session was made.`, {
    code: 'SOURCE_UNREADABLE',
    cause,
    path,
  });
}

function cutShort({ path }: SourcePart, position: number): TimebandError {
  return new TimebandError(
    `${path} was cut to ${position} bytes or less while it was read. No session was made; run sync again when its size is at rest.`,
    { code: 'SOURCE_CHANGED', path },
  );
}

function writeAllSync(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
}

function writeBandFile(file: string, bytes: Uint8Array, mtimeSeconds: number): void {
  try {
    const fd = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, FILE_MODE);
    try {
      writeAllSync(fd, bytes, 0);
      futimesSync(fd, mtimeSeconds, mtimeSeconds);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw ioError(error, 'write the band file', file);
  }
}

async function store(task: StoreBandTask, plain: Uint8Array): Promise<StoreBandResult> {
  const readBytes = await readInput(task.input, plain);
  if (isZero(plain)) return { status: 'zero', readBytes };
  const fingerprint = nodePrimitives.fingerprint(task.keys.fingerprintKey, plain);
  if (task.baseFingerprint !== undefined && equalBytes(fingerprint, task.baseFingerprint)) return { status: 'unchanged', readBytes };
  const digest = nodePrimitives.sha256(plain);
  if (task.known !== undefined && mayKnow(task.known, digest)) return { status: 'known', readBytes, fingerprint, digest };
  if (task.file !== undefined && task.mayExist) {
    const adopted = await adopt(task.keys, task.file, digest);
    if (adopted !== undefined) return { status: 'stored', readBytes, ...adopted, isAdopted: true };
    removeFileSync(task.file);
  }
  // From here to the end nothing waits: the scratch buffers are this thread's alone.
  const salt = randomBytes(SALT_BYTES);
  const { file: bytes, paddingBytes } = encodeBand(contextOf(task.keys), plain, { salt, scratch: scratchFor(task.keys.bandBytes), isZero });
  if (task.file !== undefined) writeBandFile(task.file, bytes, task.mtimeSeconds);
  return { status: 'stored', readBytes, band: { salt, fileBytes: bytes.length, fingerprint, digest }, paddingBytes, isAdopted: false };
}

export function storeBand(task: StoreBandTask): Promise<WireResult<StoreBandResult>> {
  return answer(() => buffers.use(task.keys.bandBytes, (plain) => store(task, plain)));
}

function reseal({ keys, band, file, mtimeSeconds }: ResealBandTask, plain: Uint8Array): ResealBandResult {
  if (!equalBytes(nodePrimitives.sha256(plain), band.digest)) return 'different';
  const { file: bytes } = encodeBand(contextOf(keys), plain, { salt: band.salt, scratch: scratchFor(keys.bandBytes), isZero });
  if (bytes.length !== band.fileBytes) return 'other sealing';
  writeBandFile(file, bytes, mtimeSeconds);
  return 'resealed';
}

export function resealBand(task: ResealBandTask): Promise<WireResult<ResealBandResult>> {
  return answer(() =>
    buffers.use(task.keys.bandBytes, async (plain) => {
      await readInput(task.input, plain);
      return reseal(task, plain);
    }),
  );
}

/** What is left of a band file, cut or filled up to the length that the index names. */
async function readRemains(file: string, out: Uint8Array): Promise<void> {
  out.fill(0);
  try {
    await using handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = await handle.stat();
    if (stat.isFile()) await readFully(handle, out.subarray(0, Math.min(out.length, stat.size)), 0, file);
  } catch (error) {
    throw ioError(error, 'read the band file', file);
  }
}

export function reframeBand(task: ReframeBandTask): Promise<WireResult<boolean>> {
  const { keys, band, file, to, mtimeSeconds } = task;
  return answer(() =>
    buffers.use(band.fileBytes, async (bytes) => {
      await readRemains(file, bytes);
      frameBand(contextOf(keys), bytes, band.salt);
      return await buffers.use(keys.bandBytes, async (plain) => {
        if (!(await isWhole(task, bytes, plain))) return false;
        writeBandFile(to, bytes, mtimeSeconds);
        return true;
      });
    }),
  );
}

async function isWhole(task: BandFileTask, bytes: Uint8Array, plain: Uint8Array): Promise<boolean> {
  try {
    await verifyFile(task, bytes, plain);
    return true;
  } catch (error) {
    if (error instanceof TimebandError) return false;
    throw error;
  }
}

export function describeBand({ keys, file }: DescribeBandTask): Promise<WireResult<StoredBand>> {
  return answer(async () => {
    const { size } = await stat(file).catch((cause: unknown) => {
      throw ioError(cause, 'look at', file);
    });
    return await buffers.use(keys.bandBytes, (plain) =>
      buffers.use(Math.min(size, maxBandFileBytes(keys.bandBytes)), async (bytes) => {
        await readRemains(file, bytes);
        const salt = Uint8Array.from(readBandSalt(bytes));
        openBytes({ keys, file, band: { salt } }, bytes, plain);
        const { fingerprint, sha256 } = nodePrimitives;
        return { salt, fileBytes: bytes.length, fingerprint: fingerprint(keys.fingerprintKey, plain), digest: sha256(plain) };
      }),
    );
  });
}

export function copyBand(task: CopyBandTask): Promise<WireResult<undefined>> {
  return answer(() =>
    buffers.use(task.keys.bandBytes, async (plain) => {
      await withBandFile(task.file, task.band, async (bytes) => {
        await verifyFile(task, bytes, plain);
        writeBandFile(task.to, bytes, lstatSync(task.file).mtimeMs / 1000);
      });
      return undefined;
    }),
  );
}

/** What the index would say of a file that was there, and what of it is padding. */
interface AdoptedBand {
  readonly band: StoredBand;
  readonly paddingBytes: number;
}

/** What the index would say of a file that is whole and of that digest, else undefined: everything is proven, nothing taken on trust. */
async function adopt(keys: BandKeyMaterial, file: string, digest: Uint8Array): Promise<AdoptedBand | undefined> {
  try {
    const fileBytes = (await statIfPresent(file))?.size ?? 0;
    if (fileBytes === 0 || fileBytes > maxBandFileBytes(keys.bandBytes)) return undefined;
    // Whether the disk took what its writer left: what is read here may be in memory only, and somebody else's sync may have been told of the error.
    await syncFile(file);
    return await buffers.use(keys.bandBytes, (plain) =>
      withBandFile(file, { fileBytes }, async (bytes) => {
        const salt = Uint8Array.from(readBandSalt(bytes));
        const { padding } = await verifySealing({ keys, file, band: { salt } }, bytes, plain);
        if (!equalBytes(nodePrimitives.sha256(plain), digest)) return undefined;
        const band = { salt, fileBytes, fingerprint: nodePrimitives.fingerprint(keys.fingerprintKey, plain), digest };
        return { band, paddingBytes: padding?.length ?? 0 };
      }),
    );
  } catch (error) {
    if (error instanceof TimebandError && !isShortage(error)) return undefined; // one that cannot be read, say, is written again, too
    throw error;
  }
}

export function adoptBand({ keys, file, digest }: AdoptBandTask): Promise<WireResult<StoredBand | undefined>> {
  return answer(async () => (await adopt(keys, file, digest))?.band);
}

export function linkFiles({ from, to }: LinkFilesTask): Promise<WireResult<readonly LinkOutcome[]>> {
  return answer(() => Promise.resolve(from.map((file, i) => linkOrCopy(file, to[i] ?? ''))));
}

/** Reads a band file of exactly the length that the index names, into a buffer that `use` may look at. */
async function withBandFile<T>(file: string, band: Pick<StoredBand, 'fileBytes'>, use: (bytes: Uint8Array) => T | Promise<T>): Promise<T> {
  return await buffers.use(band.fileBytes, async (bytes) => {
    await readBandFile(file, bytes);
    return use(bytes);
  });
}

/** A band file of which nothing but its sealing is known. */
type SealedTask = Pick<BandFileTask, 'keys' | 'file'> & { readonly band: Pick<StoredBand, 'salt'> };

/** Opens a band file's bytes: authentic, and of the sealing that the index names, or an error. */
function openBytes(task: SealedTask, bytes: Uint8Array, out: Uint8Array): void {
  try {
    decodeBandFile(contextOf(task.keys), bytes, { salt: task.band.salt, scratch: chunkScratch, out });
  } catch (error) {
    throw withPath(error, task.file);
  }
}

/**
 * Opens them and compares the fingerprint, too: a second, independent proof that these are the bytes that were read once. The
 * SHA-256 would prove no more to whoever has the keys, and takes as long as all the rest.
 */
function verifyBytes(task: BandFileTask, bytes: Uint8Array, out: Uint8Array): void {
  openBytes(task, bytes, out);
  checkFingerprint(task, out);
}

function checkFingerprint(task: BandFileTask, plain: Uint8Array): void {
  if (equalBytes(nodePrimitives.fingerprint(task.keys.fingerprintKey, plain), task.band.fingerprint)) return;
  throw new TimebandError(`${task.file}: decodes to bytes that are not the band's (fingerprint differs)`, { code: 'BAND_CORRUPT', path: task.file });
}

type Runs = Iterable<readonly [number, number]>;

function writeTarget(task: RestoreBandTask | UpdateBandTask, bytes: Uint8Array, runs: Runs): RestoreBandResult {
  let writtenBytes = 0;
  try {
    for (const [start, end] of runs) {
      writeAllSync(task.targetFd, bytes.subarray(start, end), task.offset + start);
      writtenBytes += end - start;
    }
  } catch (error) {
    throw ioError(error, `write at byte ${task.offset} of`, task.targetPath);
  }
  return { writtenBytes };
}

export function restoreBand(task: RestoreBandTask): Promise<WireResult<RestoreBandResult>> {
  return answer(() =>
    buffers.use(task.bandBytes, async (plain) => {
      const { keys, file, band } = task;
      if (keys !== undefined && file !== undefined && band !== undefined)
        await withBandFile(file, band, (bytes) => verifyBytes({ keys, file, band }, bytes, plain));
      else plain.fill(0);
      const bytes = plain.subarray(0, task.length);
      return writeTarget(task, bytes, task.isSparse ? nonZeroRuns(bytes) : [[0, bytes.length]]);
    }),
  );
}

/** Reads what the target holds now into `out`, a whole band; zeros follow where the volume ends. */
async function readTarget(task: UpdateBandTask, out: Uint8Array): Promise<void> {
  const { targetFd, targetDirectFd, targetPath, offset, length } = task;
  const isRead = targetDirectFd !== undefined && (await readDirect(targetDirectFd, { start: 0, length, position: offset }, out));
  for (let done = isRead ? length : 0; done < length; ) {
    const got = await readAt(targetFd, out.subarray(done, length), offset + done).catch((cause: unknown) => {
      throw ioError(cause, `read at byte ${offset + done} of`, targetPath);
    });
    if (got === 0) throw new TimebandError(`${targetPath} was cut while it was compared.`, { code: 'IO_ERROR', path: targetPath });
    done += got;
  }
  out.fill(0, length);
}

function isBand(bytes: Uint8Array, { keys, band }: UpdateBandTask): boolean {
  return band === undefined ? isZero(bytes) : equalBytes(nodePrimitives.fingerprint(keys.fingerprintKey, bytes), band.fingerprint);
}

export function updateBand(task: UpdateBandTask): Promise<WireResult<RestoreBandResult>> {
  const { keys, file, band, length } = task;
  return answer(() =>
    buffers.use(keys.bandBytes, async (present) => {
      await readTarget(task, present);
      if (isBand(present, task)) return { writtenBytes: 0 };
      return await buffers.use(keys.bandBytes, async (wanted) => {
        if (band === undefined) wanted.fill(0);
        else await withBandFile(file, band, (bytes) => verifyBytes({ keys, file, band }, bytes, wanted));
        return writeTarget(task, wanted.subarray(0, length), differingRuns(present.subarray(0, length), wanted.subarray(0, length)));
      });
    }),
  );
}

export function decodeBand(task: DecodeBandTask): Promise<WireResult<undefined>> {
  return answer(async () => {
    // The seal alone: hashing as well would cost a mount a third of its speed, and reads of single chunks cannot do it.
    await withBandFile(task.file, task.band, (bytes) => openBytes(task, bytes, task.out));
    return undefined;
  });
}

export function readChunk({ keys, ...request }: ReadChunkTask): Promise<WireResult<undefined>> {
  return answer(() => {
    readChunkOf(contextOf(keys), request, headers);
    return Promise.resolve(undefined);
  });
}

/** What shows without the band's data: the checksum, and the header. */
function checkBytes(task: SealedTask, bytes: Uint8Array): BandHeader {
  if (!hasValidCrc({ crc32 }, bytes)) throw new TimebandError(`${task.file}: damaged (checksum differs)`, { code: 'BAND_CORRUPT', path: task.file });
  try {
    return openBandHeader(contextOf(task.keys), bytes, { salt: task.band.salt, fileBytes: bytes.length });
  } catch (error) {
    throw withPath(error, task.file);
  }
}

/** Verifies a file to the last byte, to vouch for it: who reads it for its data alone needs neither its checksum nor its padding. */
async function verifySealing(task: SealedTask, bytes: Uint8Array, plain: Uint8Array): Promise<BandHeader> {
  const header = checkBytes(task, bytes);
  openBytes(task, bytes, plain);
  if (header.padding !== undefined) await buffers.use(header.padding.length, (scratch) => verifyPadding(task, header, { file: bytes, scratch }));
  return header;
}

async function verifyPadding(task: SealedTask, header: BandHeader, work: { readonly file: Uint8Array; readonly scratch: Uint8Array }): Promise<void> {
  try {
    checkPadding(contextOf(task.keys), header, work);
  } catch (error) {
    throw withPath(error, task.file);
  }
}

/** The same, and that it holds the band. */
async function verifyFile(task: BandFileTask, bytes: Uint8Array, plain: Uint8Array): Promise<void> {
  await verifySealing(task, bytes, plain);
  checkFingerprint(task, plain);
}

export function checkBand(task: CheckBandTask): Promise<WireResult<undefined>> {
  return answer(() =>
    buffers.use(task.withData ? task.keys.bandBytes : 0, async (plain) => {
      await withBandFile(task.file, task.band, async (bytes) => {
        if (task.withData) await verifyFile(task, bytes, plain);
        else checkBytes(task, bytes);
      });
      return undefined;
    }),
  );
}

export function checkCrc(task: CheckCrcTask): Promise<WireResult<undefined>> {
  return answer(async () => {
    try {
      await using handle = await open(task.file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      const stat = await handle.stat();
      if (stat.isFile() && stat.size <= MAX_SEALED_BYTES) {
        const isValid = await buffers.use(stat.size, async (bytes) => {
          await readFully(handle, bytes, 0, task.file);
          return hasValidCrc({ crc32 }, bytes);
        });
        if (isValid) return undefined;
      }
    } catch (error) {
      throw ioError(error, 'read', task.file);
    }
    throw new TimebandError(`${task.file}: damaged (checksum differs)`, { code: 'BAND_CORRUPT', path: task.file });
  });
}
