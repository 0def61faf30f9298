/**
 * A FUSE file system of one file whose reads are answered at once, with nothing done for them: what fuse-native and the
 * kernel take of every read. Argument: the mount point. It serves until it is ended.
 */
import { serveBare } from './bare-fuse.ts';

serveBare(process.argv[2] ?? '', {
  sizeBytes: 16 * 1024 ** 3,
  operations: { read: (_path, _fd, _buffer, length, _position, reply) => reply(length) },
});
