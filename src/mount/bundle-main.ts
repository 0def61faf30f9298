/** The process behind a live bundle. */
import { serveInBackground } from '../background/serve.ts';
import { LiveBundle } from '../bundle/live-bundle.ts';
import { serveImage } from './serve-image.ts';
import type { TreePlace } from './serve-tree.ts';

export interface BundleRequest extends TreePlace {
  readonly location: string;
}

serveInBackground(async ({ location, ...request }: BundleRequest, log) => {
  const bundle = await LiveBundle.open(location);
  for (const warning of bundle.warnings) log(warning);
  return await serveImage({ image: bundle, label: `timeband-bundle:${bundle.path}`, close: () => bundle.close() }, request, log);
});
