/** What a server offers under one name, and how clients are told of it. */
import { isWritable, type ReadableImage, type WritableImage } from '../../../bands/store/image.ts';
import { EXPORT_FLAG } from '../protocol.ts';

export interface ServedExport {
  readonly name: string;
  readonly description: string;
  readonly image: ReadableImage | WritableImage;
}

/** Several connections see the same image, and a flush of one makes durable what all have written: hence multi-conn. */
export function exportFlags({ image }: ServedExport, isStructured: boolean): number {
  const common = EXPORT_FLAG.hasFlags | EXPORT_FLAG.flush | EXPORT_FLAG.multiConn | EXPORT_FLAG.cache | (isStructured ? EXPORT_FLAG.df : 0);
  if (!isWritable(image)) return common | EXPORT_FLAG.readOnly;
  return common | EXPORT_FLAG.fua | (image.zero === undefined ? 0 : EXPORT_FLAG.trim | EXPORT_FLAG.writeZeroes);
}

/** The export of that name; the empty name is that of the only one. */
export function findExport(exports: readonly ServedExport[], name: string): ServedExport | undefined {
  return name === '' && exports.length === 1 ? exports[0] : exports.find((one) => one.name === name);
}
