/** Damage to what opens a repository or a volume: repository.json, the key slots, the volume record. */
import { copyFileSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { BandPool } from '../../bands/workers/band-pool.ts';
import { checkRepository } from '../../src/check/check.ts';
import { checkWithoutKey } from '../../src/check/check-without-key.ts';
import { Repository } from '../../src/repository.ts';
import { restoreSession } from '../../src/restore.ts';
import { firstWrongByte } from '../support/parts.ts';
import { PASSPHRASE } from '../support/workspace.ts';
import { DAMAGES, type Scene, setScene } from './damage/scene.ts';
import { makeTemplate, type Template } from './damage/template.ts';
import { exitOf } from './damage/verify.ts';

const pool: BandPool = new BandPool();
let template: Template;

test.before('the repository that all cases start from', async () => {
  template = await makeTemplate(pool);
});

test.after.always(async () => {
  template.remove();
  await pool.close();
});

function slotOf(scene: Scene): string {
  const [name = ''] = readdirSync(path.join(scene.repo, 'keys'));
  return path.join(scene.repo, 'keys', name);
}

/** What the program may say of each file: corrupt, wrong key (an altered field that still parses), or no repository. */
const FILES = [
  { what: 'repository.json', find: (scene: Scene) => path.join(scene.repo, 'repository.json'), absent: 10 },
  { what: 'the only key slot', find: slotOf, absent: 13 },
] as const;

for (const { what, find, absent } of FILES) {
  for (const damage of DAMAGES) {
    test.serial(`${what} with ${damage.name}: every command refuses, and nothing is written`, async (t) => {
      const scene = await setScene(t, template);
      damage.apply(find(scene));
      const allowed = damage.name === 'nothing in its place' ? [absent] : [12, 13];
      for (const args of [['check'], ['sync', `small=${template.next.small}`], ['restore', 'small', scene.at('out.img')]]) {
        const { status, stderr } = await scene.cli(...args);
        t.true(allowed.includes(status ?? -1), `${args[0]}: ${status} ${stderr}`);
        t.not(stderr, '');
      }
      t.deepEqual(readdirSync(scene.root).includes('out.img'), false);
      t.is(readdirSync(path.dirname((await scene.open('small', 0)).directory)).length, 3);
    });
  }
}

test.serial('a bit turned in any place of repository.json, or of a key slot but in its date, keeps the repository shut', async (t) => {
  const scene = await setScene(t, template);
  for (const { find } of FILES) {
    const file = find(scene);
    const whole = readFileSync(file);
    const dated = file === slotOf(scene) ? whole.indexOf('"created"') : whole.length;
    for (let at = 0; at < whole.length; at++) {
      if (at > dated && at < whole.indexOf('\n', dated)) continue; // for people only: nothing depends on it
      const bytes = Uint8Array.from(whole);
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      writeFileSync(file, bytes);
      const status = await exitOf(async () => await Repository.open(scene.repo, { passphrase: PASSPHRASE }));
      if (status === undefined || ![1, 12, 13].includes(status)) t.fail(`${path.basename(file)}, byte ${at}: ${status}`);
    }
    writeFileSync(file, whole);
  }
  t.pass();
});

test.serial('a damaged key slot does not hide another one that opens the repository', async (t) => {
  const scene = await setScene(t, template);
  writeFileSync(path.join(scene.repo, 'keys', '0000000000000000.json'), '{}');
  t.is((await scene.cli('volumes')).status, 0);
  t.is((await scene.cli('check', '--no-key')).status, 3);
});

test.serial("another repository's key slot does not open this one", async (t) => {
  const scene = await setScene(t, template);
  const other = await makeTemplate(pool);
  t.teardown(() => other.remove());
  const [name = ''] = readdirSync(path.join(other.repo, 'keys'));
  renameSync(slotOf(scene), scene.at('slot.json'));
  copyFileSync(path.join(other.repo, 'keys', name), path.join(scene.repo, 'keys', name));
  t.is((await scene.cli('volumes')).status, 12);
});

test.serial('a repository without any key slot is a finding of a check without the key', async (t) => {
  const scene = await setScene(t, template);
  renameSync(slotOf(scene), scene.at('slot.json'));
  t.is((await scene.cli('check', '--no-key')).status, 3);
});

for (const damage of DAMAGES) {
  test.serial(`a volume record with ${damage.name} is found with and without the key, and hides no other volume`, async (t) => {
    const scene = await setScene(t, template);
    const volume = await scene.repository.volume('small');
    damage.apply(volume.layout.record);
    for (const { findings } of [await checkRepository(scene.repository, { pool }), await checkWithoutKey(scene.repo, { pool })]) {
      t.deepEqual(
        findings.map((one) => one.volume),
        [volume.id],
      );
    }
    const target = scene.at('other.img');
    await restoreSession({ session: await scene.open('other', 1), target, pool });
    t.is(firstWrongByte(target, template.sessions.other[1]?.image ?? ''), undefined);
  });
}

test.serial('a volume that is not found while records are damaged is taken for corrupt, not for absent', async (t) => {
  const scene = await setScene(t, template);
  DAMAGES[1]?.apply((await scene.repository.volume('small')).layout.record);
  t.is((await scene.cli('restore', 'small', scene.at('small.img'))).status, 13);
});

test.serial('sync begins no second volume of a name whose record may be the damaged one', async (t) => {
  const scene = await setScene(t, template);
  DAMAGES[1]?.apply((await scene.repository.volume('small')).layout.record);
  t.is((await scene.cli('sync', `small=${template.next.small}`)).status, 13);
  t.is(readdirSync(path.join(scene.repo, 'volumes')).length, 3);
});
