/** Property lists: what hdiutil writes is read, what is not understood is refused. */
import test from 'ava';
import fc from 'fast-check';
import { TimebandError } from '../../../../bands/errors.ts';
import { parsePlist } from '../../../../src/sources/bundle/plist.ts';
import { plistText } from '../../../support/bundles.ts';
import { codeOf } from '../../../support/library.ts';

const wrap = (inner: string): string => `<plist version="1.0"><dict>${inner}</dict></plist>`;

test('the Info.plist of a bundle is read', (t) => {
  const plist = parsePlist(plistText({ sizeBytes: 8_796_093_022_208, bandBytes: 8_388_608 }));
  t.like(plist, {
    'band-size': 8_388_608,
    'bundle-backingstore-version': 1,
    'diskimage-bundle-type': 'com.apple.diskimage.sparsebundle',
    size: 8_796_093_022_208,
  });
});

test('every kind of value is read: nested, empty, with entities, between comments', (t) => {
  const text = `\uFEFF<?xml version='1.0'?><!-- a --><!DOCTYPE plist>${wrap(`
    <!-- b - c --><key>a &amp; &#66;&#x43;</key><string>&lt;x&gt; "&quot;</string>
    <key>t</key><true/><key>f</key><false></false><key>n</key><integer> -12 </integer><key>h</key><integer>0x10</integer>
    <key>l</key><array><string/><dict><key>k</key><data>AAA=</data></dict><array/></array><key>d</key><dict/>`)}`;
  t.deepEqual(JSON.parse(JSON.stringify(parsePlist(text))), {
    'a & BC': '<x> ""',
    t: true,
    f: false,
    n: -12,
    h: 16,
    l: ['', { k: 'AAA=' }, []],
    d: {},
  });
});

for (const [title, text] of Object.entries({
  nothing: '',
  'no plist': '<dict></dict>',
  'another version': '<plist version="2.0"><dict/></plist>',
  'a list as root': '<plist version="1.0"><array/></plist>',
  'text behind the end': `${wrap('')}x`,
  'a key without a value': wrap('<key>a</key>'),
  'a value without a key': wrap('<true/>'),
  'a key that occurs twice': wrap('<key>a</key><true/><key>a</key><false/>'),
  'a size beyond what numbers hold': wrap('<key>size</key><integer>9999999999999999</integer>'),
  'a size that is no number': wrap('<key>size</key><integer>12k</integer>'),
  'an empty integer': wrap('<key>size</key><integer/>'),
  'an unknown entity': wrap('<key>a</key><string>&xxe;</string>'),
  'an entity of its own': `<!DOCTYPE plist [<!ENTITY xxe SYSTEM "file:///etc/passwd">]>${wrap('<key>a</key><string>&xxe;</string>')}`,
  'an ampersand alone': wrap('<key>a</key><string>a & b</string>'),
  'an unknown value': wrap('<key>a</key><number>1</number>'),
  'an attribute': wrap('<key a="b">a</key><true/>'),
  'a comment that does not end': wrap('<!-- <key>a</key><true/>'),
  'cut short': plistText({ sizeBytes: 512, bandBytes: 1_048_576 }).slice(0, -12),
  'too deep': wrap(`<key>a</key>${'<array>'.repeat(40)}${'</array>'.repeat(40)}`),
})) {
  test(`refused: ${title}`, async (t) => {
    t.is(await codeOf(() => parsePlist(text)), 'SOURCE_INVALID');
  });
}

test('any text is a dictionary or an error with a code', (t) => {
  const pieces = fc.constantFrom(
    '<plist version="1.0">',
    '</plist>',
    '<dict>',
    '</dict>',
    '<key>',
    '</key>',
    'a',
    '<true/>',
    '<integer>',
    '1',
    '</integer>',
    '&amp;',
    '<!--',
    '-->',
    '<',
    ' ',
  );
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 30 }), (parts) => {
      try {
        return typeof parsePlist(parts.join('')) === 'object';
      } catch (error) {
        return error instanceof TimebandError && error.code === 'SOURCE_INVALID';
      }
    }),
  );
  t.pass();
});
