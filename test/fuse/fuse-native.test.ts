import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { loadFuse } from '../../fuse/fuse-native.ts';

const CHILD = fileURLToPath(new URL('./fuse-native-child.js', import.meta.url));
const isSupported = process.platform === 'linux' && process.arch === 'x64';
const supportedTest = isSupported ? test : test.skip;
const rootTest = isSupported && process.getuid?.() === 0 ? test : test.skip;

/** The copies of libfuse 2 that the system's loader would take. */
function systemLibraries(): string[] {
  const cache = execFileSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8' });
  return [...cache.matchAll(/^\s*libfuse\.so\.2 .*=> (\S+)$/gm)].map((match) => match[1] ?? '');
}

supportedTest('fuse-native loads, and a second time gives the same', (t) => {
  t.is(typeof loadFuse(), 'function');
  t.is(loadFuse(), loadFuse());
});

rootTest('fuse-native loads where the system has no libfuse 2, with the copy that its packages ship', (t) => {
  // In a mount namespace of its own the system's copies, if there are any, are files of no bytes.
  const script = 'node=$1; child=$2; shift 2; for file; do mount --bind /dev/null "$file" || exit; done; exec "$node" "$child"';
  const args = ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', process.execPath, CHILD, ...systemLibraries()];
  const libraries: string[] = JSON.parse(execFileSync('unshare', args, { encoding: 'utf8' }));
  t.is(libraries.length, 1);
  t.regex(libraries[0] ?? '', /\/node_modules\/.*\/libfuse\.so$/);
});
