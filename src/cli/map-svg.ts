/** A volume's map as a picture: one SVG file that needs nothing else, runs nothing, and reads well aloud. Pure. */
import { parseSessionId } from '../../bands/format/session-id.ts';
import type { VolumeMap } from '../map.ts';
import { type CellGrid, type CellState, cellGrid, describeLevel, heatOf, type MapCell, type MapNumbers, numbersOf } from './map-cells.ts';
import { describeCell, describeHeat, describeSession, describeSpan, formatOffset, percent } from './map-text.ts';
import { formatBytes, formatTime, printable } from './text.ts';

const WIDTH = 960;
const MARGIN = 40;
const PANEL_PADDING = 24;
const LABEL_WIDTH = 64;
const GRID_LEFT: number = MARGIN + PANEL_PADDING + LABEL_WIDTH;
const GRID_WIDTH: number = WIDTH - MARGIN - PANEL_PADDING - GRID_LEFT;
/** Powers of two, so that rows begin at round offsets; each divides the width of the grid (768). */
const COLUMNS = [32, 64, 128] as const;
const MAX_ROWS = 40;
/** Cells per row of the grid that a volume of few cells gets, for each row: about three times as wide as high. */
const SHAPE = 3;
const LABEL_EVERY_PX = 18;
const TEXT = 13;
const SWATCH_PX = 12;
const LEGEND_LINE_PX = 24;
const LEGEND_GAP_PX = 20;
/** About the width of a character, for what stands side by side. */
const CHARACTER_PX = 6.4;

type Paint = readonly [className: string, fill: string];

const STATE_PAINT: Readonly<Record<CellState, Paint>> = {
  empty: ['c0', '#e8ecf1'],
  data: ['c1', '#9dbad8'],
  changed: ['c2', '#d9480f'],
  cleared: ['c3', '#9c36b5'],
};
const STATE_TEXT: Readonly<Record<CellState, string>> = {
  empty: 'no data',
  data: 'data',
  changed: 'changed in this session',
  cleared: 'became zeros in this session',
};
const HEAT_PAINT: readonly Paint[] = [
  ['c0', '#e8ecf1'],
  ['h1', '#fbd38d'],
  ['h2', '#f0883e'],
  ['h3', '#c2410c'],
  ['h4', '#5c1a04'],
];
/** The same on a dark page. */
const DARK_STYLE = `@media (prefers-color-scheme: dark) {
    .page { fill: #0f141a } .panel { fill: #171e26; stroke: #2b3642 } .ink { fill: #e6edf3 } .soft { fill: #9aa7b4 }
    .c0 { fill: #26303a } .c1 { fill: #3f6a96 } .c2 { fill: #ff922b } .c3 { fill: #da77f2 }
    .h1 { fill: #5a3a12 } .h2 { fill: #a8580f } .h3 { fill: #f08c3a } .h4 { fill: #ffe0a3 }
  }`;

interface Drawing {
  readonly text: string;
  readonly height: number;
}

interface Panel {
  readonly title: string;
  readonly subtitle: string;
  readonly paint: (cell: MapCell) => Paint;
  readonly legend: readonly (readonly [Paint, string])[];
}

export function renderMapSvg(map: VolumeMap): string {
  const numbers = numbersOf(map);
  const grid = cellGrid(map, { maxColumns: columnsFor(map.bandCount), maxRows: MAX_ROWS });
  const drawings: Drawing[] = [heading(map, grid), tiles(map, numbers)];
  drawings.push(drawPanel(grid, sessionPanel(map, numbers)));
  if (map.sessions.length > 0) drawings.push(drawPanel(grid, heatPanel(map, numbers)));
  const height = drawings.reduce((sum, drawing) => sum + drawing.height, MARGIN);
  let y = 0;
  const body = drawings.map((drawing) => {
    const text = `<g transform="translate(0 ${y})">\n${drawing.text}\n</g>`;
    y += drawing.height;
    return text;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title desc" font-family="system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif" font-size="${TEXT}">
<title id="title">${escapeXml(`${map.volume}@${map.session}`)}</title>
<desc id="desc">${escapeXml(describe(map, numbers, grid))}</desc>
<style>${DARK_STYLE}</style>
<rect class="page" width="${WIDTH}" height="${height}" fill="#ffffff"/>
${body.join('\n')}
</svg>
`;
}

/** Columns of a grid that is neither a line nor a tower. */
function columnsFor(bandCount: number): number {
  const wanted = Math.sqrt(bandCount * SHAPE);
  return COLUMNS.find((columns) => columns >= wanted) ?? COLUMNS[2];
}

/** What the picture shows, in words. */
function describe(map: VolumeMap, numbers: MapNumbers, grid: CellGrid): string {
  const heat = numbers.levels.map((level, i) => `${describeLevel(level)} times: ${formatBytes(numbers.heatBytes[i + 1] ?? 0)}`);
  const size = `${formatBytes(map.sizeBytes)} in ${map.bandCount} bands of ${formatBytes(map.bandBytes)}; one square is ${describeCell(grid)}.`;
  const never = map.sessions.length === 0 ? [] : [`never: ${formatBytes(numbers.heatBytes[0] ?? 0)}`, ...heat];
  return `${size} ${describeSession(map, numbers)}. ${describeHeat(map, numbers)}${never.length === 0 ? '' : `; ${never.join('; ')}`}.`;
}

function heading(map: VolumeMap, grid: CellGrid): Drawing {
  const size = `${formatBytes(map.sizeBytes)} in ${map.bandCount.toLocaleString('en')} bands of ${formatBytes(map.bandBytes)}`;
  return {
    height: 104,
    text: [
      write(MARGIN, 56, map.volume, { size: 26, weight: 650 }),
      write(MARGIN, 82, `Session ${map.session}, ${formatTime(parseSessionId(map.session) ?? 0)} · ${size} · one square is ${describeCell(grid)}`, {
        isSoft: true,
      }),
    ].join('\n'),
  };
}

function tiles(map: VolumeMap, numbers: MapNumbers): Drawing {
  const bands = (count: number): string => `${count.toLocaleString('en')} ${count === 1 ? 'band' : 'bands'}`;
  const entries: readonly (readonly [string, string, string])[] = [
    ['Size', formatBytes(map.sizeBytes), bands(map.bandCount)],
    ['Holds data', formatBytes(numbers.dataBytes), `${percent(numbers.dataBytes, map.sizeBytes)}, ${bands(numbers.dataBands)}`],
    [
      'Changed in this session',
      formatBytes(numbers.changedBytes),
      map.base === undefined ? 'a first session: all is new' : bands(numbers.changedBands),
    ],
    [
      'Changes counted over',
      `${map.sessions.length} session${map.sessions.length === 1 ? '' : 's'}`,
      map.sessions.length === 0 ? 'there is one session yet' : `at most ${numbers.mostChanges} per band`,
    ],
  ];
  const gap = 16;
  const width = (WIDTH - 2 * MARGIN - gap * (entries.length - 1)) / entries.length;
  const drawn = entries.map(([label, value, detail], i) => {
    const x = MARGIN + i * (width + gap);
    return [
      box(x, 0, width, 88),
      write(x + 16, 26, label, { isSoft: true }),
      write(x + 16, 54, value, { size: 22, weight: 650 }),
      write(x + 16, 75, detail, { isSoft: true, size: 12 }),
    ].join('\n');
  });
  return { height: 88 + 24, text: drawn.join('\n') };
}

function sessionPanel(map: VolumeMap, numbers: MapNumbers): Panel {
  const states: readonly CellState[] = ['empty', 'data', 'changed', 'cleared'];
  const since = map.base === undefined ? 'a first session: all of its data is new' : `changes since ${map.base}`;
  return {
    title: 'What is there, and what this session changed',
    subtitle: `${formatBytes(numbers.dataBytes)} of data; ${since}`,
    paint: ({ state }) => STATE_PAINT[state],
    legend: states.map((state) => [STATE_PAINT[state], STATE_TEXT[state]] as const),
  };
}

function heatPanel(map: VolumeMap, { levels, heatBytes }: MapNumbers): Panel {
  const texts = ['never', ...levels.map((level) => (level.to === 1 ? 'once' : `${describeLevel(level)} times`))];
  return {
    title: 'How often each part changed',
    subtitle: `${describeSpan(map)}; a square shows its busiest band`,
    paint: ({ changes }) => HEAT_PAINT[heatOf(changes, levels)] ?? STATE_PAINT.empty,
    legend: texts.map((text, i) => [HEAT_PAINT[i] ?? STATE_PAINT.empty, `${text} · ${formatBytes(heatBytes[i] ?? 0)}`] as const),
  };
}

function drawPanel(grid: CellGrid, panel: Panel): Drawing {
  const cellPx = Math.floor(GRID_WIDTH / grid.columns);
  const gridTop = 76;
  const gridHeight = grid.rows * cellPx;
  const legend = drawLegend(panel.legend, gridTop + gridHeight + 20);
  const height = gridTop + gridHeight + 20 + legend.height + PANEL_PADDING;
  const text = [
    `<g role="group" aria-label="${escapeXml(panel.title)}">`,
    box(MARGIN, 0, WIDTH - 2 * MARGIN, height),
    write(MARGIN + PANEL_PADDING, 34, panel.title, { size: 16, weight: 650 }),
    write(MARGIN + PANEL_PADDING, 55, panel.subtitle, { isSoft: true }),
    ...rowLabels(grid, cellPx).map(([y, label]) => write(GRID_LEFT - 12, gridTop + y, label, { isSoft: true, size: 11, anchor: 'end' })),
    `<g transform="translate(${GRID_LEFT} ${gridTop})" shape-rendering="crispEdges">`,
    ...drawCells(grid, cellPx, panel.paint),
    '</g>',
    legend.text,
    '</g>',
  ];
  return { height: height + 24, text: text.join('\n') };
}

/** Offsets within the volume, beside the rows that have room for them: baseline and text. */
function rowLabels(grid: CellGrid, cellPx: number): (readonly [number, string])[] {
  const every = Math.ceil(LABEL_EVERY_PX / cellPx);
  return Array.from({ length: Math.ceil(grid.rows / every) }, (_, i) => {
    const row = i * every;
    return [row * cellPx + cellPx / 2 + 4, formatOffset(row * grid.columns * grid.cellBytes)] as const;
  });
}

/** One path for each paint: squares with a gap of a pixel. */
function drawCells(grid: CellGrid, cellPx: number, paint: Panel['paint']): string[] {
  const side = cellPx - (cellPx > 8 ? 2 : 1);
  const paths = new Map<Paint, string[]>();
  for (const [i, cell] of grid.cells.entries()) {
    const key = paint(cell);
    const squares = paths.get(key) ?? [];
    squares.push(square((i % grid.columns) * cellPx, Math.floor(i / grid.columns) * cellPx, side, key[1]));
    paths.set(key, squares);
  }
  return [...paths].map(([[className, fill], squares]) => `<path class="${className}" fill="${fill}" fill-rule="evenodd" d="${squares.join('')}"/>`);
}

/** Swatches with their meaning, in as many lines as they need. */
function drawLegend(entries: Panel['legend'], top: number): Drawing {
  const drawn: string[] = [];
  let [x, y] = [GRID_LEFT, top];
  for (const [[className, fill], text] of entries) {
    const width = SWATCH_PX + 8 + text.length * CHARACTER_PX;
    if (x > GRID_LEFT && x + width > GRID_LEFT + GRID_WIDTH) [x, y] = [GRID_LEFT, y + LEGEND_LINE_PX];
    drawn.push(`<path class="${className}" fill="${fill}" fill-rule="evenodd" d="${square(Math.round(x), y, SWATCH_PX, fill)}"/>`);
    drawn.push(write(Math.round(x) + SWATCH_PX + 8, y + 10.5, text, {}));
    x += width + LEGEND_GAP_PX;
  }
  return { text: drawn.join('\n'), height: y - top + SWATCH_PX };
}

/** A square, hollow where a band became zeros: told without colours, too. */
function square(x: number, y: number, side: number, fill: string): string {
  const outer = `M${x} ${y}h${side}v${side}h-${side}z`;
  const rim = Math.max(1, Math.round(side / 5));
  const inner = side - 2 * rim;
  return fill === STATE_PAINT.cleared[1] ? `${outer}M${x + rim} ${y + rim}h${inner}v${inner}h-${inner}z` : outer;
}

function box(x: number, y: number, width: number, height: number): string {
  return `<rect class="panel" x="${x + 0.5}" y="${y + 0.5}" width="${width - 1}" height="${height - 1}" rx="8" fill="#ffffff" stroke="#d8dee6"/>`;
}

interface TextStyle {
  readonly size?: number;
  readonly weight?: number;
  readonly isSoft?: boolean;
  readonly anchor?: 'end';
}

function write(x: number, y: number, text: string, { size, weight, isSoft, anchor }: TextStyle): string {
  const paint = isSoft === true ? 'class="soft" fill="#5b6875"' : 'class="ink" fill="#17212b"';
  const more = `${size === undefined ? '' : ` font-size="${size}"`}${weight === undefined ? '' : ` font-weight="${weight}"`}${anchor === undefined ? '' : ` text-anchor="${anchor}"`}`;
  return `<text x="${x}" y="${y}" ${paint}${more}>${escapeXml(text)}</text>`;
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escapeXml(text: string): string {
  return printable(text).replace(/[&<>"]/g, (one) => ENTITIES[one] ?? one);
}
