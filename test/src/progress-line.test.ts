/** Progress for people: drawn ten times a second on a terminal, a line every five seconds elsewhere; numbers as people read them. */
import { Writable } from 'node:stream';
import test from 'ava';
import fc from 'fast-check';
import { describeProgress, ProgressLine } from '../../src/cli/progress-line.ts';
import type { Terminal } from '../../src/cli/terminal.ts';
import { formatBytes, formatDuration, formatTable, formatTime, parseSize } from '../../src/cli/text.ts';
import type { Progress } from '../../src/progress.ts';

const HALF: Progress = { phase: 'sync', doneBands: 50, totalBands: 100, doneBytes: 52_428_800, totalBytes: 104_857_600 };

function fakeTerminal(isInteractive: boolean): { terminal: Terminal; lines: string[] } {
  const lines: string[] = [];
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const terminal = {
    env: {},
    stdout: stream,
    stderr: stream,
    stdoutColumns: undefined,
    isInteractive,
    signal: new AbortController().signal,
    askSecret: () => Promise.resolve(undefined),
    askLine: () => Promise.resolve(undefined),
  };
  return { terminal, lines };
}

/** Reports every 50 ms of a clock that stands at the test's will, for so long. */
function report(isInteractive: boolean, forMs: number): string[] {
  const { terminal, lines } = fakeTerminal(isInteractive);
  const now = performance.now.bind(performance);
  const start = now() + 1000;
  let atMs = start;
  performance.now = () => atMs;
  try {
    const line = new ProgressLine(terminal, 'disk');
    for (; atMs - start <= forMs; atMs += 50) line.update(HALF);
    line.end();
  } finally {
    performance.now = now;
  }
  return lines;
}

test.serial('elsewhere than on a terminal a line comes every five seconds, and none for short work', (t) => {
  t.deepEqual(report(false, 4950), []);
  const lines = report(false, 16_000);
  t.is(lines.length, 3);
  for (const line of lines) t.regex(line, /^disk: \[#{12}-{12}\] 50\/100 bands, 50\.0 MiB of 100 MiB, .*\/s, .* left\n$/);
});

test.serial('on a terminal the line is drawn in its place ten times a second, and cleared at the end', (t) => {
  const lines = report(true, 1000);
  t.true(lines.length >= 10 && lines.length <= 13);
  t.true(lines.every((line) => line.startsWith('\r\u001b[K') && !line.includes('\n')));
  t.is(lines.at(-1), '\r\u001b[K');
});

test('the remaining time follows from the share that is done', (t) => {
  t.is(describeProgress(HALF, 2000), '[############------------] 50/100 bands, 50.0 MiB of 100 MiB, 25.0 MiB/s, 2.0 s left');
  t.is(
    describeProgress({ ...HALF, doneBands: 100, doneBytes: 104_857_600 }, 2000),
    `[${'#'.repeat(24)}] 100/100 bands, 100 MiB of 100 MiB, 50.0 MiB/s`,
  );
  t.is(describeProgress({ ...HALF, totalBands: 0, totalBytes: 0 }, 1000), '50 files, 50.0 MiB, 50.0 MiB/s');
});

test('bytes', (t) => {
  for (const [bytes, text] of [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1536, '1.5 KiB'],
    [104_857_600, '100 MiB'],
    [1_073_741_824, '1.0 GiB'],
    [5 * 1024 ** 5, '5.0 PiB'],
  ] as const)
    t.is(formatBytes(bytes), text);
});

test('durations never show sixty of anything', (t) => {
  for (const [ms, text] of [
    [0, '0.0 s'],
    [400, '0.4 s'],
    [12_000, '12 s'],
    [185_000, '3 min 5 s'],
    [7_440_000, '2 h 4 min'],
  ] as const)
    t.is(formatDuration(ms), text);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 100_000_000 }), (ms) => {
      t.notRegex(formatDuration(ms), /\b60 (?:s|min)/, `${ms} ms`);
    }),
    { examples: [[59_600], [119_700]] },
  );
});

test('sizes that people type', (t) => {
  t.deepEqual(
    ['262144', '256K', '256k', '2M', '2MiB', '2MB', '1G', '1T'].map(parseSize),
    [262_144, 262_144, 262_144, 2_097_152, 2_097_152, 2_097_152, 1_073_741_824, 1_099_511_627_776],
  );
  for (const text of ['', 'K', '1.5G', '-1', '1 K', '2X', '0x10', '99999999999T']) t.is(parseSize(text), undefined, text);
});

test('times are local, tables are aligned', (t) => {
  t.is(formatTime(new Date(2026, 10, 21, 9, 5, 7).getTime()), '2026-11-21 09:05:07');
  t.is(
    formatTable(
      ['NAME', '>SIZE'],
      [
        ['a', '1'],
        ['longer', '22222'],
      ],
    ),
    'NAME     SIZE\na           1\nlonger  22222',
  );
});
