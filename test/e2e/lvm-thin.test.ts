/** LVM thin volumes: what is read, what is kept, what is told, on a real thin pool in a virtual machine. */
import { testScenarios } from '../support/vm/lvm-machine.ts';

testScenarios('syncs');
