/** A volume's map for the terminal: told by its characters, and by colours where there are any. Pure. */
import { parseSessionId } from '../../bands/format/session-id.ts';
import type { VolumeMap } from '../map.ts';
import { type CellGrid, type CellState, cellGrid, describeLevel, heatOf, type MapCell, type MapNumbers, numbersOf } from './map-cells.ts';
import { formatBytes, formatTime, printable } from './text.ts';

const MAX_ROWS = 16;
const LABEL_COLUMNS = 12;
const OFFSET_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** A character, and its colour of the 256. */
type Ink = readonly [character: string, colour: number];

const STATE_INK: Readonly<Record<CellState, Ink>> = { empty: ['·', 242], data: ['░', 68], changed: ['█', 208], cleared: ['○', 170] };
const STATE_TEXT: Readonly<Record<CellState, string>> = {
  empty: 'no data',
  data: 'data',
  changed: 'changed in this session',
  cleared: 'became zeros in this session',
};
const HEAT_INK: readonly Ink[] = [
  ['·', 242],
  ['░', 222],
  ['▒', 214],
  ['▓', 202],
  ['█', 160],
];

export interface TextOptions {
  /** Characters in a line. */
  readonly columns: number;
  readonly hasColour: boolean;
}

export function renderMapText(map: VolumeMap, { columns, hasColour }: TextOptions): string {
  const grid = cellGrid(map, { maxColumns: columns - LABEL_COLUMNS, maxRows: MAX_ROWS });
  const numbers = numbersOf(map);
  const draw = (ink: (cell: MapCell) => Ink): string[] => drawGrid(grid, ink, hasColour);
  const legend = (entries: readonly (readonly [Ink, string])[]): string[] => wrapLegend(entries, { columns, hasColour });
  return [
    `${printable(map.volume)}@${map.session}, ${formatTime(parseSessionId(map.session) ?? 0)}`,
    `${formatBytes(map.sizeBytes)} in ${map.bandCount} bands of ${formatBytes(map.bandBytes)}; one character is ${describeCell(grid)}`,
    '',
    describeSession(map, numbers),
    ...draw(({ state }) => STATE_INK[state]),
    ...legend((['empty', 'data', 'changed', 'cleared'] as const).map((state) => [STATE_INK[state], STATE_TEXT[state]])),
    '',
    describeHeat(map, numbers),
    ...(map.sessions.length === 0 ? [] : draw(({ changes }) => HEAT_INK[heatOf(changes, numbers.levels)] ?? HEAT_INK[0] ?? ['?', 0])),
    ...(map.sessions.length === 0 ? [] : legend(heatEntries(numbers))),
  ].join('\n');
}

/** `32.0 MiB (16 bands)`. */
export function describeCell({ cellBytes, bandsPerCell }: CellGrid): string {
  return bandsPerCell === 1 ? `one band (${formatBytes(cellBytes)})` : `${formatBytes(cellBytes)} (${bandsPerCell} bands)`;
}

/** `1.125 GiB`: offsets are round in some unit, and are given without rounding. */
export function formatOffset(bytes: number): string {
  let unit = bytes === 0 ? 0 : Math.min(OFFSET_UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  while (unit > 0 && !Number.isInteger((bytes / 1024 ** unit) * 8)) unit--; // eighths have three decimals at most
  return `${Number((bytes / 1024 ** unit).toFixed(3))} ${OFFSET_UNITS[unit]}`;
}

/** `61 %`; what is little but not nothing is `<1 %`. */
export function percent(part: number, whole: number): string {
  const share = (part / whole) * 100;
  return part > 0 && share < 1 ? '<1 %' : part < whole && share > 99 ? '>99 %' : `${Math.round(share)} %`;
}

export function describeSession(map: VolumeMap, numbers: MapNumbers): string {
  const data = `${formatBytes(numbers.dataBytes)} (${percent(numbers.dataBytes, map.sizeBytes)}) hold data`;
  if (map.base === undefined) return `This session: ${data}; it is a first one, so all of it is new`;
  return `This session: ${data}; ${formatBytes(numbers.changedBytes)} (${numbers.changedBands} bands) changed since ${map.base}`;
}

export function describeHeat(map: VolumeMap, { mostChanges }: MapNumbers): string {
  if (map.sessions.length === 0) return 'How often each part changed: unknown yet, there is one session';
  return `How often each part changed: ${describeSpan(map)}; at most ${mostChanges === 1 ? 'once' : `${mostChanges} times`}`;
}

/** `24 sessions after the first, 2026-11-01 to 2026-11-24`. */
export function describeSpan({ sessions }: VolumeMap): string {
  const [from = '', to = ''] = [sessions[0], sessions.at(-1)].map((id = '') => formatTime(parseSessionId(id) ?? 0).slice(0, 10));
  return `${sessions.length} session${sessions.length === 1 ? '' : 's'} after the first, ${from === to ? `on ${from}` : `${from} to ${to}`}`;
}

function heatEntries({ levels, heatBytes }: MapNumbers): (readonly [Ink, string])[] {
  const texts = ['never', ...levels.map((level, i) => `${describeLevel(level)}${i === levels.length - 1 ? ' times' : ''}`)];
  return texts.map((text, i) => [HEAT_INK[i] ?? ['?', 0], `${text} (${formatBytes(heatBytes[i] ?? 0)})`]);
}

function drawGrid(grid: CellGrid, ink: (cell: MapCell) => Ink, hasColour: boolean): string[] {
  return Array.from({ length: grid.rows }, (_, row) => {
    const cells = grid.cells.slice(row * grid.columns, (row + 1) * grid.columns);
    const label = formatOffset(row * grid.columns * grid.cellBytes).padStart(LABEL_COLUMNS - 2);
    return `${label}  ${paint(cells.map(ink), hasColour)}`;
  });
}

/** Characters in their colours, with one escape sequence for each run of a colour. */
function paint(inks: readonly Ink[], hasColour: boolean): string {
  if (!hasColour) return inks.map(([character]) => character).join('');
  let text = '';
  let current: number | undefined;
  for (const [character, colour] of inks) {
    if (colour !== current) text += `\u001b[38;5;${colour}m`;
    current = colour;
    text += character;
  }
  return `${text}\u001b[0m`;
}

/** Entries side by side, in as many lines as they need. */
function wrapLegend(entries: readonly (readonly [Ink, string])[], { columns, hasColour }: TextOptions): string[] {
  const lines: string[] = [];
  let [line, width] = ['', 0];
  for (const [ink, text] of entries) {
    const entryWidth = text.length + 5;
    if (width > 0 && LABEL_COLUMNS + width + entryWidth > columns) {
      lines.push(line);
      [line, width] = ['', 0];
    }
    line += `${paint([ink], hasColour)} ${text}   `;
    width += entryWidth;
  }
  return [...lines, line].map((one) => `${' '.repeat(LABEL_COLUMNS)}${one.trimEnd()}`);
}
