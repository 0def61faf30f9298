/** The end of a server whose sessions were written over. */
import test from 'ava';
import { createCursor } from '../../../bands/store/image.ts';
import { ReadCache } from '../../../bands/store/read-cache.ts';
import { BandPool } from '../../../bands/workers/band-pool.ts';
import { COMMAND } from '../../../src/nbd/protocol.ts';
import { serveNbd } from '../../../src/nbd-service/serve.ts';
import { serveSession } from '../../../src/served-session.ts';
import { fill, sameBytes } from '../../support/bytes.ts';
import { FaultyFs } from '../../support/faulty-fs/faulty-fs.ts';
import { BAND_256K, lab } from '../../support/library.ts';
import { writeParts } from '../../support/parts.ts';
import { RawClient } from './raw-client.ts';

const pool: BandPool = new BandPool();
test.after.always(() => pool.close());

test('an overlay whose disk fails in the end keeps no other from being made durable', async (t) => {
  const at = await lab(t, pool);
  writeParts(at.at('disk.img'), BAND_256K);
  await at.sync('disk', at.at('disk.img'));
  const disk = await FaultyFs.up(at.at('mnt'));
  t.teardown(() => disk.stop());
  const { sessionId: session } = await at.session('disk');
  const overlays = { bad: at.at('mnt', 'overlay'), good: at.at('good.overlay') };
  const sessions = Object.entries(overlays).map(([exportName, file]) => ({ exportName, volume: 'disk', session, overlay: { file } }));
  const service = await serveNbd(at.repository, { socket: at.at('s'), cacheBytes: undefined, sessions }, () => undefined);
  const bytes = fill('written', 4096);
  for (const { exportName } of sessions) {
    const client = new RawClient(at.at('s'));
    await client.enter(exportName);
    t.is((await client.request({ command: COMMAND.write, offset: 8192, length: bytes.length }, bytes)).error, 0);
    client.socket.destroy();
  }
  await disk.arm({ name: 'EIO from then on', at: 1, under: ['/'], seed: 0 });
  await t.throwsAsync(() => service.down(), { code: 'IO_ERROR' });
  await disk.disarm();
  const options = { pool, cache: new ReadCache(undefined), command: 'open' };
  const again = await serveSession(at.repository, { volume: 'disk', session, overlay: { file: overlays.good } }, options);
  const found = new Uint8Array(bytes.length);
  await again.image.read(found, 8192, createCursor());
  await again.close();
  sameBytes(t, found, bytes);
});
