/** Band files that an earlier process left, on a disk that fails. */
import { createHash, randomBytes } from 'node:crypto';
import path from 'node:path';
import test from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import type { BandKeyMaterial } from '../../bands/workers/tasks.ts';
import { fill } from '../support/bytes.ts';
import type { FaultName } from '../support/faulty-fs/fault-plan.ts';
import { FaultyFs } from '../support/faulty-fs/faulty-fs.ts';
import { BAND_256K, codeOf } from '../support/library.ts';
import { workspace } from '../support/workspace.ts';

const pool: BandPool = new BandPool(1);
test.after.always(() => pool.close());

test.serial(
  'a file that cannot be made durable or read is not taken, and no obstacle; one for which no descriptor is left is an error',
  async (t) => {
    const ws = workspace(t);
    const fs = await FaultyFs.up(ws.at('mnt'));
    t.teardown(() => fs.stop());
    const keys: BandKeyMaterial = {
      cipher: 'aes-256-gcm',
      bandBytes: BAND_256K,
      padding: undefined,
      bandKey: randomBytes(32),
      fingerprintKey: randomBytes(32),
      domainId: randomBytes(16),
    };
    const plain = new Uint8Array(new SharedArrayBuffer(BAND_256K));
    plain.set(fill('band', BAND_256K));
    const file = path.join(ws.at('mnt'), 'band');
    const digest = new Uint8Array(createHash('sha256').update(plain).digest());
    await pool.run('storeBand', { keys, input: { bytes: plain }, baseFingerprint: undefined, file, mayExist: false, mtimeSeconds: 1 });
    const adopt = async (): Promise<number | undefined> => (await pool.run('adoptBand', { keys, file, digest }))?.salt.length;
    const under = async <T>(name: FaultName, work: () => Promise<T>): Promise<T> => {
      await fs.arm({ name, at: 1, under: ['/'], seed: 0 });
      try {
        return await work();
      } finally {
        t.true((await fs.disarm()).count > 0, name);
      }
    };
    t.is(await adopt(), 24);
    t.is(await under('one EIO', adopt), undefined, 'not durable');
    t.is(await under('EIO from then on', adopt), undefined, 'not readable');
    t.is(await under('EMFILE from then on', () => codeOf(adopt)), 'IO_ERROR');
    t.is(await adopt(), 24);
  },
);
