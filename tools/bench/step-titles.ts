/** How the table names the steps that are compared. */

export const STEP = {
  first: 'first backup',
  touched: 'touched, unchanged',
  incremental: 'incremental',
  restore: 'restore',
  visible: 'mount: visible',
  sequential: 'mount: sequential read',
  random: 'mount: random 4 KiB reads',
  loop: 'mount: loop mount + find',
  readInOrder: 'session: read in order',
  readAgain: 'session: read again, from the page cache',
  readLoop: 'session: read in order through a loop device',
  readRandomly: 'session: random 4 KiB, cold chunks',
  readRandomlyByMany: 'session: random 4 KiB, cold chunks, 8 readers',
  opened: 'open a session of many bands, cold',
  openedAgain: 'open a session of many bands',
  findFiles: 'find in an opened session of many files',
  nbd: 'NBD: copy to nowhere',
  verify: 'verify all data',
  linked: 'ten bands changed',
  reflink: 'incremental, on XFS',
  writtenInOrder: 'write in order, then fsync',
  writtenRandomly: 'write random 4 KiB, fsync every 32',
  look: 'what changed, on XFS',
  unchangedLarge: 'nothing changed, on XFS',
  delete: 'delete the oldest of three',
  listWarm: 'list sessions: warm',
  listKernelCold: 'list sessions: cold',
  listCold: 'list sessions: cold, no catalog',
} as const;

/** The row of an NBD server that keeps the image in memory. */
export const NBDKIT = 'nbdkit memory';

/** The file system that answers every read at once, with nothing. */
export const NULL_FUSE = 'fuse-native, null';

/** The plain image file, by a loop device. */
export const PLAIN_LOOP = 'plain image by loop';

/** Behind a tool's name: the time until its files are durable is counted, too. */
export const WITH_SYNC = ' + sync -f';

/** The file system that only hands on, which a tracked image is held against. */
export const PASSTHROUGH = 'fuse-native passthrough';

/** The row of a live bundle. */
export const BUNDLE = 'timeband, bundle';

/** The row of a sync that is told what changed. */
export const TOLD = 'timeband, told';
