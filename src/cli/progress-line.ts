/** Progress for people: one line redrawn on a terminal, a line every few seconds elsewhere. */
import type { Progress } from '../progress.ts';
import type { Terminal } from './terminal.ts';
import { formatBytes, formatDuration } from './text.ts';

const DRAW_EVERY_MS = 100;
const LINE_EVERY_MS = 5000;
const BAR_CELLS = 24;

export class ProgressLine {
  readonly #terminal: Terminal;
  readonly #label: string;
  readonly #startedAt = performance.now();
  #drawnAt: number;
  #isDrawn = false;

  constructor(terminal: Terminal, label: string) {
    this.#terminal = terminal;
    this.#label = label;
    this.#drawnAt = terminal.isInteractive ? 0 : this.#startedAt;
  }

  readonly update = (progress: Progress): void => {
    const now = performance.now();
    if (now - this.#drawnAt < (this.#terminal.isInteractive ? DRAW_EVERY_MS : LINE_EVERY_MS)) return;
    this.#drawnAt = now;
    const text = `${this.#label}: ${describeProgress(progress, now - this.#startedAt)}`;
    this.#terminal.stderr.write(this.#terminal.isInteractive ? `\r\u001b[K${text}` : `${text}\n`);
    this.#isDrawn = this.#terminal.isInteractive;
  };

  /** Clears the line. */
  end(): void {
    if (this.#isDrawn) this.#terminal.stderr.write('\r\u001b[K');
    this.#isDrawn = false;
  }
}

/** `[######----] 512/2048 bands, 1.0/2.4 GiB, 600 MiB/s, 2.3 s left`. */
export function describeProgress(progress: Progress, elapsedMs: number): string {
  const { doneBands, totalBands, doneBytes, totalBytes } = progress;
  const share = totalBands > 0 ? Math.min(1, doneBands / totalBands) : 0;
  const filled = Math.round(share * BAR_CELLS);
  const bar = totalBands > 0 ? `[${'#'.repeat(filled)}${'-'.repeat(BAR_CELLS - filled)}] ` : '';
  const bands = totalBands > 0 ? `${doneBands}/${totalBands} bands` : `${doneBands} files`;
  const bytes = totalBytes > 0 ? `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}` : formatBytes(doneBytes);
  const rate = elapsedMs > 0 ? `${formatBytes((doneBytes / elapsedMs) * 1000)}/s` : '';
  const left = share > 0.01 && share < 1 ? `, ${formatDuration((elapsedMs / share) * (1 - share))} left` : '';
  return `${bar}${bands}, ${bytes}, ${rate}${left}`;
}
