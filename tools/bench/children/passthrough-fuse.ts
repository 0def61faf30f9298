/**
 * A FUSE file system of one file that hands every request on to another file, and does nothing else: what fuse-native and the
 * kernel take of every write. Arguments: the mount point, the file. It serves until it is ended.
 */
import { fdatasync, fstatSync, openSync, read, write } from 'node:fs';
import { serveBare } from './bare-fuse.ts';

const EIO = -5;
const [directory = '', file = ''] = process.argv.slice(2);
const fd = openSync(file, 'r+');

serveBare(directory, {
  sizeBytes: fstatSync(fd).size,
  operations: {
    read: (_path, _fd, buffer, length, position, reply) =>
      read(fd, buffer, 0, length, position, (error, bytesRead) => reply(error === null ? bytesRead : EIO)),
    write: (_path, _fd, buffer, length, position, reply) =>
      write(fd, buffer, 0, length, position, (error, bytesWritten) => reply(error === null ? bytesWritten : EIO)),
    fsync: (_path, _isDataOnly, _fd, reply) => fdatasync(fd, (error) => reply(error === null ? 0 : EIO)),
  },
});
