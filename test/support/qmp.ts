/** A monitor connection to QEMU (QMP), and a disk in use behind it that is backed up as libvirt does. */
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { makeQcow2, serve } from './qemu.ts';
import { sh, type Workspace } from './workspace.ts';

type Json = Readonly<Record<string, unknown>>;

class Monitor {
  readonly #socket: Socket;
  readonly #answers: ((line: Json) => void)[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    createInterface(socket).on('line', (line) => {
      const message: Json = JSON.parse(line);
      if ('return' in message || 'error' in message) this.#answers.shift()?.(message);
    });
  }

  static async connect(path: string): Promise<Monitor> {
    const socket = connect(path);
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    const monitor = new Monitor(socket);
    await monitor.run('qmp_capabilities');
    return monitor;
  }

  async run(execute: string, args: Json = {}): Promise<unknown> {
    const answer = await new Promise<Json>((resolve) => {
      this.#answers.push(resolve);
      this.#socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    });
    if ('return' in answer) return answer['return'];
    throw new Error(`${execute}: ${JSON.stringify(answer)}`);
  }

  async untilEmpty(query: string): Promise<void> {
    while (((await this.run(query)) as unknown[]).length > (query === 'query-block-exports' ? 1 : 0)) await sleep(5);
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** A qcow2 disk that a storage daemon holds open, with a guest that writes through its own export. */
export class LiveDisk {
  readonly socket: string;
  readonly #at: Workspace;
  readonly #monitor: Monitor;
  readonly #sizeBytes: number;
  #checkpoint = 0;

  private constructor(at: Workspace, parts: { socket: string; monitor: Monitor; sizeBytes: number }) {
    this.#at = at;
    this.socket = parts.socket;
    this.#monitor = parts.monitor;
    this.#sizeBytes = parts.sizeBytes;
  }

  static async start(t: ExecutionContext, at: Workspace, image: string, sizeBytes: number): Promise<LiveDisk> {
    makeQcow2(image, sizeBytes);
    const [qmp, socket] = [at.at('qmp'), at.at('nbd')];
    const disk = ['--blockdev', `driver=file,node-name=f,filename=${image}`, '--blockdev', 'driver=qcow2,node-name=disk,file=f,discard=unmap'];
    const server = ['--nbd-server', `addr.type=unix,addr.path=${socket},max-connections=9`];
    const guest = ['--export', 'type=nbd,id=guest,node-name=disk,name=guest,writable=on'];
    const monitor = ['--chardev', `socket,path=${qmp},server=on,wait=off,id=c`, '--monitor', 'chardev=c'];
    await serve(t, socket, 'qemu-storage-daemon', ...monitor, ...disk, ...server, ...guest);
    const connected = await Monitor.connect(qmp);
    t.teardown(() => connected.close());
    return new LiveDisk(at, { socket, monitor: connected, sizeBytes });
  }

  /** What the guest does, as commands of qemu-io. */
  write(...commands: string[]): void {
    sh('qemu-io', '-f', 'raw', '-d', 'unmap', ...commands.flatMap((command) => ['-c', command]), `nbd+unix:///guest?socket=${this.socket}`);
  }

  /** Freezes the disk and exports it as "pull", with the changes since the last time as the bitmap "backup", while `use` runs. */
  async withBackup<T>(use: () => Promise<T>): Promise<T> {
    const run = (execute: string, args: Json): Promise<unknown> => this.#monitor.run(execute, args);
    const [old, next] = [`cp${this.#checkpoint}`, `cp${this.#checkpoint + 1}`];
    const hasOld = this.#checkpoint > 0;
    this.#checkpoint++;
    const scratch = this.#at.at(`scratch-${this.#checkpoint}`);
    makeQcow2(scratch, this.#sizeBytes);
    await run('blockdev-add', { 'node-name': 'fleece', driver: 'qcow2', file: { driver: 'file', filename: scratch }, backing: 'disk' });
    const onDisk = (type: string, data: Json): Json => ({ type, data: { node: 'disk', ...data } });
    const actions = [
      onDisk('block-dirty-bitmap-add', { name: next, persistent: true }),
      ...(hasOld
        ? [
            onDisk('block-dirty-bitmap-add', { name: 'backup', disabled: true }),
            { type: 'block-dirty-bitmap-merge', data: { node: 'disk', target: 'backup', bitmaps: [old] } },
            onDisk('block-dirty-bitmap-disable', { name: old }),
          ]
        : []),
      { type: 'blockdev-backup', data: { 'job-id': 'job', device: 'disk', target: 'fleece', sync: 'none' } },
    ];
    await run('transaction', { actions });
    const bitmaps = hasOld ? [{ node: 'disk', name: 'backup' }] : [];
    await run('block-export-add', { type: 'nbd', id: 'pull', 'node-name': 'fleece', name: 'pull', bitmaps });
    try {
      return await use();
    } finally {
      await run('block-export-del', { id: 'pull', mode: 'hard' });
      await this.#monitor.untilEmpty('query-block-exports');
      await run('job-cancel', { id: 'job' });
      await this.#monitor.untilEmpty('query-jobs');
      await run('blockdev-del', { 'node-name': 'fleece' });
      for (const name of hasOld ? ['backup', old] : []) await run('block-dirty-bitmap-remove', { node: 'disk', name });
    }
  }
}
