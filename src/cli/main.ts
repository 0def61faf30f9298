#!/usr/bin/env node
/** The `timeband` program: gives the command line the real terminal, environment and signals. */
import { askSecret } from './ask-secret.ts';
import { run } from './run.ts';

const abort = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => abort.abort()); // a second one ends the process at once
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  abort.abort(); // the reader of a pipe line went away
});

const env = { ...process.env };
delete process.env['TIMEBAND_PASSPHRASE']; // no child process is to see it

process.exitCode = await run(process.argv.slice(2), {
  env,
  stdout: process.stdout,
  stderr: process.stderr,
  stdoutColumns: process.stdout.isTTY === true ? process.stdout.columns : undefined,
  isInteractive: process.stderr.isTTY === true,
  signal: abort.signal,
  askSecret,
});
