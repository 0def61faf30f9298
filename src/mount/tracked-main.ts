/** The process behind a tracked image. */
import { serveInBackground } from '../background/serve.ts';
import { ControlServer } from '../tracked/control-server.ts';
import { trackedLabel } from '../tracked/mount-label.ts';
import { TrackedImage, type TrackedImageOptions } from '../tracked/tracked-image.ts';
import { type ServedImage, serveImage } from './serve-image.ts';
import type { TreePlace } from './serve-tree.ts';

export type TrackedRequest = TreePlace & TrackedImageOptions;

serveInBackground(async ({ mountPoint, allowOther, ...options }: TrackedRequest, log) =>
  serveImage(await openTracked(options), { mountPoint, allowOther }, log),
);

/** The image, and the socket through which syncs freeze it. */
async function openTracked(options: TrackedImageOptions): Promise<ServedImage> {
  const image = await TrackedImage.open(options);
  try {
    const control = await ControlServer.listen(image);
    const close = async (): Promise<void> => {
      await control.close();
      await image.close();
    };
    return { image, label: trackedLabel(image.folder, image.path), close };
  } catch (error) {
    await image.close();
    throw error;
  }
}
