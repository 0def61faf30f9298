/** A volume's map cut into cells that fit a screen or a page, and the levels of its heat. Pure. */
import { bytesIn, type VolumeMap } from '../map.ts';

/** What a cell shows of its bands in a session; the first that applies of: changed, cleared, data. */
export type CellState = 'empty' | 'data' | 'changed' | 'cleared';
export const CELL_STATES: readonly CellState[] = ['empty', 'data', 'changed', 'cleared'];

export interface MapCell {
  readonly state: CellState;
  /** Of the band in it that changed most often. */
  readonly changes: number;
}

export interface CellGrid {
  readonly cells: readonly MapCell[];
  readonly columns: number;
  readonly rows: number;
  readonly bandsPerCell: number;
  readonly cellBytes: number;
}

/** Columns come in such steps, and cells in powers of two, so that offsets at the rows' beginnings are round. */
const COLUMN_STEP = 16;

/** Cuts a map into cells: at most `maxRows` rows of at most `maxColumns`. */
export function cellGrid(map: VolumeMap, { maxColumns, maxRows }: { readonly maxColumns: number; readonly maxRows: number }): CellGrid {
  const most = maxColumns < COLUMN_STEP ? Math.max(1, maxColumns) : maxColumns - (maxColumns % COLUMN_STEP);
  let bandsPerCell = 1;
  while (Math.ceil(map.bandCount / bandsPerCell) > most * maxRows) bandsPerCell *= 2;
  const count = Math.ceil(map.bandCount / bandsPerCell);
  const cells = Array.from({ length: count }, (_, i) => cellOf(map, i * bandsPerCell, Math.min((i + 1) * bandsPerCell, map.bandCount)));
  return { cells, columns: most, rows: Math.ceil(count / most), bandsPerCell, cellBytes: bandsPerCell * map.bandBytes };
}

function cellOf(map: VolumeMap, first: number, end: number): MapCell {
  let [hasData, isChanged, isCleared, changes] = [false, false, false, 0];
  for (let i = first; i < end; i++) {
    const holds = map.data.has(i);
    hasData ||= holds;
    if (map.changed.has(i)) {
      isChanged ||= holds;
      isCleared ||= !holds;
    }
    changes = Math.max(changes, map.changes[i] ?? 0);
  }
  return { state: isChanged ? 'changed' : isCleared ? 'cleared' : hasData ? 'data' : 'empty', changes };
}

/** A range of numbers of changes that is drawn alike. */
export interface HeatLevel {
  readonly from: number;
  readonly to: number;
}

const HEAT_LEVELS = 4;

/** Up to four levels from 1 to `most`: each number its own, or ranges whose bounds grow by a factor. */
export function heatLevels(most: number): HeatLevel[] {
  const levels: HeatLevel[] = [];
  for (let i = 1; i <= HEAT_LEVELS; i++) {
    const from = (levels.at(-1)?.to ?? 0) + 1;
    const to = most <= HEAT_LEVELS ? i : Math.max(from, Math.round(most ** (i / HEAT_LEVELS)));
    if (from <= most) levels.push({ from, to: Math.min(to, most) });
  }
  return levels;
}

/** 0 for never, else the number of the level, from 1. */
export function heatOf(changes: number, levels: readonly HeatLevel[]): number {
  return changes === 0 ? 0 : levels.findIndex(({ to }) => changes <= to) + 1;
}

/** `1`, `2–5`. */
export function describeLevel({ from, to }: HeatLevel): string {
  return from === to ? String(from) : `${from}–${to}`;
}

/** The numbers that go with a map, in bytes and bands. */
export interface MapNumbers {
  readonly dataBytes: number;
  readonly dataBands: number;
  readonly changedBytes: number;
  readonly changedBands: number;
  readonly mostChanges: number;
  readonly levels: readonly HeatLevel[];
  /** Bytes of the bands that never changed, then of each level. */
  readonly heatBytes: readonly number[];
}

export function numbersOf(map: VolumeMap): MapNumbers {
  const mostChanges = map.changes.reduce((most, count) => Math.max(most, count), 0);
  const levels = heatLevels(mostChanges);
  const byHeat: number[][] = Array.from({ length: levels.length + 1 }, () => []);
  for (const [i, count] of map.changes.entries()) byHeat[heatOf(count, levels)]?.push(i);
  return {
    dataBytes: bytesIn(map.data, map),
    dataBands: map.data.count(),
    changedBytes: bytesIn(map.changed, map),
    changedBands: map.changed.count(),
    mostChanges,
    levels,
    heatBytes: byHeat.map((bands) => bytesIn(bands, map)),
  };
}
