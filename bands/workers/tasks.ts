/**
 * What the main thread asks of a worker. Tasks carry descriptors, paths and a few numbers; band data never crosses
 * between threads: workers read and write files themselves, or decode into shared memory.
 */
import { type ErrorCode, errnoOf, TimebandError } from '../errors.ts';
import type { StoredBand } from '../format/index-page.ts';
import type { Padding } from '../format/padding.ts';
import type { CipherName } from '../format/primitives.ts';
import type { LinkOutcome } from '../store/link-file.ts';

/** The keys of the bands of one volume, in shared memory so that wiping them once wipes them for all threads. */
export interface BandKeyMaterial {
  readonly cipher: CipherName;
  readonly bandBytes: number;
  readonly bandKey: Uint8Array;
  readonly fingerprintKey: Uint8Array;
  readonly domainId: Uint8Array;
  /** Of band files that are written; undefined: none. */
  readonly padding: Padding | undefined;
}

/** A run of a band's bytes, and where to read it. */
export interface SourcePart {
  readonly fd: number;
  /** The same file with O_DIRECT; then `start` and `position` are multiples of 4 KiB. */
  readonly directFd: number | undefined;
  readonly path: string;
  /** In the file, in bytes. */
  readonly position: number;
  /** Within the band; parts are in order and do not overlap. */
  readonly start: number;
  readonly length: number;
}

/**
 * What a band holds: parts to read, with zeros between them; its bytes, over a SharedArrayBuffer; or a band file, perhaps
 * under other keys, which is verified while it is read.
 */
export type BandInput = { readonly parts: readonly SourcePart[] } | { readonly bytes: Uint8Array } | { readonly sealed: BandFileTask };

/** Read one band of a source; compare it with the base; seal and write it if it changed. */
export interface StoreBandTask {
  readonly keys: BandKeyMaterial;
  readonly input: BandInput;
  /** Fingerprint of the band in the base; undefined: a zero band, or no base. */
  readonly baseFingerprint: Uint8Array | undefined;
  /** Where to write the band file; undefined: only measure it. */
  readonly file: string | undefined;
  /** An earlier process may have left a file there: it is kept if it is whole and holds the same, else replaced. */
  readonly mayExist: boolean;
  /** Modification time of the band file, in seconds since 1970. */
  readonly mtimeSeconds: number;
  /** Digests that may be stored elsewhere in the key domain: such a band is not sealed but reported. */
  readonly known?: Uint8Array | undefined;
}

export type StoreBandResult =
  | { readonly status: 'zero' | 'unchanged'; readonly readBytes: number }
  | { readonly status: 'known'; readonly readBytes: number; readonly fingerprint: Uint8Array; readonly digest: Uint8Array }
  | {
      readonly status: 'stored';
      readonly readBytes: number;
      readonly band: StoredBand;
      /** Of the file's length: the padding. */
      readonly paddingBytes: number;
      /** Whether the file was there. */
      readonly isAdopted: boolean;
    };

/** Make a lost band file again from the band's bytes: the same file, as the index pins it. */
export interface ResealBandTask {
  readonly keys: BandKeyMaterial;
  readonly input: BandInput;
  readonly band: StoredBand;
  readonly file: string;
  readonly mtimeSeconds: number;
}

/** `different`: these are not the band's bytes. `other sealing`: they are, but this program makes a file of another length of them. */
export type ResealBandResult = 'resealed' | 'different' | 'other sealing';

/** Where a band file is and what the index says of it. */
export interface BandFileTask {
  readonly keys: BandKeyMaterial;
  readonly file: string;
  readonly band: StoredBand;
}

/** Verify a band file with its data, and write the same bytes and time to a new file. */
export interface CopyBandTask extends BandFileTask {
  readonly to: string;
}

/** Find out whether a band file, of which no index tells, is whole and holds a band: what a writer that was killed may have left. */
export interface AdoptBandTask {
  readonly keys: BandKeyMaterial;
  readonly file: string;
  /** SHA-256 of the band. */
  readonly digest: Uint8Array;
}

/** Link files, or copy those that can have no more links: `from[i]` becomes `to[i]`. */
export interface LinkFilesTask {
  readonly from: readonly string[];
  readonly to: readonly string[];
}

/** Decode a band and write it to a target. */
export interface RestoreBandTask extends Partial<BandFileTask> {
  /** Undefined `band`: a zero band. */
  readonly bandBytes: number;
  readonly targetFd: number;
  readonly targetPath: string;
  readonly offset: number;
  readonly length: number;
  /** Leave blocks of zeros out: the target is new and reads as zeros. */
  readonly isSparse: boolean;
}

export interface RestoreBandResult {
  readonly writtenBytes: number;
}

/** Compare a band of a target with what it should hold, and write the blocks of it that differ. */
export interface UpdateBandTask extends Omit<BandFileTask, 'band'> {
  /** Undefined: a zero band, which has no file. */
  readonly band: StoredBand | undefined;
  readonly targetFd: number;
  /** The same target with O_DIRECT, where that can be had. */
  readonly targetDirectFd: number | undefined;
  readonly targetPath: string;
  readonly offset: number;
  /** What of the band lies in the volume: less than a band at its end. */
  readonly length: number;
}

/** Verify a band file: CRC and header, and with `withData` its content. */
export interface CheckBandTask extends BandFileTask {
  readonly withData: boolean;
}

/** Write a damaged band file anew, if only what surrounds its chunks is damaged. */
export interface ReframeBandTask extends BandFileTask {
  readonly to: string;
  readonly mtimeSeconds: number;
}

/** Say what an index would say of a band file that is whole. */
export interface DescribeBandTask {
  readonly keys: BandKeyMaterial;
  readonly file: string;
}

/** Verify the CRC of any file that ends in one; needs no key. */
export interface CheckCrcTask {
  readonly file: string;
}

/** Decode a band into shared memory. */
export interface DecodeBandTask extends BandFileTask {
  /** bandBytes long, over a SharedArrayBuffer. */
  readonly out: Uint8Array;
}

/** Decode one chunk of a band into shared memory. */
export interface ReadChunkTask extends BandFileTask {
  readonly name: string;
  readonly chunk: number;
  /** 128 KiB, over a SharedArrayBuffer. */
  readonly out: Uint8Array;
}

/** Each task's input and output, by name. */
export interface BandTasks {
  storeBand: { readonly task: StoreBandTask; readonly result: StoreBandResult };
  resealBand: { readonly task: ResealBandTask; readonly result: ResealBandResult };
  reframeBand: { readonly task: ReframeBandTask; readonly result: boolean };
  describeBand: { readonly task: DescribeBandTask; readonly result: StoredBand };
  copyBand: { readonly task: CopyBandTask; readonly result: undefined };
  adoptBand: { readonly task: AdoptBandTask; readonly result: StoredBand | undefined };
  linkFiles: { readonly task: LinkFilesTask; readonly result: readonly LinkOutcome[] };
  restoreBand: { readonly task: RestoreBandTask; readonly result: RestoreBandResult };
  updateBand: { readonly task: UpdateBandTask; readonly result: RestoreBandResult };
  checkBand: { readonly task: CheckBandTask; readonly result: undefined };
  checkCrc: { readonly task: CheckCrcTask; readonly result: undefined };
  readChunk: { readonly task: ReadChunkTask; readonly result: undefined };
  decodeBand: { readonly task: DecodeBandTask; readonly result: undefined };
}

/** A TimebandError as it crosses threads: structured cloning drops the fields of error classes. */
export interface WireError {
  readonly message: string;
  readonly code: ErrorCode;
  readonly path: string | undefined;
  /** Of the system's error underneath. */
  readonly errno: string | undefined;
}

export type WireResult<T> = { readonly value: T } | { readonly error: WireError };

export function toWireError(error: TimebandError): WireError {
  return { message: error.message, code: error.code, path: error.path, errno: errnoOf(error.cause) };
}

export function fromWireError({ message, code, path, errno }: WireError): TimebandError {
  const cause = errno === undefined ? undefined : Object.assign(new Error(errno), { code: errno });
  return new TimebandError(message, path === undefined ? { code, cause } : { code, cause, path });
}
