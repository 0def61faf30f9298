/**
 * The file systems' own checkers, run so that they write nothing, and what their statuses mean. A file system that was in use
 * when its disk was read has a journal (a log) that says what is not in its place yet: its checker cannot replay that on a
 * read-only device, and then takes for errors what the next mount puts right. So such errors prove nothing.
 */
import { runToEnd } from './tools.ts';

/** `unclear`: errors that the journal may account for, or no result; `skipped`: nobody looked at it; `nothing`: nothing to look at. */
export type FileSystemVerdict = 'clean' | 'damaged' | 'unclear' | 'skipped' | 'nothing';

export interface FileSystemCheck {
  readonly verdict: FileSystemVerdict;
  /** For the user: why. */
  readonly message: string;
  /** The checker that ran, its exit status and what it said. */
  readonly tool: string | undefined;
  readonly status: number | undefined;
  readonly output: string;
}

interface Checker {
  readonly tool: string;
  readonly args: readonly string[];
  /** Debian's. */
  readonly packageName: string;
  /** Whether the status means that errors were found; any other but 0 means no result. */
  readonly hasErrors: (status: number) => boolean;
  /** What it says when it passes over a journal. */
  readonly openJournal?: RegExp;
}

const E2FSCK: Checker = {
  tool: 'e2fsck',
  args: ['-f', '-n'],
  packageName: 'e2fsprogs',
  hasErrors: (status) => (status & 4) !== 0,
  openJournal: /skipping journal recovery/,
};
const isOne = (status: number): boolean => status === 1;

const CHECKERS: Readonly<Record<string, Checker>> = {
  ext2: E2FSCK,
  ext3: E2FSCK,
  ext4: E2FSCK,
  xfs: { tool: 'xfs_repair', args: ['-n'], packageName: 'xfsprogs', hasErrors: isOne, openJournal: /valuable metadata changes in a log/ },
  btrfs: { tool: 'btrfs', args: ['check', '--readonly'], packageName: 'btrfs-progs', hasErrors: isOne },
  vfat: { tool: 'fsck.fat', args: ['-n'], packageName: 'dosfstools', hasErrors: isOne, openJournal: /dirty bit is set/i },
  exfat: { tool: 'fsck.exfat', args: ['-n'], packageName: 'exfatprogs', hasErrors: isOne },
  ntfs: { tool: 'ntfsfix', args: ['--no-action'], packageName: 'ntfs-3g', hasErrors: isOne },
};

/** Types of partitions that hold no file system: extended, swap, BIOS boot, Microsoft reserved. As partx writes them. */
const NO_FILE_SYSTEM: ReadonlySet<string> = new Set([
  '0x5',
  '0xf',
  '0x85',
  '0x82',
  '0657fd6d-a4ab-43c4-84e5-0933c84b4f4f',
  '21686148-6449-6e6f-744e-656564454649',
  'e3c9e316-0b5c-4db8-817d-f92df00215ae',
]);

/**
 * Checks what is on a device. Nothing on it is changed.
 * @param type as blkid names it; undefined: it knows none @param partitionType as partx writes it
 * @throws TimebandError INTERRUPTED, TOOL_FAILED
 */
export async function checkFileSystem(
  device: string,
  {
    type,
    partitionType,
    signal,
  }: { readonly type: string | undefined; readonly partitionType: string | undefined; readonly signal?: AbortSignal | undefined },
): Promise<FileSystemCheck> {
  if (type === 'swap') return without('nothing', 'swap space: nothing to check');
  if (type === undefined && partitionType !== undefined && NO_FILE_SYSTEM.has(partitionType.toLowerCase()))
    return without('nothing', 'a partition of a kind that holds no file system');
  if (type === undefined) return without('skipped', 'no file system that blkid knows is on it (none was made, or its beginning is damaged)');
  const checker = CHECKERS[type];
  if (checker === undefined) return without('skipped', `${type}: what it holds cannot be checked from outside`);
  const { tool, args, packageName } = checker;
  const ended = await runToEnd(tool, [...args, device], signal);
  if (ended === undefined) return without('skipped', `the program "${tool}" is not installed (Debian: apt-get install ${packageName})`);
  return { ...judge(checker, ended.status, ended.output), tool, ...ended };
}

function without(verdict: FileSystemVerdict, message: string): FileSystemCheck {
  return { verdict, message, tool: undefined, status: undefined, output: '' };
}

/** Pure. */
function judge({ tool, hasErrors, openJournal }: Checker, status: number, output: string): Pick<FileSystemCheck, 'verdict' | 'message'> {
  const hasOpenJournal = openJournal?.test(output) === true;
  if (status === 0)
    return { verdict: 'clean', message: `${tool} found no errors${hasOpenJournal ? ' (it was in use: its journal was passed over)' : ''}` };
  if (!hasErrors(status)) return { verdict: 'unclear', message: `${tool} came to no result (status ${status})` };
  if (!hasOpenJournal) return { verdict: 'damaged', message: `${tool} found errors (status ${status})` };
  return {
    verdict: 'unclear',
    message: `it was in use, and its journal was not replayed: what ${tool} found (status ${status}) may be no more than that. To know, restore the session, mount the copy once, and check that`,
  };
}
