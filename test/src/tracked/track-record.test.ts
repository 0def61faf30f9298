import test from 'ava';
import fc from 'fast-check';
import { TimebandError } from '../../../bands/errors.ts';
import { ChangeTracker } from '../../../src/tracked/change-tracker.ts';
import { decodeTrackRecord, encodeTrackRecord, type ImageStamp, lastBitmapAt, type TrackRecord } from '../../../src/tracked/track-record.ts';
import { doubtAbout, type FoundImage } from '../../../src/tracked/trust.ts';
import { flipBit } from '../../support/bytes.ts';

const SIZE = 70_000_000 - (70_000_000 % 512);
const NOW_MS = 1_800_000_000_000;
const FILE: ImageStamp = { kind: 'file', ino: '12', birthNs: '1', mtimeNs: `${NOW_MS - 500}000000`, ctimeNs: `${NOW_MS - 400}000000` };
const DEVICE: ImageStamp = { kind: 'device', device: '7:1', bootId: 'boot', sequence: '9', sectorsWritten: '100/0' };

function record(change: Partial<TrackRecord> = {}): TrackRecord {
  const tracker = ChangeTracker.create(SIZE);
  tracker.current.set(3);
  const epoch = tracker.beginEpoch();
  tracker.bind({ repositoryId: 'a'.repeat(32), volumeId: 'b'.repeat(32), commitId: 'c'.repeat(32) }, epoch);
  tracker.current.set(260);
  const use = { kind: 'detached', stamp: FILE } as const;
  return { ...tracker.state, image: '/images/ä.img', use, leaseMs: NOW_MS - 300, doubt: undefined, ...change };
}

const attached = { use: { kind: 'attached', bootId: 'boot', stamp: FILE } } as const;

function asJson(value: TrackRecord): unknown {
  return JSON.parse(JSON.stringify({ ...value, epochs: value.epochs.map(({ number, dirty }) => ({ number, dirty: [...dirty] })) }));
}

test('a record is what was written', (t) => {
  for (const one of [record(), record(attached), record({ use: { kind: 'detached', stamp: DEVICE }, doubt: 'why' })]) {
    t.deepEqual(asJson(decodeTrackRecord(encodeTrackRecord(one))), asJson(one));
  }
});

test('every turned bit of a record that was closed is noticed, but those of the lease', (t) => {
  const bytes = encodeTrackRecord(record());
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const isLease = bit >= 16 * 8 && bit < 24 * 8;
    if (!isLease) t.throws(() => decodeTrackRecord(flipBit(bytes, bit)), { instanceOf: TimebandError }, `bit ${bit}`);
  }
});

test('marks that are set in the place while it is attached are read back', (t) => {
  const bytes = encodeTrackRecord(record(attached));
  const at = lastBitmapAt(bytes.length, SIZE);
  bytes[at + 1] = 0x81;
  t.deepEqual([...(decodeTrackRecord(bytes).epochs.at(-1)?.dirty ?? [])], [8, 15, 260]);
});

test('any bytes are a record or an error with a code', (t) => {
  const whole = encodeTrackRecord(record());
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), fc.nat(whole.length), fc.boolean(), (noise, cut, isCut) => {
      const bytes = isCut ? Uint8Array.from([...whole.subarray(0, cut), ...noise]) : noise;
      try {
        decodeTrackRecord(bytes);
      } catch (error) {
        t.true(error instanceof TimebandError && error.code === 'RECORD_CORRUPT');
      }
    }),
  );
  t.pass();
});

test('a record is believed only while nobody else can have written to the image', (t) => {
  const found: FoundImage = { stamp: FILE, sizeBytes: SIZE, bootId: 'boot', nowMs: NOW_MS };
  const late = (ms: number): ImageStamp => ({ ...FILE, ctimeNs: `${NOW_MS - 300 + ms}000001` });
  const device = { use: { kind: 'detached', stamp: DEVICE } } as const;
  const cases: [string, Partial<TrackRecord>, Partial<FoundImage>, boolean][] = [
    ['detached and untouched', {}, {}, true],
    ['detached, untouched, after a restart', {}, { bootId: 'other' }, true],
    ['detached, then written to', {}, { stamp: { ...FILE, mtimeNs: `${NOW_MS}000000` } }, false],
    ['detached, written to, and the time set back', {}, { stamp: { ...FILE, ctimeNs: `${NOW_MS}000000` } }, false],
    ['detached, then restored by another file', {}, { stamp: { ...FILE, ino: '13' } }, false],
    ['a file of a number that was used again', {}, { stamp: { ...FILE, birthNs: '2' } }, false],
    ['another size', {}, { sizeBytes: SIZE + 512 }, false],
    ['killed', attached, {}, true],
    ['killed in the middle of a write', attached, { stamp: late(-1) }, true],
    ['killed, then written to by others', attached, { stamp: late(0) }, false],
    ['killed, then another file', attached, { stamp: { ...FILE, ino: '13' } }, false],
    ['killed, then the clock set back', attached, { nowMs: NOW_MS - 10_000 }, false],
    ['a power cut', attached, { bootId: 'other' }, false],
    ['a machine that does not tell of its starts', attached, { bootId: undefined }, false],
    ['a device, detached and untouched', device, { stamp: DEVICE }, true],
    ['a device that was written to', device, { stamp: { ...DEVICE, sectorsWritten: '101/0' } }, false],
    ['a device under another medium', device, { stamp: { ...DEVICE, sequence: '10' } }, false],
    ['a device after a restart', device, { stamp: { ...DEVICE, bootId: 'other' } }, false],
    ['a device, killed', { use: { kind: 'attached', bootId: 'boot', stamp: DEVICE } }, { stamp: DEVICE }, false],
    ['a file where a device was', device, {}, false],
  ];
  for (const [what, change, now, isBelieved] of cases) t.is(doubtAbout(record(change), { ...found, ...now }) === undefined, isBelieved, what);
});
