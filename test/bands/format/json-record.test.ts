import test from 'ava';
import { type Fields, jsonCodec } from '../../../bands/format/json-record.ts';
import { hex } from '../../support/bytes.ts';
import { encodeText } from './json-suite.ts';

const CORRUPT = { name: 'TimebandError', code: 'RECORD_CORRUPT' } as const;

/** Reads field "x" of `json`, whatever its form: the codec's own check of the form is left out by encoding the same text. */
function readField<T>(json: string, read: (fields: Fields) => T): T {
  const codec = jsonCodec<{ readonly value: T }>('test', { toJson: () => JSON.parse(json), fromJson: (fields) => ({ value: read(fields) }) });
  return codec.decode(encodeText(`${json}\n`)).value;
}

function refuses(values: readonly string[], read: (fields: Fields) => unknown): string[] {
  return [...values.map((value) => `{"x":${value}}`), '{}', '{"y":1}'].filter((json) => {
    try {
      readField(json, read);
      return true;
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === CORRUPT.code) return false;
      throw error;
    }
  });
}

const NO_STRINGS = ['null', 'true', '1', '[]', '{}', '["a"]'];
const NO_OBJECTS = ['null', 'true', '1', '"a"', '[]', '[{}]'];

test('a string field takes strings only', (t) => {
  t.is(
    readField('{"x":"å"}', (fields) => fields.string('x')),
    'å',
  );
  t.deepEqual(
    refuses(NO_STRINGS, (fields) => fields.string('x')),
    [],
  );
});

test('a truth field takes true and false only', (t) => {
  t.true(readField('{"x":true}', (fields) => fields.boolean('x')));
  t.false(readField('{"x":false}', (fields) => fields.boolean('x')));
  t.deepEqual(
    refuses(['null', '0', '1', '"true"', '[]', '{}'], (fields) => fields.boolean('x')),
    [],
  );
});

test('a whole number lies within its bounds and is exact', (t) => {
  for (const [json, value] of [
    ['0', 0],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
  ] as const) {
    t.is(
      readField(`{"x":${json}}`, (fields) => fields.integer('x')),
      value,
    );
  }
  t.is(
    readField('{"x":-5}', (fields) => fields.integer('x', -5, 5)),
    -5,
  );
  t.deepEqual(
    refuses(['-1', '0.5', '9007199254740992', '1e300', '1e999', '-1e999', '"1"', 'null', 'true', '[1]'], (fields) => fields.integer('x')),
    [],
  );
  t.deepEqual(
    refuses(['9', '21', '10.5'], (fields) => fields.integer('x', 10, 20)),
    [],
  );
});

test('a field of constants takes that constant, of that type', (t) => {
  t.is(
    readField('{"x":1}', (fields) => fields.constant('x', 1)),
    1,
  );
  t.deepEqual(
    refuses(['"1"', '2', 'true', 'null', '[1]'], (fields) => fields.constant('x', 1)),
    [],
  );
  t.is(
    readField('{"x":"b"}', (fields) => fields.oneOf('x', ['a', 'b'])),
    'b',
  );
  t.deepEqual(
    refuses(['"c"', '"A"', '""', '0', 'null', '["a"]'], (fields) => fields.oneOf('x', ['a', 'b'])),
    [],
  );
});

test('bytes are lower-case hex of their length', (t) => {
  t.deepEqual(
    readField('{"x":"00ff"}', (fields) => fields.hex('x', 2)),
    hex('00ff'),
  );
  t.deepEqual(
    refuses(['"00FF"', '"00f"', '"00ff00"', '""', '" 0ff"', '255', 'null', '["00ff"]'], (fields) => fields.hex('x', 2)),
    [],
  );
  t.deepEqual(
    readField('{"x":["00","ff"]}', (fields) => fields.hexList('x', 1)),
    [hex('00'), hex('ff')],
  );
  t.deepEqual(
    refuses(['["00",null]', '["000"]', '"00"', '{"0":"00"}', 'null'], (fields) => fields.hexList('x', 1)),
    [],
  );
});

test('a list of strings holds strings', (t) => {
  t.deepEqual(
    readField('{"x":[]}', (fields) => fields.strings('x')),
    [],
  );
  t.deepEqual(
    refuses(['["a",1]', '[null]', '[["a"]]', '"a"', '{"length":0}', 'null'], (fields) => fields.strings('x')),
    [],
  );
});

test('a time is one that toISOString writes', (t) => {
  for (const text of ['1970-01-01T00:00:00.000Z', '0000-01-01T00:00:00.000Z', '+275760-09-13T00:00:00.000Z', '-271821-04-20T00:00:00.000Z']) {
    t.is(
      readField(`{"x":"${text}"}`, (fields) => fields.time('x')),
      Date.parse(text),
    );
  }
  const wrong = [
    '2026',
    '2026-11-21',
    '2026-11-21T10:00:00Z',
    '2026-11-21T10:00:00.000',
    '2026-02-30T00:00:00.000Z',
    '2026-11-21T24:00:00.000Z',
    '-000000-01-01T00:00:00.000Z',
    '+275760-09-13T00:00:00.001Z',
  ];
  t.deepEqual(
    refuses([...wrong.map((text) => `"${text}"`), '"Nov 21 2026"', '"2026-11-21T10:00:00.000+00:00"', '""', '0', 'null'], (fields) =>
      fields.time('x'),
    ),
    [],
  );
});

test('an object is neither list nor null, and only a null field is absent', (t) => {
  t.deepEqual(
    refuses(NO_OBJECTS, (fields) => fields.object('x')),
    [],
  );
  t.is(
    readField('{"x":null}', (fields) => fields.optional('x', () => 1)),
    undefined,
  );
  t.is(
    readField('{"x":{"y":2}}', (fields) => fields.optional('x', (inner) => inner.integer('y'))),
    2,
  );
  t.deepEqual(
    refuses(['false', '0', '""', '[]', '{"y":-1}'], (fields) => fields.optional('x', (inner) => inner.integer('y'))),
    [],
  );
});

test('a field that every JavaScript object inherits is absent', (t) => {
  for (const name of ['constructor', 'toString', '__proto__', 'hasOwnProperty']) {
    t.throws(() => readField('{}', (fields) => fields.string(name)), CORRUPT);
    t.throws(() => readField('{"__proto__":{"x":"y"}}', (fields) => fields.string('x')), CORRUPT);
  }
});

const codec = jsonCodec<{ a: number; b: string }>('test', {
  toJson: ({ a, b }) => ({ a, b }),
  fromJson: (fields) => ({ a: fields.integer('a'), b: fields.string('b') }),
});

test('a value has one form: any other text of it is refused', (t) => {
  t.deepEqual(codec.decode(encodeText('{"a":1,"b":"x\\n\\ud800"}\n')), { a: 1, b: 'x\n\ud800' });
  const others = [
    '{"a":1,"b":"x"}',
    '{"b":"x","a":1}\n',
    '{"a":1,"b":"x","c":0}\n',
    '{"a":0,"a":1,"b":"x"}\n',
    '{"a":1,"b":"x","__proto__":{}}\n',
    '{"a":1, "b":"x"}\n',
    '{"a":1.0,"b":"x"}\n',
  ];
  const more = [
    '{"a":1e0,"b":"x"}\n',
    '{"a":-0,"b":"x"}\n',
    '{"a":1,"b":"\\u0078"}\n',
    '{"a":1,"b":"\\/"}\n',
    '{"a":1,"b":"\\uD800"}\n',
    '\ufeff{"a":1,"b":"x"}\n',
    '{"a":1,"b":"x"}\n\n',
    '{"a":1,"b":"x"}\r\n',
  ];
  for (const text of [...others, ...more]) t.throws(() => codec.decode(encodeText(text)), CORRUPT, text);
});

test('bytes that are no UTF-8 are refused, not replaced', (t) => {
  for (const bad of ['ff', 'c080', 'eda080', 'f4908080', 'e282', '80']) {
    const bytes = Buffer.concat([Buffer.from('{"a":1,"b":"'), hex(bad), Buffer.from('"}\n')]);
    t.throws(() => codec.decode(bytes), CORRUPT, bad);
  }
});

test('nesting of any depth and numbers of any length are refused without harm', (t) => {
  const deep = 200_000;
  for (const text of [
    '['.repeat(deep),
    `${'['.repeat(deep)}${']'.repeat(deep)}`,
    `${'{"a":'.repeat(deep)}1${'}'.repeat(deep)}`,
    `{"a":${'9'.repeat(deep)},"b":"x"}`,
  ]) {
    t.throws(() => codec.decode(encodeText(`${text}\n`)), CORRUPT);
  }
});

test('an indented codec reads and writes the indented form only', (t) => {
  const indented = jsonCodec<{ a: number }>('test', { indent: 2, toJson: ({ a }) => ({ a }), fromJson: (fields) => ({ a: fields.integer('a') }) });
  t.is(new TextDecoder().decode(indented.encode({ a: 1 })), '{\n  "a": 1\n}\n');
  t.throws(() => indented.decode(encodeText('{"a":1}\n')), CORRUPT);
});
