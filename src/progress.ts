/** How long work reports where it is; a terminal draws it, a program may log it. */

export interface Progress {
  readonly phase: string;
  readonly doneBands: number;
  readonly totalBands: number;
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export type OnProgress = (progress: Progress) => void;
