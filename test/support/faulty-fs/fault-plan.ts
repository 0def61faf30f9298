/** Which operation of the faulty file system fails, and how. */

/** What is asked of the file system. A lookup is any question for attributes. */
export type Operation =
  | 'lookup'
  | 'list'
  | 'open'
  | 'read'
  | 'create'
  | 'write'
  | 'truncate'
  | 'attributes'
  | 'sync'
  | 'make'
  | 'link'
  | 'rename'
  | 'remove';

const ALLOCATING: readonly Operation[] = ['create', 'write', 'truncate', 'make', 'link', 'rename'];
const CHANGING: readonly Operation[] = [...ALLOCATING, 'attributes', 'remove'];
const MUTATING: readonly Operation[] = [...CHANGING, 'sync'];
const OPENING: readonly Operation[] = ['open', 'create', 'list'];
const ALL: readonly Operation[] = [...MUTATING, 'lookup', 'list', 'open', 'read'];

/** What happens to the operation that is hit. After a short write the kernel tries the rest itself, and has to fail to tell of it. */
export type Effect = 'EIO' | 'ENOSPC' | 'EROFS' | 'EMFILE' | 'short' | 'cut';

export interface Fault {
  /** The operations that count. */
  readonly among: readonly Operation[];
  readonly effect: Effect;
  /** Whether every later one that counts fails as well. */
  readonly isLasting: boolean;
  /** Whether the power is cut when the command has ended. */
  readonly cutsAfter?: boolean;
  /** Of what was not fsynced, a random part survives the cut; else nothing. */
  readonly isRandom?: boolean;
}

export const FAULT_NAMES = [
  'one EIO',
  'EIO from then on',
  'one EIO of any operation',
  'one EIO, then a power cut',
  'one ENOSPC',
  'ENOSPC from then on',
  'EROFS from then on',
  'one EMFILE',
  'EMFILE from then on',
  'a short write',
  'a power cut',
  'a power cut that some writes survive',
] as const;
export type FaultName = (typeof FAULT_NAMES)[number];

export const FAULTS: Readonly<Record<FaultName, Fault>> = {
  'one EIO': { among: MUTATING, effect: 'EIO', isLasting: false },
  'EIO from then on': { among: ALL, effect: 'EIO', isLasting: true },
  'one EIO of any operation': { among: ALL, effect: 'EIO', isLasting: false },
  'one EIO, then a power cut': { among: MUTATING, effect: 'EIO', isLasting: false, cutsAfter: true },
  'one ENOSPC': { among: ALLOCATING, effect: 'ENOSPC', isLasting: false },
  'ENOSPC from then on': { among: ALLOCATING, effect: 'ENOSPC', isLasting: true },
  'EROFS from then on': { among: CHANGING, effect: 'EROFS', isLasting: true },
  'one EMFILE': { among: OPENING, effect: 'EMFILE', isLasting: false },
  'EMFILE from then on': { among: OPENING, effect: 'EMFILE', isLasting: true },
  'a short write': { among: ['write'], effect: 'short', isLasting: false },
  'a power cut': { among: MUTATING, effect: 'cut', isLasting: true },
  'a power cut that some writes survive': { among: MUTATING, effect: 'cut', isLasting: true, isRandom: true },
};

export interface ArmedFault {
  readonly name: FaultName;
  /** The first operation that is hit, counted from 1. */
  readonly at: number;
  /** Only operations on paths that begin so count: "/repo". */
  readonly under: readonly string[];
  /** For what is random. */
  readonly seed: number;
}

export interface Injected {
  /** Operations that failed, or were cut short; 0: the command ended before the first. */
  readonly count: number;
  /** The first: "write /repo/keys/…". */
  readonly first: string | undefined;
  /** How many operations of each kind there were. */
  readonly seen: Readonly<Partial<Record<Operation, number>>>;
}

/** LevelDB maps its tables: what cannot be read of them is SIGBUS, the end of the process that tries it. */
const MAPPED = '.ldb';

export class FaultPlan {
  readonly #armed: ArmedFault;
  readonly #fault: Fault;
  #seen = 0;
  #count = 0;
  #first: string | undefined;
  #isRestDue = false;
  readonly #operations: Partial<Record<Operation, number>> = {};

  constructor(armed: ArmedFault) {
    this.#armed = armed;
    this.#fault = FAULTS[armed.name];
  }

  /** What is to happen to an operation. */
  judge(operation: Operation, path: string): Effect | undefined {
    const { effect, among, isLasting } = this.#fault;
    if (operation === 'read' && path.endsWith(MAPPED)) return undefined;
    if (effect === 'cut' && this.#count > 0) return effect;
    if (this.#isRestDue && operation === 'write') {
      this.#isRestDue = false;
      return 'ENOSPC';
    }
    if (!this.#armed.under.some((one) => path.startsWith(one))) return undefined;
    this.#operations[operation] = (this.#operations[operation] ?? 0) + 1;
    if (!among.includes(operation)) return undefined;
    this.#seen++;
    if (this.#seen < this.#armed.at || (this.#seen > this.#armed.at && !isLasting)) return undefined;
    this.#count++;
    this.#first ??= `${operation} ${path}`;
    this.#isRestDue = effect === 'short';
    return effect;
  }

  /** Whether the power is to be cut now that the command has ended. */
  get cuts(): boolean {
    return this.#fault.effect === 'cut' || this.#fault.cutsAfter === true;
  }

  /** Of what a power cut may lose, what survives: nothing, or each change with a chance of one half. */
  survives(): () => boolean {
    if (this.#fault.isRandom !== true) return () => false;
    let state = this.#armed.seed + this.#armed.at * 7919;
    return () => {
      state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
      return ((state ^ (state >>> 13)) & 64) !== 0;
    };
  }

  get injected(): Injected {
    return { count: this.#count, first: this.#first, seen: this.#operations };
  }
}
