/** What the project has to reach against other tools, as ratios of measured rows. Pure. */
import type { Row } from './report.ts';
import { NBDKIT, NULL_FUSE, PASSTHROUGH, PLAIN_LOOP, STEP, TOLD, WITH_SYNC } from './step-titles.ts';

const MIB = 1_048_576;
const OURS = 'timeband';
/** Shown for comparison, without a target: the other setting of the same tool is the one to beat. */
const SHOWN_TOO = 'borg-default';
const MAX_RSS_MIB = 300;

export interface Verdict {
  readonly text: string;
  /** Undefined where there is no target. */
  readonly isMet: boolean | undefined;
}

interface SpeedTarget {
  readonly step: string;
  /** How many times as fast as the peer: by its name, or for all others. */
  readonly times: Readonly<Record<string, number>>;
}

const SPEED_TARGETS: readonly SpeedTarget[] = [
  { step: STEP.first, times: { 'borg-fixed': 1.5, restic: 2 } },
  { step: STEP.touched, times: { 'borg-fixed': 3, restic: 3 } },
  { step: STEP.incremental, times: {} },
  { step: STEP.sequential, times: { 'borg-fixed': 2.5, 'borg-default': 2.5, restic: 2.5 } },
  { step: STEP.random, times: { 'borg-fixed': 8, 'borg-default': 8, restic: 8 } },
  { step: STEP.loop, times: {} },
  { step: STEP.visible, times: {} },
  { step: STEP.readInOrder, times: { [NULL_FUSE]: 0.5 } },
  { step: STEP.readLoop, times: { [NULL_FUSE]: 0.8 } },
  { step: STEP.findFiles, times: { [PLAIN_LOOP]: 1 / 1.5 } },
  { step: STEP.verify, times: { 'borg-fixed': 1.5, 'borg-default': 1.5, restic: 1.5 } },
  { step: STEP.writtenInOrder, times: { [PASSTHROUGH]: 0.8 } },
  { step: STEP.writtenRandomly, times: { [PASSTHROUGH]: 0.8 } },
  { step: STEP.reflink, times: { 'borg-fixed': 10, 'borg-default': 10, restic: 10 } },
  { step: STEP.delete, times: { 'borg-fixed': 3, 'borg-default': 3, restic: 3 } },
];
const MAX_STORED = 1.05;
const MIN_RESTORE = 1;
const MAX_LINKS = 2;
const MAX_TOLD = 1.5;
/** By step. */
const MAX_TIMES_MS: Readonly<Record<string, number>> = {
  [STEP.opened]: 1000,
  [STEP.openedAgain]: 1000,
  [STEP.look]: 1000,
  [STEP.unchangedLarge]: 1000,
  [STEP.listWarm]: 1000,
  [STEP.listKernelCold]: 5000,
  [STEP.listCold]: 5000,
};
/** Bytes or reads a second, by step. */
const MIN_RATES: Readonly<Record<string, number>> = { [STEP.readAgain]: 5e9, [STEP.readRandomly]: 3000 };
/** Of eight readers to one. */
const MIN_BY_MANY = 2;
/** Of the speed of a server that has the image in memory, as it is. */
const MIN_NBD = 0.25;

/** All that the rows allow to be said. */
export function judge(rows: readonly Row[]): Verdict[] {
  return [
    ...SPEED_TARGETS.flatMap((target) => judgeSpeed(rows, target)),
    ...judgeRestore(rows),
    ...judgeStored(rows),
    ...judgeLinks(rows),
    ...judgeTold(rows),
    ...Object.entries(MAX_TIMES_MS).flatMap(([step, maxMs]) => judgeTime(rows, step, maxMs)),
    ...Object.entries(MIN_RATES).flatMap(([step, least]) => judgeRate(rows, step, least)),
    ...judgeMany(rows),
    ...judgeNbd(rows),
    ...judgeMemory(rows),
  ];
}

function find(rows: readonly Row[], step: string, tool: string): Row | undefined {
  return rows.find((row) => row.step === step && row.tool === tool && row.usage !== undefined);
}

function judgeSpeed(rows: readonly Row[], { step, times }: SpeedTarget): Verdict[] {
  const ours = find(rows, step, OURS)?.usage;
  if (ours === undefined) return [];
  const others = rows.filter((row) => row.step === step && row.tool !== OURS && row.tool !== TOLD);
  return others.flatMap(({ tool, usage }) => {
    if (usage === undefined) return [];
    const ratio = usage.wallMs / ours.wallMs;
    const target = times[tool];
    const tail = target === undefined ? (tool === SHOWN_TOO ? 'shown too' : 'no target') : `target ${Number(target.toFixed(2))}`;
    const cpu = (usage.cpuMs / ours.cpuMs).toFixed(2);
    return [
      {
        text: `${step}: ${ratio.toFixed(2)} x as fast as ${tool} (${tail}; CPU time ${cpu} x)`,
        isMet: target === undefined ? undefined : ratio >= target,
      },
    ];
  });
}

function judgeRestore(rows: readonly Row[]): Verdict[] {
  const ours = find(rows, STEP.restore, OURS)?.usage;
  const others = rows.filter((row) => row.step === STEP.restore && row.tool !== OURS && row.usage !== undefined);
  const best = others.toSorted((a, b) => (a.usage?.wallMs ?? 0) - (b.usage?.wallMs ?? 0))[0];
  if (ours === undefined || best?.usage === undefined) return [];
  const ratio = best.usage.wallMs / ours.wallMs;
  const text = `${STEP.restore}: ${ratio.toFixed(2)} x as fast as ${best.tool}, the best of the others (target ${MIN_RESTORE})`;
  return [{ text, isMet: ratio >= MIN_RESTORE }];
}

function judgeStored(rows: readonly Row[]): Verdict[] {
  const ours = find(rows, STEP.first, OURS)?.storedBytes;
  const borg = find(rows, STEP.first, 'borg-fixed')?.storedBytes;
  if (ours === undefined || borg === undefined) return [];
  const ratio = ours / borg;
  return [{ text: `stored after the first backup: ${ratio.toFixed(3)} x borg-fixed (target at most ${MAX_STORED})`, isMet: ratio <= MAX_STORED }];
}

function judgeLinks(rows: readonly Row[]): Verdict[] {
  const ours = find(rows, STEP.linked, OURS)?.usage;
  if (ours === undefined) return [];
  const against = (tool: string, target: number | undefined): Verdict[] => {
    const copy = find(rows, STEP.linked, tool)?.usage;
    if (copy === undefined) return [];
    const ratio = ours.wallMs / copy.wallMs;
    const tail = target === undefined ? 'no target' : `target at most ${target}`;
    return [
      { text: `${STEP.linked}: ${ratio.toFixed(2)} x the time of ${tool} (${tail})`, isMet: target === undefined ? undefined : ratio <= target },
    ];
  };
  return [...against(`cp -al${WITH_SYNC}`, MAX_LINKS), ...against('cp -al', undefined)];
}

function judgeTold(rows: readonly Row[]): Verdict[] {
  const ours = find(rows, STEP.reflink, OURS)?.usage;
  const told = find(rows, STEP.reflink, TOLD)?.usage;
  if (ours === undefined || told === undefined) return [];
  const ratio = ours.wallMs / told.wallMs;
  return [
    {
      text: `${STEP.reflink}: ${ratio.toFixed(2)} x the time of a sync that is told what changed (target at most ${MAX_TOLD})`,
      isMet: ratio <= MAX_TOLD,
    },
  ];
}

function judgeNbd(rows: readonly Row[]): Verdict[] {
  const ours = find(rows, STEP.nbd, OURS)?.usage;
  if (ours === undefined) return [];
  const against = (row: Row | undefined, what: string, target: number): Verdict[] => {
    if (row?.usage === undefined) return [];
    const ratio = row.usage.wallMs / ours.wallMs;
    return [{ text: `${STEP.nbd}: ${ratio.toFixed(2)} x as fast as ${what} (target ${target})`, isMet: ratio >= target }];
  };
  return [
    ...against(find(rows, STEP.nbd, NBDKIT), NBDKIT, MIN_NBD),
    ...against(find(rows, STEP.sequential, OURS), 'reading it through the mount', 1),
  ];
}

function judgeTime(rows: readonly Row[], step: string, maxMs: number): Verdict[] {
  const ours = find(rows, step, OURS)?.usage;
  if (ours === undefined) return [];
  return [{ text: `${step}: ${(ours.wallMs / 1000).toFixed(2)} s (target below ${maxMs / 1000} s)`, isMet: ours.wallMs < maxMs }];
}

function judgeRate(rows: readonly Row[], step: string, least: number): Verdict[] {
  const rate = find(rows, step, OURS)?.perSecond;
  if (rate === undefined) return [];
  return [{ text: `${step}: ${formatAmount(rate)} a second (target ${formatAmount(least)})`, isMet: rate >= least }];
}

function formatAmount(amount: number): string {
  return amount >= 1e9 ? `${(amount / 1e9).toFixed(1)} GB` : String(Math.round(amount));
}

function judgeMany(rows: readonly Row[]): Verdict[] {
  const one = find(rows, STEP.readRandomly, OURS)?.perSecond;
  const many = find(rows, STEP.readRandomlyByMany, OURS)?.perSecond;
  if (one === undefined || many === undefined) return [];
  const ratio = many / one;
  return [
    { text: `${STEP.readRandomlyByMany}: ${ratio.toFixed(2)} x as many as by one reader (target ${MIN_BY_MANY})`, isMet: ratio >= MIN_BY_MANY },
  ];
}

function judgeMemory(rows: readonly Row[]): Verdict[] {
  const peaks = rows.flatMap(({ tool, usage }) => (tool === OURS ? (usage?.peakRssBytes ?? []) : []));
  if (peaks.length === 0) return [];
  const peak = Math.max(...peaks) / MIB;
  return [{ text: `peak memory of timeband in any step: ${peak.toFixed(0)} MiB (target below ${MAX_RSS_MIB})`, isMet: peak < MAX_RSS_MIB }];
}
