/** Runs in the virtual machine: prints one line of JSON for each scenario, marked, since the kernel talks on the console, too. */
import { runScenarios } from './lvm-scenarios.ts';

await runScenarios(process.argv[2] === 'crashes' ? 'crashes' : 'syncs', (line) => process.stdout.write(`@@@ ${line}\n`));
