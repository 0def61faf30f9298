/** Picks the source for what a location is. */
import { openImageSource } from './image-source.ts';
import type { SourceView } from './source.ts';

/** @throws TimebandError SOURCE_NOT_FOUND, SOURCE_INVALID, PERMISSION_DENIED */
export async function openSource(location: string): Promise<SourceView> {
  return await openImageSource(location);
}
