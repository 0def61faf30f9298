/** Sparse bundles as Apple's software writes them, changed together with a plain array of the volume's bytes. */
import {
  closeSync,
  constants,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { bandRanges } from '../../bands/format/geometry.ts';
import { fill } from './bytes.ts';
import { sh } from './workspace.ts';

export const MIB = 1_048_576;
/** After so long without a write, times of band files are believed. */
const SETTLED_AFTER_MS = 2100;
const PIECE_BYTES = 4096;

export interface BundleShape {
  readonly sizeBytes: number;
  readonly bandBytes: number;
}

/** The text of Info.plist as hdiutil writes it. */
export function plistText({ sizeBytes, bandBytes }: BundleShape): string {
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
\t<key>CFBundleInfoDictionaryVersion</key>
\t<string>6.0</string>
\t<key>band-size</key>
\t<integer>${bandBytes}</integer>
\t<key>bundle-backingstore-version</key>
\t<integer>1</integer>
\t<key>diskimage-bundle-type</key>
\t<string>com.apple.diskimage.sparsebundle</string>
\t<key>size</key>
\t<integer>${sizeBytes}</integer>
</dict>
</plist>
`;
}

/** Content of a label in which each piece of 4 KiB differs, much cheaper than to hash all of it. */
function patterned(label: string, offset: number, length: number): Uint8Array {
  const tile = fill(label, Math.min(length, 16 * PIECE_BYTES));
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += tile.length) bytes.set(tile.subarray(0, length - at), at);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + 8 <= length; at += PIECE_BYTES) view.setFloat64(at, offset + at, true);
  return bytes;
}

export class ModelBundle {
  readonly folder: string;
  readonly bandBytes: number;
  /** What the volume holds. */
  bytes: Uint8Array;

  constructor(folder: string, { sizeBytes, bandBytes }: BundleShape) {
    this.folder = folder;
    this.bandBytes = bandBytes;
    this.bytes = new Uint8Array(sizeBytes);
    mkdirSync(path.join(folder, 'bands'), { recursive: true });
    writeFileSync(path.join(folder, 'token'), '');
    this.writePlists();
  }

  writePlists(): void {
    const text = plistText({ sizeBytes: this.bytes.length, bandBytes: this.bandBytes });
    for (const name of ['Info.plist', 'Info.bckup']) writeFileSync(path.join(this.folder, name), text);
  }

  band(index: number): string {
    return path.join(this.folder, 'bands', index.toString(16));
  }

  /** Numbers of the bands that have files. */
  present(): number[] {
    return readdirSync(path.join(this.folder, 'bands')).map((name) => Number.parseInt(name, 16));
  }

  /** Writes as an attached volume is written to: only the files of the bands that are touched, in the place. */
  write(offset: number, bytes: Uint8Array): void {
    for (const { bandIndex, start, length, position } of bandRanges(offset, bytes.length, this.bandBytes)) {
      const fd = openSync(this.band(bandIndex), constants.O_RDWR | constants.O_CREAT, 0o600);
      writeSync(fd, bytes, position, length, start);
      closeSync(fd);
    }
    this.bytes.set(bytes, offset);
  }

  /** Writes content of a label, cut to the volume's end. */
  fill(offset: number, length: number, label: string): void {
    this.write(offset, patterned(label, offset, Math.min(length, this.bytes.length - offset)));
  }

  /** Writes, and gives the files the times that they had, to the nanosecond. */
  writeUnderOldTimes(offset: number, bytes: Uint8Array): void {
    const touched = [...bandRanges(offset, bytes.length, this.bandBytes)].map(({ bandIndex }) => this.band(bandIndex));
    const known = touched.filter((file) => existsSync(file)).map((file, i) => ({ file, times: path.join(this.folder, `.times-${i}`) }));
    for (const { file, times } of known) sh('touch', '-r', file, times);
    this.write(offset, bytes);
    for (const { file, times } of known) {
      sh('touch', '-r', times, file);
      rmSync(times);
    }
  }

  /** Cuts a band file; what it held behind that is zeros now. */
  cut(index: number, size: number): void {
    const fd = openSync(this.band(index), constants.O_RDWR);
    ftruncateSync(fd, size);
    closeSync(fd);
    this.bytes.fill(0, index * this.bandBytes + size, (index + 1) * this.bandBytes);
  }

  delete(index: number): void {
    rmSync(this.band(index), { force: true });
    this.bytes.fill(0, index * this.bandBytes, (index + 1) * this.bandBytes);
  }

  resize(sizeBytes: number): void {
    const old = this.bytes;
    this.bytes = new Uint8Array(sizeBytes);
    this.bytes.set(old.subarray(0, sizeBytes));
    for (const index of this.present()) {
      const rest = Math.max(0, sizeBytes - index * this.bandBytes);
      if (rest === 0) rmSync(this.band(index));
      else if (statSync(this.band(index)).size > rest) truncateSync(this.band(index), rest);
    }
    this.writePlists();
  }

  /** Waits until the times of all files are old enough to be believed. */
  async settle(): Promise<void> {
    await sleep(SETTLED_AFTER_MS);
  }
}
