/** What `lvs --reportformat json` tells of the logical volumes of a group. */
import { TimebandError } from '../../../bands/errors.ts';

/** The arguments that give what `parseLvsReport` reads. */
export const LVS_ARGUMENTS = [
  'lvs',
  '--all',
  '--reportformat=json',
  '--units=b',
  '--nosuffix',
  '--options=vg_name,lv_name,lv_uuid,lv_size,segtype,pool_lv,pool_lv_uuid,thin_id,lv_tags,lv_permissions,lv_active,data_percent,metadata_percent,metadata_lv',
] as const;

export interface LogicalVolume {
  readonly group: string;
  /** Without the brackets of a hidden one. */
  readonly name: string;
  readonly uuid: string;
  readonly sizeBytes: number;
  /** `thin`, `thin-pool`, `linear`, … */
  readonly segmentType: string;
  /** Of a thin volume: its pool, and its number in that pool's metadata. */
  readonly pool: string | undefined;
  readonly poolUuid: string | undefined;
  readonly thinId: number | undefined;
  readonly tags: readonly string[];
  readonly isReadOnly: boolean;
  readonly isActive: boolean;
  /** Of an active thin pool: how full it is. */
  readonly dataPercent: number | undefined;
  readonly metadataPercent: number | undefined;
  /** Of a thin pool. */
  readonly metadataVolume: string | undefined;
}

/** @throws TimebandError TOOL_FAILED if it is no such report */
export function parseLvsReport(text: string): LogicalVolume[] {
  try {
    const { report } = asRecord(JSON.parse(text));
    return asArray(report).flatMap((part) => asArray(asRecord(part)['lv']).map((row) => logicalVolume(asRecord(row))));
  } catch (cause) {
    throw new TimebandError(`the report of lvs is not understood: ${String(cause)}`, { code: 'TOOL_FAILED', cause });
  }
}

function logicalVolume(row: Readonly<Record<string, unknown>>): LogicalVolume {
  const field = (name: string): string => {
    const value = row[name];
    if (typeof value !== 'string') throw new Error(`no field ${name}`);
    return value;
  };
  return {
    group: field('vg_name'),
    name: withoutBrackets(field('lv_name')),
    uuid: field('lv_uuid'),
    sizeBytes: requiredNumber(field('lv_size')),
    segmentType: field('segtype'),
    pool: orUndefined(withoutBrackets(field('pool_lv'))),
    poolUuid: orUndefined(field('pool_lv_uuid')),
    thinId: optionalNumber(field('thin_id')),
    tags: field('lv_tags').split(',').filter(Boolean),
    isReadOnly: field('lv_permissions').startsWith('read-only'),
    isActive: field('lv_active').startsWith('active'),
    dataPercent: optionalNumber(field('data_percent')),
    metadataPercent: optionalNumber(field('metadata_percent')),
    metadataVolume: orUndefined(withoutBrackets(field('metadata_lv'))),
  };
}

function withoutBrackets(name: string): string {
  return name.startsWith('[') && name.endsWith(']') ? name.slice(1, -1) : name;
}

function orUndefined(text: string): string | undefined {
  return text === '' ? undefined : text;
}

function requiredNumber(text: string): number {
  const value = Number(text);
  if (text === '' || !Number.isFinite(value)) throw new Error(`"${text}" is no number`);
  return value;
}

function optionalNumber(text: string): number | undefined {
  return text === '' ? undefined : requiredNumber(text);
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('no object where one belongs');
  return { ...value };
}

function asArray(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw new Error('no list where one belongs');
  return value;
}
