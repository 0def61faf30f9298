/** Every decoder of bytes and texts that others may have made. */
import type { FuzzTarget } from '../target.ts';
import { networkTargets } from './network.ts';
import { recordTargets } from './records.ts';
import { sealedTargets } from './sealed.ts';
import { textTargets } from './texts.ts';

export const ALL_TARGETS: readonly FuzzTarget[] = [...recordTargets, ...sealedTargets, ...networkTargets, ...textTargets];
