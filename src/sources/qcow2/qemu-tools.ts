/** Running QEMU's tools: never through a shell, apart from our terminal's Ctrl-C, with file names that cannot be taken for anything else. */
import { spawn } from 'node:child_process';
import { errnoOf, TimebandError } from '../../../bands/errors.ts';

const MAX_OUTPUT_BYTES = 67_108_864;

/** The environment of the tools: messages that we can recognise. */
export function toolEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C' };
}

/** A qcow2 image as QEMU's `--image-opts` name it: no part of the path is a protocol, an option or JSON. */
export function imageOptions(path: string, isDevice: boolean): string {
  return `driver=qcow2,file.driver=${isDevice ? 'host_device' : 'file'},file.filename=${path.replaceAll(',', ',,')}`;
}

/**
 * Runs one of QEMU's tools; the image is what errors are about. In a session of its own: a Ctrl-C must not stop it halfway
 * through a change of the image.
 * @throws TimebandError TOOL_MISSING, TOOL_FAILED, LOCKED, PERMISSION_DENIED, SOURCE_INVALID
 */
export async function runQemuTool(tool: 'qemu-img' | 'qemu-io', args: readonly string[], image: string): Promise<string> {
  const child = spawn(tool, args, { env: toolEnvironment(), detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const texts = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    texts.out += text;
    if (texts.out.length > MAX_OUTPUT_BYTES) child.kill('SIGKILL');
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    texts.err = (texts.err + text).slice(-4096);
  });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', (cause) => reject(notStarted(tool, cause)));
    child.once('close', resolve);
  });
  if (status === 0) return texts.out;
  throw toolError(tool, texts.err, image);
}

export function notStarted(tool: string, cause: unknown): TimebandError {
  if (errnoOf(cause) === 'ENOENT')
    return new TimebandError(`${tool} is not installed, which qcow2 images are read with. Install it (Debian: apt-get install qemu-utils).`, {
      code: 'TOOL_MISSING',
      cause,
    });
  return new TimebandError(`${tool} could not be started: ${String(cause)}`, { code: 'TOOL_FAILED', cause });
}

/** What a tool's message means for the user. */
export function toolError(tool: string, stderr: string, image: string): TimebandError {
  const said = stderr.trim().replaceAll(/\s*\n\s*/g, ' ');
  if (/Failed to get .*lock/i.test(said)) {
    return new TimebandError(
      `${image} is in use by another process, perhaps a running VM (${said}). Stop it and try again; or back up the disk while the VM runs: ` +
        'have it exported (virsh backup-begin, or blockdev-backup and nbd-server-start) and sync nbd+unix:///EXPORT?socket=PATH.',
      { code: 'LOCKED', path: image },
    );
  }
  const code = /Permission denied/i.test(said) ? 'PERMISSION_DENIED' : /not in qcow2 format/i.test(said) ? 'SOURCE_INVALID' : 'TOOL_FAILED';
  return new TimebandError(`${tool} failed on ${image}: ${said === '' ? 'it said nothing' : said}`, { code, path: image });
}
