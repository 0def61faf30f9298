/** Addresses of NBD exports. */
import path from 'node:path';
import test from 'ava';
import { formatNbdAddress, parseNbdAddress } from '../../../src/nbd/nbd-address.ts';
import { codeOf } from '../../support/library.ts';

test('addresses name a socket or a host, an export, and parameters', (t) => {
  t.deepEqual(parseNbdAddress('nbd+unix:///vda?socket=/run/x%20y.sock&bitmap=b%26c', ['bitmap']), {
    endpoint: { socket: '/run/x y.sock' },
    exportName: 'vda',
    parameters: new Map([['bitmap', 'b&c']]),
  });
  t.deepEqual(parseNbdAddress('nbd+unix:///?socket=a/b').endpoint, { socket: path.resolve('a/b') }, 'a relative path is made absolute');
  t.deepEqual(parseNbdAddress('nbd://backup.example:99/a/b%3F').endpoint, { host: 'backup.example', port: 99 });
  t.is(parseNbdAddress('nbd://backup.example:99/a/b%3F').exportName, 'a/b?');
  t.deepEqual(parseNbdAddress('nbd://[fe80::1]/x').endpoint, { host: 'fe80::1', port: 10_809 });
  t.deepEqual(parseNbdAddress('nbd://localhost'), { endpoint: { host: 'localhost', port: 10_809 }, exportName: '', parameters: new Map() });
});

test('a formatted address parses to the same', (t) => {
  for (const text of [
    'nbd+unix:///vda?socket=/run/x%20y,z.sock&bitmap=a%3Db%26c',
    'nbd://[::1]:7/%C3%A4%3F%23',
    'nbd://h:10809/',
    'nbd+unix:///?socket=/s',
  ]) {
    const address = parseNbdAddress(text, ['bitmap']);
    t.deepEqual(parseNbdAddress(formatNbdAddress(address), ['bitmap']), address);
  }
});

test('what is no address is wrong usage', async (t) => {
  for (const text of [
    'nbd:/x',
    'nbd://',
    'nbd://h:0/x',
    'nbd://h:99999/x',
    'nbd://user@h/x',
    'nbd://h/x?socket=/s',
    'nbd+unix:///x',
    'nbd+unix:///x?socket=',
    'nbd+unix://h/x?socket=/s',
    'nbd+unix:///x?socket=/s&socket=/t',
    'nbd+unix:///x?socket=/s&bitmpa=b',
    'nbd+unix:///%zz?socket=/s',
    'nbd+unix:///x?socket',
    'nbd://h/x#part',
  ])
    t.is(await codeOf(() => parseNbdAddress(text, ['bitmap'])), 'USAGE', text);
});
