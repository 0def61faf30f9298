/** Loads fuse-native and prints which libfuse the process then has. Run by fuse-native.test.ts where the system's is hidden. */
import { readFileSync } from 'node:fs';
import { loadFuse } from '../../fuse/fuse-native.ts';

loadFuse();
const libraries = readFileSync('/proc/self/maps', 'utf8').matchAll(/\s(\/\S*libfuse\S*)$/gm);
process.stdout.write(JSON.stringify([...new Set([...libraries].map((match) => match[1]))]));
