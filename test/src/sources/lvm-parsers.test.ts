/** What LVM, dmsetup and thin_delta print, as recorded from lvm2 2.03.16 and thin-provisioning-tools 0.9.0 on Linux 6.1 (a pool that needs a check: after the kernel's documentation). */
import test from 'ava';
import fc from 'fast-check';
import { TimebandError } from '../../../bands/errors.ts';
import { decodeDeviceName, encodeDeviceName, volumeNameOfPath } from '../../../src/sources/lvm/device-name.ts';
import { parseLvsReport } from '../../../src/sources/lvm/lvs-report.ts';
import { hasExternalOrigin, parseThinPoolStatus } from '../../../src/sources/lvm/pool-status.ts';
import { type ThinDelta, ThinDeltaParser } from '../../../src/sources/lvm/thin-delta.ts';
import { complaint } from '../../../src/sources/lvm/tools.ts';

const KIB64 = 65_536;
const LVS = `  {
      "report": [
          {
              "lv": [
                  {"vg_name":"vg-a", "lv_name":"[lvol0_pmspare]", "lv_uuid":"MGQsv2-2OCT-EPfk-0dGc-aCPS-7jMM-72txPS", "lv_size":"4194304", "segtype":"linear", "pool_lv":"", "pool_lv_uuid":"", "thin_id":"", "lv_tags":"", "lv_permissions":"unknown", "lv_active":"", "data_percent":"", "metadata_percent":"", "metadata_lv":""},
                  {"vg_name":"vg-a", "lv_name":"pool-1", "lv_uuid":"4CEf1V-uwYl-0Kn9-281i-lfUP-RmXj-xsejcv", "lv_size":"100663296", "segtype":"thin-pool", "pool_lv":"", "pool_lv_uuid":"", "thin_id":"", "lv_tags":"", "lv_permissions":"writeable", "lv_active":"active", "data_percent":"17.06", "metadata_percent":"11.43", "metadata_lv":"[pool-1_tmeta]"},
                  {"vg_name":"vg-a", "lv_name":"timeband.01234567.89abcdef", "lv_uuid":"yQ2EtD-y6Gk-DKAB-Re6s-4tZ5-f1bV-XuW12X", "lv_size":"67108864", "segtype":"thin", "pool_lv":"pool-1", "pool_lv_uuid":"4CEf1V-uwYl-0Kn9-281i-lfUP-RmXj-xsejcv", "thin_id":"2", "lv_tags":"timeband,timeband:by:eyJob3N0Ijoi_-x,timeband:owner:0123456789abcdef0123456789abcdef:0123456789abcdef0123456789abcdef", "lv_permissions":"read-only", "lv_active":"", "data_percent":"", "metadata_percent":"", "metadata_lv":""}
              ]
          }
      ]
  }
`;
const DELTA = `<superblock uuid="" time="2" transaction="3" data_block_size="128" nr_data_blocks="0">
  <diff left="2" right="3">
    <same begin="0" length="64"/>
    <left_only begin="64" length="32"/>
    <same begin="96" length="27"/>
    <different begin="123" length="3"/>
    <same begin="126" length="130"/>
    <same begin="500" length="1"/>
    <right_only begin="900" length="2"/>
  </diff>
</superblock>
`;

/** Whether `work` fails as data that cannot be trusted does. */
function isRefused(work: () => unknown): boolean {
  try {
    work();
    return false;
  } catch (error) {
    return error instanceof TimebandError && error.code === 'TOOL_FAILED';
  }
}

function parseDelta(text: string, ids: { oldId: number; newId: number } = { oldId: 2, newId: 3 }, sizeBytes: number = 1024 * KIB64): ThinDelta {
  const parser = new ThinDeltaParser({ ...ids, sizeBytes });
  for (const line of text.split('\n')) parser.push(line);
  return parser.finish();
}

function blocks(...pairs: [number, number][]): ThinDelta['changed'] {
  return pairs.map(([begin, length]) => ({ offset: begin * KIB64, length: length * KIB64 }));
}

test('device names double the dashes of a group and a volume, and are taken apart again', (t) => {
  t.is(encodeDeviceName({ group: 'vg-a', volume: 'vol-b' }), 'vg--a-vol--b');
  t.deepEqual(decodeDeviceName('vg--a-vol--b'), { group: 'vg-a', volume: 'vol-b' });
  t.deepEqual(decodeDeviceName('a---b'), { group: 'a-', volume: 'b' });
  t.deepEqual(volumeNameOfPath('/dev/mapper/vg--a-vol--b'), { group: 'vg-a', volume: 'vol-b' });
  t.deepEqual(volumeNameOfPath('/dev/vg-a/vol-b'), { group: 'vg-a', volume: 'vol-b' });
  for (const name of ['', 'vg', 'vg-', '-vol', 'vg--vol', 'vg-vol-tpool']) t.is(decodeDeviceName(name), undefined, name);
  for (const path of ['/dev/sda', '/dev/disk/by-id/x', '/home/vg/vol', '/dev/mapper/control']) t.is(volumeNameOfPath(path), undefined, path);
  const name = fc.stringMatching(/^[a-z0-9+_.][a-z0-9+_.-]{0,8}$/);
  fc.assert(fc.property(name, name, (group, volume) => t.deepEqual(decodeDeviceName(encodeDeviceName({ group, volume })), { group, volume })));
});

test('a report of lvs gives pools, thin volumes and their tags; hidden names lose their brackets', (t) => {
  const [spare, pool, snapshot] = parseLvsReport(LVS);
  t.like(spare, { name: 'lvol0_pmspare', segmentType: 'linear', thinId: undefined, pool: undefined, tags: [], isReadOnly: false });
  t.like(pool, {
    group: 'vg-a',
    name: 'pool-1',
    segmentType: 'thin-pool',
    metadataVolume: 'pool-1_tmeta',
    dataPercent: 17.06,
    metadataPercent: 11.43,
  });
  t.like(snapshot, { sizeBytes: 67_108_864, thinId: 2, pool: 'pool-1', isReadOnly: true, isActive: false, dataPercent: undefined });
  t.is(snapshot?.poolUuid, pool?.uuid);
  t.deepEqual(snapshot?.tags.slice(0, 2), ['timeband', 'timeband:by:eyJob3N0Ijoi_-x']);
});

test('what is no report of lvs is refused', (t) => {
  for (const text of [
    '',
    '{}',
    '[]',
    '{"report":[{"vg":[]}]}',
    LVS.replace('"lv_size":"4194304"', '"lv_size":"4M"'),
    LVS.replace('"lv_tags":"",', ''),
  ])
    t.true(
      isRefused(() => parseLvsReport(text)),
      text.slice(0, 40),
    );
});

test('the status of a pool tells its mode and who holds its metadata snapshot', (t) => {
  const free = '0 196608 thin-pool 3 117/1024 262/1536 - rw discard_passdown queue_if_no_space - 256 ';
  t.deepEqual(parseThinPoolStatus(free), { mode: 'rw', needsCheck: false, dataPercent: 17, metadataPercent: 11, heldRoot: undefined });
  t.is(parseThinPoolStatus(free.replace(' - rw', ' 57 rw')).heldRoot, 57);
  const full = '0 196608 thin-pool 6 127/1024 1536/1536 119 out_of_data_space discard_passdown queue_if_no_space - 256 ';
  t.deepEqual(parseThinPoolStatus(full), { mode: 'out_of_data_space', needsCheck: false, dataPercent: 100, metadataPercent: 12, heldRoot: 119 });
  const broken = '0 196608 thin-pool 6 127/1024 1536/1536 - ro discard_passdown error_if_no_space needs_check 256';
  t.like(parseThinPoolStatus(broken), { mode: 'ro', needsCheck: true, heldRoot: undefined });
  t.is(parseThinPoolStatus('0 196608 thin-pool Fail').mode, 'failed');
  for (const text of ['', '0 131072 thin 29056 115455', free.replace(' - rw', ' x rw'), free.replace('rw', 'xx')])
    t.true(
      isRefused(() => parseThinPoolStatus(text)),
      text,
    );
});

test('the table of a thin volume tells whether another device shows through', (t) => {
  t.false(hasExternalOrigin('0 131072 thin 253:2 3'));
  t.true(hasExternalOrigin('0 131072 thin 253:2 3 253:9'));
  t.true(isRefused(() => hasExternalOrigin('0 196608 linear 253:2 0')));
});

test('different, discarded and new blocks are changes; what is mapped in the new volume is its data', (t) => {
  const { changed, mapped } = parseDelta(DELTA);
  t.deepEqual(changed, blocks([64, 32], [123, 3], [900, 2]));
  t.deepEqual(mapped, blocks([0, 64], [96, 160], [500, 1], [900, 2]));
});

test('a volume compared with itself has its data and no changes', (t) => {
  const text = DELTA.replace('left="2"', 'left="3"').replaceAll(/different|left_only|right_only/g, 'same');
  const { changed, mapped } = parseDelta(text, { oldId: 3, newId: 3 });
  t.deepEqual(changed, []);
  t.deepEqual(mapped, blocks([0, 256], [500, 1], [900, 2]));
  t.deepEqual(parseDelta('<superblock uuid="" data_block_size="128">\n<diff left="2" right="3">\n</diff>\n</superblock>'), {
    changed: [],
    mapped: [],
  });
});

test('what lies behind the end of the volume is left out', (t) => {
  const { changed, mapped } = parseDelta(DELTA, { oldId: 2, newId: 3 }, 124 * KIB64 + 512);
  t.deepEqual(changed, [...blocks([64, 32]), { offset: 123 * KIB64, length: KIB64 + 512 }]);
  t.deepEqual(mapped, [...blocks([0, 64]), { offset: 96 * KIB64, length: 28 * KIB64 + 512 }]);
});

test('an output that is cut, of other volumes, out of order or not understood is refused', (t) => {
  const lines = DELTA.trim().split('\n');
  for (let i = 0; i < lines.length - 1; i++)
    t.true(
      isRefused(() => parseDelta(lines.slice(0, i).join('\n'))),
      `cut before line ${i}`,
    );
  t.true(
    isRefused(() => parseDelta(DELTA, { oldId: 3, newId: 2 })),
    'other volumes',
  );
  const faults: [string, string][] = [
    ['left_only', 'left_most'],
    ['begin="123"', 'begin="12"'],
    ['length="3"', 'length="0"'],
    ['length="3"', 'size="3"'],
    ['<different begin="123" length="3"/>', 'Unable to find mapping tree for snap1 (9)'],
    ['data_block_size="128"', 'data_block_size="0"'],
    ['  </diff>\n', ''],
    ['</superblock>', '</superblock>\n<same begin="1000" length="1"/>'],
  ];
  for (const [from, to] of faults)
    t.true(
      isRefused(() => parseDelta(DELTA.replace(from, to))),
      to,
    );
});

test('any lines are understood or refused', (t) => {
  const line = fc.oneof(
    fc.string(),
    fc.constantFrom(...DELTA.split('\n')),
    fc.tuple(fc.constantFrom('same', 'different'), fc.nat(), fc.nat()).map(([name, a, b]) => `<${name} begin="${a}" length="${b}"/>`),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 12 }), (lines) => {
      try {
        parseDelta(lines.join('\n'));
      } catch (error) {
        t.true(error instanceof TimebandError);
      }
    }),
  );
  t.pass();
});

test("a tool's complaint is told without LVM's usual warnings", (t) => {
  const stderr =
    '  WARNING: Thin pool vg-a/pool-1 is out of data space.\n  Cannot create new thin volume, free space in thin pool vg-a/pool-1 reached threshold.\n';
  t.is(complaint(stderr), 'Cannot create new thin volume, free space in thin pool vg-a/pool-1 reached threshold.');
  t.is(complaint('  WARNING: This metadata update is NOT backed up.\n'), 'WARNING: This metadata update is NOT backed up.');
  t.is(complaint(''), '');
});
