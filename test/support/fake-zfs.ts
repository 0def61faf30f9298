/**
 * Stands in for zfs and zstream, which cannot be installed everywhere: programs of those names, found by PATH, over files
 * and read-only loop devices. What they print has the shape of OpenZFS 2's output, by its documentation and format strings.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import type { Workspace } from './workspace.ts';

const PROGRAM = fileURLToPath(new URL('./fake-zfs-program.js', import.meta.url));
export const DEVICES = '/dev/zvol';

export interface FakeSnapshot {
  readonly name: string;
  readonly guid: string;
  readonly createtxg: number;
  readonly image: string;
  readonly loop: string;
  /** Value and source of each user property. */
  readonly properties: Record<string, readonly [value: string, source: string]>;
}

export interface FakePool {
  readonly volume: string;
  readonly live: string;
  snapdev: string;
  txg: number;
  snapshots: FakeSnapshot[];
  /** How the next streams are wrong. */
  fault: 'none' | 'cut' | 'checksum' | 'redact' | 'unknown' | 'other guid' | 'fails' | 'lost record' | 'spill';
}

export class FakeZfs {
  /** POOL/VOL. */
  readonly volume: string;
  /** The volume's content now. */
  readonly live: string;
  readonly state: string;
  /** What PATH must be for the programs to be found. */
  readonly path: string;

  constructor(t: ExecutionContext, at: Workspace) {
    const pool = `timeband-test-${process.pid}-${path.basename(at.root).slice(-6)}`;
    this.volume = `${pool}/vol`;
    this.live = at.at('live.img');
    this.state = at.at('zfs.json');
    const bin = at.folder('bin');
    for (const tool of ['zfs', 'zstream']) {
      const script = `#!/bin/sh\nexec "${process.execPath}" "${PROGRAM}" "${this.state}" ${tool} "$@"\n`;
      writeFileSync(path.join(bin, tool), script, { mode: 0o755 });
    }
    this.path = `${bin}:${process.env['PATH']}`;
    mkdirSync(path.join(DEVICES, pool), { recursive: true });
    t.teardown(() => {
      rmSync(path.join(DEVICES, pool), { recursive: true, force: true });
      if (readdirSync(DEVICES).length === 0) rmdirSync(DEVICES);
    });
    this.save({ volume: this.volume, live: this.live, snapdev: 'hidden', txg: 100, snapshots: [], fault: 'none' });
  }

  load(): FakePool {
    return JSON.parse(readFileSync(this.state, 'utf8'));
  }

  save(pool: FakePool): void {
    writeFileSync(this.state, JSON.stringify(pool));
  }

  change(how: (pool: FakePool) => void): void {
    const pool = this.load();
    how(pool);
    this.save(pool);
  }
}
