/** The text of zstream: what is understood completely gives ranges, anything else a reason. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { type ExpectedStream, type StreamChanges, ZstreamDump } from '../../../../src/sources/zfs/zstream-dump.ts';

const MIB = 1_048_576;
const EXPECTED: ExpectedStream = { fromGuid: 0x1d2c3b4a59687766n, toGuid: 0x9f3a1c0d5e7b2468n, sizeBytes: 10 * MIB + 512 };

function fixture(name: string): string {
  return readFileSync(new URL(`../../../../../test/fixtures/zstream/${name}.txt`, import.meta.url), 'utf8');
}

function read(text: string, expected = EXPECTED): StreamChanges {
  const dump = new ZstreamDump(expected);
  for (const line of text.split('\n')) dump.line(line);
  return dump.end();
}

const whole = fixture('incremental');

test('writes, embedded and referenced ones, and frees are the ranges, rounded out; properties are not', (t) => {
  t.deepEqual(read(whole), {
    ranges: [
      { offset: 0, length: 262_144 },
      { offset: MIB, length: 262_144 },
      { offset: 2 * MIB, length: 262_144 },
      { offset: 4 * MIB, length: 262_144 },
      { offset: 8 * MIB, length: 2 * MIB + 512 },
    ],
  });
  t.deepEqual(read(fixture('nothing')), { ranges: [] });
});

test('records over two lines, as older versions print them, are read as well', (t) => {
  t.deepEqual(read(fixture('wrapped')), { ranges: [{ offset: 0, length: 262_144 }] });
});

test('what lies behind the end of the volume is cut', (t) => {
  t.deepEqual(read(whole, { ...EXPECTED, sizeBytes: 2 * MIB + 4096 }), {
    ranges: [
      { offset: 0, length: 262_144 },
      { offset: MIB, length: 262_144 },
      { offset: 2 * MIB, length: 4096 },
    ],
  });
});

for (const name of ['redacted', 'raw', 'spill']) {
  test(`a stream that is ${name} tells nothing`, (t) => {
    t.true('reason' in read(fixture(name)));
  });
}

const WRONG: Readonly<Record<string, (text: string) => string>> = {
  'of another older snapshot': (text) => text.replace('fromguid = 1', 'fromguid = 2'),
  'of another newer snapshot': (text) => text.replace('toguid = 9', 'toguid = 8'),
  'of a file system': (text) => text.replace('\ttype = 3', '\ttype = 2'),
  'without an older snapshot': (text) => text.replace('fromguid = 1d2c3b4a59687766', 'fromguid = 0'),
  'with a write that lost its offset': (text) => text.replace('offset = 131072 ', ''),
  'with a write that lost its size': (text) => text.replace('logical_size = 16384', ''),
  'with a negative length': (text) => text.replace('length = 131072', 'length = -2'),
  'with an offset beyond all numbers': (text) => text.replace('offset = 131072', 'offset = 18446744073709551615'),
  'with an offset in hex': (text) => text.replace('offset = 131072', 'offset = 0x20000'),
  'with a key twice': (text) => text.replace('offset = 131072', 'offset = 131072 offset = 0'),
  'with another object': (text) => text.replace('WRITE object = 1', 'WRITE object = 7'),
  'that frees the data': (text) => text.replace('firstobj = 0 numobjs = 1', 'firstobj = 0 numobjs = 2'),
  'with an unknown record': (text) => text.replace('WRITE_BYREF', 'WRITE_BYNAME'),
  'with a record too few': (text) => text.replace(/WRITE object = 1.*\n/, ''),
  'with a record too many': (text) => text.replace(/(WRITE object = 1.*\n)/, '$1$1'),
  'with a checksum that differs': (text) => text.replace('END', 'Expected checksum differs from checksum in stream.\nEND'),
  'with a broken header': (text) => text.replace('FREEOBJECTS firstobj = 3', 'Incorrect checksum in record header.\nFREEOBJECTS firstobj = 3'),
  'with an invalid record': (text) => text.replace('FREEOBJECTS firstobj = 3', 'INVALID record found: type 0xff\nFREEOBJECTS firstobj = 3'),
  'with two beginnings': (text) => text.replace('SUMMARY:', 'BEGIN record\nSUMMARY:'),
  'with more behind it': (text) => `${text}WRITE object = 1\n`,
  'that is no such text': () => 'cannot open: no such file\n',
  'that is empty': () => '',
};
for (const [title, hurt] of Object.entries(WRONG)) {
  test(`a stream ${title} tells nothing`, (t) => {
    const hurtText = hurt(whole);
    t.not(hurtText, whole);
    t.true('reason' in read(hurtText), JSON.stringify(read(hurtText)));
  });
}

test('a text that is cut anywhere before its totals tells nothing', (t) => {
  const lines = whole.split('\n');
  const last = lines.findIndex((line) => line.startsWith('\tTotal records'));
  for (let count = 0; count < last; count++) t.true('reason' in read(lines.slice(0, count).join('\n')), `after ${count} lines`);
});
