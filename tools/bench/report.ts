/** The results: rows as they come, and the table at the end. */
import type { Usage } from './measure.ts';
import type { Verdict } from './requirements.ts';

const MIB = 1_048_576;

export interface Row {
  readonly step: string;
  readonly tool: string;
  readonly usage?: Usage | undefined;
  /** What the repository takes on disk after the step. */
  readonly storedBytes?: number | undefined;
  /** Bytes or reads a second, where that is what counts. */
  readonly perSecond?: number | undefined;
  /** Load average just before the step. */
  readonly load?: number | undefined;
  readonly note?: string | undefined;
}

const HEADINGS = ['step', 'tool', 'wall s', 'CPU s', 'peak RSS MiB', 'stored MiB', 'load', 'note'] as const;
const ALIGNMENT = ['---', '---', '---:', '---:', '---:', '---:', '---:', '---'] as const;

/** `0.083`, `1.52`, `12.3`: three digits that mean something. */
function formatSeconds(ms: number | undefined): string {
  if (ms === undefined) return '';
  const seconds = ms / 1000;
  return seconds.toFixed(seconds < 1 ? 3 : seconds < 10 ? 2 : 1);
}

function formatMiB(bytes: number | undefined): string {
  return bytes === undefined ? '' : (bytes / MIB).toFixed(bytes < 10 * MIB ? 1 : 0);
}

function cellsOf({ step, tool, usage, storedBytes, load, note }: Row): string[] {
  const { wallMs, cpuMs, peakRssBytes } = usage ?? {};
  return [
    step,
    tool,
    formatSeconds(wallMs),
    formatSeconds(cpuMs),
    formatMiB(peakRssBytes),
    formatMiB(storedBytes),
    load?.toFixed(1) ?? '',
    note ?? '',
  ];
}

function formatLine(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

export class Report {
  readonly #rows: Row[] = [];
  readonly #failures: string[] = [];
  readonly #tell: (line: string) => void;

  /** @param tell gets each row at once, so that a long run can be watched */
  constructor(tell: (line: string) => void) {
    this.#tell = tell;
  }

  get rows(): readonly Row[] {
    return this.#rows;
  }

  /** What failed, step by step; a run with failures is a failed run. */
  get failures(): readonly string[] {
    return this.#failures;
  }

  add(row: Row): void {
    this.#rows.push(row);
    this.#tell(formatLine(cellsOf(row)));
  }

  addFailure(step: string, tool: string, message: string): void {
    this.#failures.push(`${step}, ${tool}: ${message}`);
    this.add({ step, tool, note: `FAILED: ${message.replaceAll(/[\n|]+/g, ' ')}` });
  }

  /** The table in Markdown. */
  table(): string {
    return [formatLine(HEADINGS), formatLine(ALIGNMENT), ...this.#rows.map((row) => formatLine(cellsOf(row)))].join('\n');
  }
}

/** The requirements in Markdown: a list of ratios with the target and whether it is met. */
export function formatVerdicts(verdicts: readonly Verdict[]): string {
  return verdicts.map(({ text, isMet }) => `- ${text}${isMet === undefined ? '' : isMet ? ': met' : ': NOT MET'}`).join('\n');
}
