/** LVM thin volumes: syncs that are killed, repositories and snapshots that were tampered with, on a real thin pool in a virtual machine. */
import { testScenarios } from '../support/vm/lvm-machine.ts';

testScenarios('crashes');
