/** Repositories that format version 1 wrote, without padding and with it; every later version must open them. They are never made anew. */
import { createHash } from 'node:crypto';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { CIPHER_NAMES } from '../../bands/format/primitives.ts';
import { workspace } from '../support/workspace.ts';

interface Expected {
  readonly passphrase: string;
  readonly sessions: readonly {
    readonly volume: string;
    readonly session: string;
    readonly sha256: string;
    readonly tags: readonly string[];
    readonly note: string;
  }[];
}

function fixture(name: string): string {
  return fileURLToPath(new URL(`../../../test/fixtures/${name}`, import.meta.url)); // from dist/test/src
}

for (const name of CIPHER_NAMES.flatMap((cipher) => [`repository-v1-${cipher}`, `repository-padded-${cipher}`])) {
  test(`${name} verifies, restores and goes on`, async (t) => {
    const space = workspace(t);
    const expected: Expected = JSON.parse(readFileSync(fixture(`${name}.json`), 'utf8'));
    cpSync(fixture(name), space.repo, { recursive: true });
    writeFileSync(space.at('passphrase'), `${expected.passphrase}\n`);
    const key = ['--passphrase-file', space.at('passphrase')];
    const { findings, sessions } = await space.json('check', '--data', ...key);
    t.deepEqual(findings, []);
    t.is(sessions, expected.sessions.length);
    for (const { volume, session, sha256, tags, note } of expected.sessions) {
      await space.ok('restore', `${volume}@${session}`, space.at(session), ...key);
      t.is(
        createHash('sha256')
          .update(readFileSync(space.at(session)))
          .digest('hex'),
        sha256,
        `${volume}@${session}`,
      );
      const shown = await space.json('show', `${volume}@${session}`, ...key);
      t.deepEqual([shown.tags, shown.note], [tags, note]);
    }
    const newest = expected.sessions.findLast(({ volume }) => volume === 'other');
    writeFileSync(space.at('next.img'), readFileSync(space.at(newest?.session ?? '')).fill(7, 700_000, 700_100));
    const { results } = await space.json('sync', `other=${space.at('next.img')}`, ...key);
    t.is(results[0].status, 'created');
    t.is(results[0].changedBands, 1);
    t.is(results[0].paddedBytes > 0, name.includes('padded'));
    t.deepEqual((await space.json('check', '--data', ...key)).findings, []);
  });
}
