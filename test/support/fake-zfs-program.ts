/** The programs of fake-zfs.ts: node fake-zfs-program.js STATE zfs|zstream ARGUMENTS. */
import { copyFileSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DEVICES, type FakePool, type FakeSnapshot } from './fake-zfs.ts';
import { sh } from './workspace.ts';

const BLOCK = 16_384;
const [, , statePath = '', tool = '', command = '', ...args] = process.argv;
const pool: FakePool = JSON.parse(readFileSync(statePath, 'utf8'));

function save(): void {
  writeFileSync(`${statePath}.tmp`, JSON.stringify(pool)); // a reader or a kill finds the old one or the new one
  renameSync(`${statePath}.tmp`, statePath);
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

function find(name: string): FakeSnapshot {
  return pool.snapshots.find((one) => one.name === name) ?? fail(`cannot open '${name}': dataset does not exist`);
}

function snapshot(): void {
  const name = args.at(-1) ?? '';
  if (!name.startsWith(`${pool.volume}@`)) fail(`cannot open '${name.split('@')[0]}': dataset does not exist`);
  const properties: FakeSnapshot['properties'] = {};
  for (const [i, argument] of args.entries()) {
    if (argument !== '-o') continue;
    const [key = '', value = ''] = (args[i + 1] ?? '').split('=');
    properties[key] = [value, 'local'];
  }
  const image = `${statePath}.${name.split('@')[1]}.img`;
  copyFileSync(pool.live, image);
  const loop = sh('losetup', '--read-only', '--find', '--show', image).trim();
  symlinkSync(loop, path.join(DEVICES, name));
  const txg = ++pool.txg;
  pool.snapshots.push({ name, guid: String(0xf000_0000_0000_0000n + BigInt(txg) * 7919n), createtxg: txg, image, loop, properties });
  save();
}

function propertiesOf(one: FakeSnapshot | undefined, property: string): readonly [string, string] {
  if (one === undefined) {
    const values: Record<string, readonly [string, string]> = {
      type: ['volume', '-'],
      snapdev: [pool.snapdev, 'default'],
      volsize: [String(statSync(pool.live).size), 'local'],
    };
    return values[property] ?? ['-', '-'];
  }
  const values: Record<string, string> = {
    guid: one.guid,
    createtxg: String(one.createtxg),
    volsize: String(statSync(one.image).size),
    type: 'snapshot',
  };
  const value = values[property];
  return value === undefined ? (one.properties[property] ?? ['-', '-']) : [value, '-'];
}

function get(): void {
  const name = args.at(-1) ?? '';
  const names = args.includes('snapshot') ? pool.snapshots.map((one) => one.name) : [name];
  if (name.split('@')[0] !== pool.volume) fail(`cannot open '${name}': dataset does not exist`);
  for (const one of names) {
    for (const property of (args.at(-2) ?? '').split(',')) {
      const [value, source] = propertiesOf(one === pool.volume ? undefined : find(one), property);
      process.stdout.write(`${one}\t${property}\t${value}\t${source}\n`);
    }
  }
}

function set(): void {
  const [assignment = '', name = ''] = args;
  const [key = '', value = ''] = assignment.split('=');
  if (name === pool.volume && key === 'snapdev') pool.snapdev = value;
  else find(name).properties[key] = [value, 'local'];
  save();
}

function destroy(): void {
  const one = find(args[0] ?? '');
  sh('losetup', '--detach', one.loop);
  rmSync(path.join(DEVICES, one.name));
  rmSync(one.image);
  pool.snapshots = pool.snapshots.filter((other) => other !== one);
  save();
}

/** The stream is only for the zstream below: the names of the two snapshots. */
function send(): void {
  const [, from = '', to = ''] = args;
  if (pool.fault === 'fails') fail('warning: cannot send: Input/output error');
  if (find(from).createtxg >= find(to).createtxg) fail('cannot send: not an earlier snapshot from the same fs');
  process.stdout.write(JSON.stringify([from, to]));
}

/** One record for each block of 16 KiB that differs, and what surrounds them. */
function dump(): void {
  const [from, to] = (JSON.parse(readFileSync(0, 'utf8')) as [string, string]).map(find) as [FakeSnapshot, FakeSnapshot];
  const [old, now] = [readFileSync(from.image), readFileSync(to.image)];
  const hex = (guid: string): string => BigInt(guid).toString(16);
  const records: string[] = [
    'OBJECT object = 1 type = 23 bonustype = 0 blksz = 16384 bonuslen = 0 dn_slots = 1 raw_bonuslen = 0 flags = 0 maxblkid = 0 indblkshift = 0 nlevels = 0 nblkptr = 0',
    'FREEOBJECTS firstobj = 0 numobjs = 1',
  ];
  if (now.length < old.length) records.push(`FREE object = 1 offset = ${now.length} length = -1`);
  for (let at = 0; at < now.length; at += BLOCK) {
    const block = now.subarray(at, at + BLOCK);
    if (block.equals(old.subarray(at, at + BLOCK))) continue;
    if (block.every((byte) => byte === 0)) records.push(`FREE object = 1 offset = ${at} length = ${BLOCK}`);
    else if (block.subarray(64).every((byte) => byte === 0))
      records.push(
        `WRITE_EMBEDDED object = 1 offset = ${at} length = ${BLOCK} toguid = ${hex(to.guid)} comp = 15 etype = 0 lsize = ${BLOCK} psize = 64`,
      );
    else
      records.push(
        `WRITE object = 1 type = 23 checksum type = 7 compression type = 0 flags = 0 offset = ${at} logical_size = ${BLOCK} compressed_size = 0 payload_size = ${BLOCK} props = 200000000 salt = 0000000000000000 iv = 000000000000000000000000 mac = 00000000000000000000000000000000`,
      );
  }
  records.push(
    'WRITE object = 2 type = 24 checksum type = 7 compression type = 0 flags = 0 offset = 0 logical_size = 512 compressed_size = 0 payload_size = 512 props = 8200000000 salt = 0000000000000000 iv = 000000000000000000000000 mac = 00000000000000000000000000000000',
  );
  if (pool.fault === 'redact') records.push(`REDACT object = 1 offset = 0 length = ${BLOCK}`);
  if (pool.fault === 'spill')
    records.push('SPILL block for object = 1 length = 512 flags = 0 compression type = 0 compressed_size = 0 payload_size = 512');
  if (pool.fault === 'unknown') records.push('WRITE_SOMEHOW object = 1 offset = 0 length = 16384');
  const shown = pool.fault === 'lost record' ? records.toSpliced(3, 1) : pool.fault === 'cut' ? records.slice(0, -1) : records;
  const count = (kind: string): number => records.filter((record) => record.startsWith(`${kind} `)).length;
  const kinds = ['OBJECT', 'FREEOBJECTS', 'WRITE', 'WRITE_BYREF', 'WRITE_EMBEDDED', 'FREE', 'SPILL'];
  process.stdout.write(
    [
      'BEGIN record',
      ...['hdrtype = 1', 'features = 4', 'magic = 2f5bacbac', 'creation_time = 6920a3c0', 'type = 3', 'flags = 0x0'].map((line) => `\t${line}`),
      `\ttoguid = ${pool.fault === 'other guid' ? '1234' : hex(to.guid)}`,
      `\tfromguid = ${hex(from.guid)}`,
      `\ttoname = ${to.name}`,
      '',
      ...shown,
      ...(pool.fault === 'checksum' ? ['Incorrect checksum in record header.', 'Expected checksum = 1/2/3/4'] : []),
      ...(pool.fault === 'cut' ? [] : ['END checksum = 2a/2b/2c/2d']),
      'SUMMARY:',
      '\tTotal DRR_BEGIN records = 1 (0 bytes)',
      `\tTotal DRR_END records = ${pool.fault === 'cut' ? 0 : 1} (0 bytes)`,
      ...kinds.map((kind) => `\tTotal DRR_${kind} records = ${count(kind)} (${count(kind) * BLOCK} bytes)`),
      `\tTotal records = ${records.length + 2}`,
      '\tTotal payload size = 0 (0x0)',
      '\tTotal header overhead = 1872 (0x750)',
      '\tTotal stream length = 1872 (0x750)',
      '',
    ].join('\n'),
  );
}

function inherit(): void {
  if (args[0] !== 'snapdev' || args[1] !== pool.volume) fail('not a property that is inherited here');
  pool.snapdev = 'hidden';
  save();
}

const COMMANDS: Readonly<Record<string, () => void>> = { snapshot, get, set, inherit, destroy, send, dump };
(COMMANDS[command] ?? (() => fail(`unrecognized command '${command}'`)))();
if (tool === '') fail('no tool');
