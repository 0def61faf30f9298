/** Texts: what other programs print, property lists of sparse bundles, and what people write on the command line. */
import { type ByteRange, mergeRanges } from '../../../bands/format/geometry.ts';
import { decodeRecoveryPhrase, encodeRecoveryPhrase } from '../../../bands/format/recovery-phrase.ts';
import { parseDuration } from '../../../src/retention/duration.ts';
import { notAfterMs, parseSessionSpec, splitVolumeAndSession } from '../../../src/session-spec.ts';
import { parsePlist } from '../../../src/sources/bundle/plist.ts';
import { parseLvsReport } from '../../../src/sources/lvm/lvs-report.ts';
import { hasExternalOrigin, parseThinPoolStatus } from '../../../src/sources/lvm/pool-status.ts';
import { ThinDeltaParser } from '../../../src/sources/lvm/thin-delta.ts';
import { ZstreamDump } from '../../../src/sources/zfs/zstream-dump.ts';
import { broken, type FuzzTarget } from '../target.ts';

const SIZE_BYTES = 64 * 2 ** 20;

function text(name: string, codes: FuzzTarget['codes'], samples: readonly string[], take: (text: string) => void): FuzzTarget {
  return {
    name,
    codes,
    samples: samples.map((sample) => Buffer.from(sample)),
    decode: (bytes) => take(Buffer.from(bytes).toString('utf8')),
  };
}

/** Ranges of a change set lie in the volume, sorted and apart. */
function checkRanges(ranges: readonly ByteRange[]): void {
  for (const { offset, length } of ranges) {
    if (!(offset >= 0 && length > 0 && offset + length <= SIZE_BYTES)) throw broken(`the range ${offset}+${length} lies in the volume`);
  }
  if (mergeRanges(ranges).length !== ranges.length) throw broken('ranges are sorted and apart');
}

const PLIST = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict><key>band-size</key><integer>8388608</integer><key>size</key><integer>42949672960</integer>
<key>diskimage-bundle-type</key><string>com.apple.diskimage.sparsebundle &amp; &#x41;</string><key>a</key><array><true/><real>1</real></array></dict></plist>`;

const LVS = JSON.stringify({
  report: [
    {
      lv: [
        {
          vg_name: 'vg',
          lv_name: '[pool_tdata]',
          lv_uuid: 'u-1',
          lv_size: '1073741824',
          segtype: 'thin',
          pool_lv: 'pool',
          pool_lv_uuid: 'u-2',
          thin_id: '7',
          lv_tags: 'a,b',
          lv_permissions: 'writeable',
          lv_active: 'active',
          data_percent: '12.50',
          metadata_percent: '',
          metadata_lv: '',
        },
      ],
    },
  ],
});

const THIN_DELTA = `<superblock uuid="" time="1" transaction="2" data_block_size="128" nr_data_blocks="1000">
  <diff left="1" right="2">
    <same begin="0" length="10"/>
    <different begin="10" length="3"/>
    <left_only begin="20" length="1"/>
    <right_only begin="30" length="5"/>
  </diff>
</superblock>`;

const ZSTREAM = `BEGIN record
\thdrtype = 1
\tfeatures = 4
\tmagic = 2f5bacbac
\tcreation_time = 673fb6a2
\ttype = 3
\tflags = 0x4
\ttoguid = b
\tfromguid = a
\ttoname = tank/vol@new
\tpayloadlen = 0

OBJECT object = 1 type = 23 bonustype = 0 blksz = 16384 bonuslen = 0 dn_slots = 1 raw_bonuslen = 0 flags = 0 maxblkid = 0 indblkshift = 0 nlevels = 0 nblkptr = 0
FREE object = 1 offset = 0 length = 16384
WRITE object = 1 type = 23 checksum type = 7 compression type = 0 flags = 0 offset = 32768 logical_size = 16384 compressed_size = 0 payload_size = 16384 props = 0 salt = 0000000000000000 iv = 000000000000000000000000 mac = 00000000000000000000000000000000
END checksum = 1/2/3/4
SUMMARY:
\tTotal DRR_BEGIN records = 1 (0 bytes)
\tTotal DRR_END records = 1 (0 bytes)
\tTotal DRR_OBJECT records = 1 (0 bytes)
\tTotal DRR_WRITE records = 1 (16384 bytes)
\tTotal DRR_FREE records = 1 (0 bytes)
\tTotal records = 5
\tTotal payload size = 16384 (0x4000)
`;

export const textTargets: readonly FuzzTarget[] = [
  text('property list', ['SOURCE_INVALID'], [PLIST], (input) => {
    parsePlist(input);
    if (({} as { polluted?: unknown }).polluted !== undefined) throw broken('no property list changes the prototype of objects');
  }),
  text('lvs report', ['TOOL_FAILED'], [LVS], (input) => {
    for (const { sizeBytes } of parseLvsReport(input)) if (!Number.isFinite(sizeBytes)) throw broken('sizes are numbers');
  }),
  text('thin pool status', ['TOOL_FAILED'], ['0 2097152 thin-pool 3 21/1024 512/8192 - rw discard_passdown queue_if_no_space - 1024'], (input) => {
    parseThinPoolStatus(input);
  }),
  text('thin volume table', ['TOOL_FAILED'], ['0 2097152 thin 253:4 7', '0 2097152 thin 253:4 7 253:9'], (input) => {
    hasExternalOrigin(input);
  }),
  text('thin_delta', ['TOOL_FAILED'], [THIN_DELTA], (input) => {
    const parser = new ThinDeltaParser({ oldId: 1, newId: 2, sizeBytes: SIZE_BYTES });
    for (const line of input.split('\n')) parser.push(line);
    const { changed, mapped } = parser.finish();
    checkRanges(changed);
    checkRanges(mapped);
  }),
  text('zstream dump', [], [ZSTREAM], (input) => {
    const dump = new ZstreamDump({ fromGuid: 10n, toGuid: 11n, sizeBytes: SIZE_BYTES });
    for (const line of input.split('\n')) dump.line(line);
    const changes = dump.end();
    if ('ranges' in changes) checkRanges(changes.ranges);
  }),
  text('session name', ['USAGE'], ['work@latest~2', 'work@2026-11-21T10:00', 'a/b@20261121T100000.123Z', '2026-02-29', 'tag'], (input) => {
    const { session } = splitVolumeAndSession(input);
    const spec = parseSessionSpec(session ?? input);
    if (spec.kind === 'time' && notAfterMs(spec.text) === undefined) throw broken('a time that was taken exists');
    if (spec.kind === 'back' && !Number.isSafeInteger(spec.steps)) throw broken('steps are a number');
  }),
  text('recovery phrase', ['WRONG_KEY'], [encodeRecoveryPhrase(Buffer.alloc(32, 0x68)), `${'zoo '.repeat(23)}vote`], (input) => {
    const typed = input.normalize('NFKD').toLowerCase().trim().split(/\s+/u).join(' ');
    if (encodeRecoveryPhrase(decodeRecoveryPhrase(input)) !== typed) throw broken('a phrase is the one form of its bytes');
  }),
  text('duration', ['USAGE'], ['30d', '1y6m', '12h', '99999w'], (input) => {
    const { months, days, hours } = parseDuration(input);
    if (!(months + days + hours > 0)) throw broken('a duration is more than nothing');
  }),
];
