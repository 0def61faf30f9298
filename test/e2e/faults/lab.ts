/** The faulty file system with a scene on it, for a whole test file or the long run. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { unmountPath } from '../../../fuse/mount-table.ts';
import { FaultyFs, makeSyncProgram } from '../../support/faulty-fs/faulty-fs.ts';
import { sh } from '../../support/workspace.ts';
import { Scene } from './scene.ts';
import { FaultRun } from './series.ts';

export class FaultLab implements AsyncDisposable {
  readonly scene: Scene;
  readonly run: FaultRun;
  readonly #root: string;

  private constructor(root: string, scene: Scene) {
    this.#root = root;
    this.scene = scene;
    this.run = new FaultRun(scene);
  }

  static async up(): Promise<FaultLab> {
    const root = mkdtempSync(path.join(tmpdir(), 'timeband-faults-'));
    const scratch = path.join(root, 'scratch');
    mkdirSync(scratch);
    sh('mount', '-t', 'tmpfs', 'tmpfs', scratch);
    const fs = await FaultyFs.up(path.join(root, 'mnt'));
    process.env['PATH'] = `${makeSyncProgram(path.join(root, 'bin'), fs.mountPoint)}:${process.env['PATH'] ?? ''}`;
    return new FaultLab(root, await Scene.make({ fs, pool: new BandPool(), scratch }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.scene.pool.close();
    for (const mountPoint of [this.scene.fs.mountPoint, path.join(this.#root, 'scratch')]) await unmountPath(mountPoint, { isLazy: true });
    this.scene.fs.stop();
    rmSync(this.#root, { recursive: true, force: true });
  }
}
