#!/usr/bin/env node
/** The `timeband` program: gives the command line the real terminal, environment and signals. */
import { askLine } from './ask-line.ts';
import { askSecret } from './ask-secret.ts';
import { EXIT } from './exit-codes.ts';
import { run } from './run.ts';

const abort = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => abort.abort()); // a second one ends the process at once

// A reader that went away (timeband sessions | head -1) is no fault, and what serves a mount goes on without readers.
process.stderr.on('error', () => undefined); // there is nobody left to tell
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return;
  process.stderr.write(`timeband: cannot write the output: ${error.message}\n`);
  process.once('exit', (status) => {
    if (status === EXIT.done) process.exitCode = EXIT.failed;
  });
});

const env = { ...process.env };
const SECRETS = ['TIMEBAND_PASSPHRASE', 'TIMEBAND_TO_PASSPHRASE', 'TIMEBAND_RECOVERY_PHRASE'];
for (const name of SECRETS) delete process.env[name]; // no child process is to see them

process.exitCode = await run(process.argv.slice(2), {
  env,
  stdout: process.stdout,
  stderr: process.stderr,
  stdoutColumns: process.stdout.isTTY === true ? process.stdout.columns : undefined,
  isInteractive: process.stderr.isTTY === true,
  signal: abort.signal,
  askSecret,
  askLine: (question) => askLine(question, abort.signal),
});
