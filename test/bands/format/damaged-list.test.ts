import test from 'ava';
import fc from 'fast-check';
import { SALT_BYTES } from '../../../bands/format/band-header.ts';
import { type DamagedBand, damagedListCodec, sortDamaged } from '../../../bands/format/damaged-list.ts';
import { anyBytes, testJsonCodec } from './json-suite.ts';

const [LOW, HIGH] = ['11'.repeat(SALT_BYTES), 'ee'.repeat(SALT_BYTES)];
const salt = (byte: number): Uint8Array => new Uint8Array(SALT_BYTES).fill(byte);
const listText = (...bands: readonly (readonly [number | string, string])[]): string =>
  `{"format":"timeband-damaged","version":1,"bands":[${bands.map(([band, hex]) => `{"band":${band},"salt":"${hex}"}`).join(',')}]}\n`;

const anyBands = fc.array(fc.record({ bandIndex: fc.integer({ min: 0, max: 2 ** 40 }), salt: anyBytes(SALT_BYTES) }), { maxLength: 20 });

testJsonCodec<readonly DamagedBand[]>('damaged list', {
  codec: damagedListCodec,
  text: listText([3, HIGH], [17, LOW], [17, HIGH]),
  value: [
    { bandIndex: 3, salt: salt(0xee) },
    { bandIndex: 17, salt: salt(0x11) },
    { bandIndex: 17, salt: salt(0xee) },
  ],
  faults: [
    { name: 'another order of bands', text: listText([17, LOW], [3, LOW]), error: 'RECORD_CORRUPT' },
    { name: 'another order of salts', text: listText([17, HIGH], [17, LOW]), error: 'RECORD_CORRUPT' },
    { name: 'a band twice', text: listText([3, LOW], [3, LOW]), error: 'RECORD_CORRUPT' },
    { name: 'a salt that is too short', text: listText([3, LOW.slice(2)]), error: 'RECORD_CORRUPT' },
    { name: 'a negative band', text: listText([-1, LOW]), error: 'RECORD_CORRUPT' },
    { name: 'a fraction of a band', text: listText(['1.5', LOW]), error: 'RECORD_CORRUPT' },
    { name: 'something that is no band', text: listText([3, LOW]).replace('[{', '[null,{'), error: 'RECORD_CORRUPT' },
    { name: 'another version', text: listText([3, LOW]).replace('"version":1', '"version":2'), error: 'RECORD_CORRUPT' },
  ],
  values: anyBands.map(sortDamaged),
});

test('sorting a list leaves out what is there twice, and gives what the codec takes', (t) => {
  fc.assert(
    fc.property(anyBands, (bands) => {
      const sorted = sortDamaged([...bands, ...bands]);
      t.deepEqual(damagedListCodec.decode(damagedListCodec.encode(sorted)), sorted);
    }),
    { numRuns: 50 },
  );
});
