/**
 * The library: everything that the command line does, for programs.
 *
 *     await using pool = new BandPool();
 *     using repository = await Repository.open('/backup', { passphrase });
 *     await syncVolume(repository, { name: 'work/private', location: '/var/lib/work.img' }, { pool });
 *     const volume = await repository.volume('work/private');
 *     const image = new SessionImage(await volume.openSession(await volume.resolve('latest')), { pool });
 *     await image.read(bytes, offset);
 */
export { type ErrorCode, TimebandError } from '../bands/errors.ts';
export type { ByteRange } from '../bands/format/geometry.ts';
export type { Labels } from '../bands/format/labels.ts';
export type { Manifest, SessionTotals, SourceDescription } from '../bands/format/manifest.ts';
export { parseSessionId } from '../bands/format/session-id.ts';
export { SessionDirectory } from '../bands/store/session-directory.ts';
export { createCursor, type ReadCursor, SessionImage, type SessionImageOptions } from '../bands/store/session-image.ts';
export { BandPool } from '../bands/workers/band-pool.ts';
export { Catalog } from './catalog.ts';
export { type CheckOptions, checkRepository } from './check/check.ts';
export { checkWithoutKey, type KeylessCheckOptions } from './check/check-without-key.ts';
export { type CheckResult, type DamagedSession, damagedSessions, type Finding } from './check/findings.ts';
export { parseSubset, type Subset } from './check/scope.ts';
export { diffSessions, type SessionDiff } from './diff.ts';
export { breakLocks, Lock, type LockHolder } from './locks.ts';
export { type MapRun, mapRuns, mapVolume, type VolumeMap } from './map.ts';
export type { OnProgress, Progress } from './progress.ts';
export { type DamagedVolume, type InitOptions, type OpenOptions, Repository, type Unlock } from './repository.ts';
export { type DamagedRange, type RestoreOptions, type RestoreResult, restoreSession, type StreamOptions, streamSession } from './restore.ts';
export { type InPlaceOptions, type InPlaceResult, restoreInPlace } from './restore-in-place.ts';
export type { TimeZone, UtcOffset } from './retention/calendar.ts';
export { type Duration, parseDuration } from './retention/duration.ts';
export { type MinFreeGoal, type MinFreePlan, type MinFreeSession, planMinFree } from './retention/min-free.ts';
export { applyRetention, type RetentionDecision, type RetentionOptions, type RetentionSession } from './retention/policy.ts';
export { parseCount, type RetentionRules, UNLIMITED } from './retention/rules.ts';
export type { SessionFacts } from './session-facts.ts';
export { type SessionSummary, summarizeSessions } from './sessions.ts';
export { type OpenedSource, openSource, type SourceChoice } from './sources/open-source.ts';
export type { ChangeSet, SessionToken, SourceContext, SourceDriver, SourceKind, SourceOwner, SourceView } from './sources/source.ts';
export type { SourceRequest } from './sync/location.ts';
export { forgetSource, previewSource, type SourceEnvironment, type SourcePreview } from './sync/preview.ts';
export { type SyncEnvironment, type SyncOptions, type SyncResult, syncVolume } from './sync/sync.ts';
export { VERSION } from './version.ts';
export { Volume } from './volume.ts';
