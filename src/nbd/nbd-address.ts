/** Where an NBD export is: `nbd://HOST[:PORT]/EXPORT` and `nbd+unix:///EXPORT?socket=PATH`, as the NBD URI specification has them. */
import path from 'node:path';
import { TimebandError } from '../../bands/errors.ts';

const DEFAULT_PORT = 10_809;
/** sun_path of a Unix socket, without its closing zero. */
export const MAX_SOCKET_PATH_BYTES = 107;

export type NbdEndpoint = { readonly socket: string } | { readonly host: string; readonly port: number };

export interface NbdAddress {
  readonly endpoint: NbdEndpoint;
  readonly exportName: string;
  /** What else stood behind the "?". */
  readonly parameters: ReadonlyMap<string, string>;
}

/** The endpoint for messages. */
export function describeEndpoint(endpoint: NbdEndpoint): string {
  return 'socket' in endpoint ? endpoint.socket : `${endpoint.host}:${endpoint.port}`;
}

/**
 * Parses an address; parameters other than `socket` are those in `allowed`. A socket's path is made absolute.
 * @throws TimebandError USAGE
 */
export function parseNbdAddress(text: string, allowed: readonly string[] = []): NbdAddress {
  const match = /^(nbd|nbd\+unix):\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text);
  if (match === null) throw wrongAddress(text, 'it is neither nbd://HOST[:PORT]/EXPORT nor nbd+unix:///EXPORT?socket=PATH');
  const [, scheme, authority = '', name = '', query = ''] = match;
  const parameters = parseQuery(text, query);
  const unknown = [...parameters.keys()].find((key) => key !== 'socket' && !allowed.includes(key));
  if (unknown !== undefined) throw wrongAddress(text, `it has no parameter "${unknown}"${allowed.length > 0 ? `, only ${allowed.join(', ')}` : ''}`);
  const socket = parameters.get('socket');
  parameters.delete('socket');
  const exportName = decode(text, name);
  if (scheme === 'nbd') {
    if (socket !== undefined) throw wrongAddress(text, 'socket= belongs to nbd+unix://');
    return { endpoint: parseAuthority(text, authority), exportName, parameters };
  }
  if (authority !== '') throw wrongAddress(text, 'a Unix socket has no host: write nbd+unix:///EXPORT?socket=PATH');
  if (socket === undefined || socket === '') throw wrongAddress(text, 'it lacks socket=PATH');
  return { endpoint: { socket: path.resolve(socket) }, exportName, parameters };
}

/** The text of an address, which parses to the same. */
export function formatNbdAddress({ endpoint, exportName, parameters }: NbdAddress): string {
  const isUnix = 'socket' in endpoint;
  const query = [...(isUnix ? [['socket', endpoint.socket] as const] : []), ...parameters];
  const host = isUnix ? '' : `${endpoint.host.includes(':') ? `[${endpoint.host}]` : endpoint.host}:${endpoint.port}`;
  const tail = query.map(([key, value]) => `${key}=${encode(value)}`).join('&');
  return `${isUnix ? 'nbd+unix' : 'nbd'}://${host}/${encode(exportName)}${tail === '' ? '' : `?${tail}`}`;
}

/** As encodeURIComponent, but paths stay readable. */
function encode(text: string): string {
  return encodeURIComponent(text).replaceAll('%2F', '/').replaceAll('%3A', ':');
}

function decode(address: string, text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw wrongAddress(address, `"${text}" is not percent-encoded as URIs are`);
  }
}

function parseQuery(address: string, query: string): Map<string, string> {
  const parameters = new Map<string, string>();
  for (const part of query === '' ? [] : query.split('&')) {
    const at = part.indexOf('=');
    const key = at < 0 ? part : part.slice(0, at);
    if (at < 0 || parameters.has(key)) throw wrongAddress(address, `"${part}" is not one NAME=VALUE for each name`);
    parameters.set(key, decode(address, part.slice(at + 1)));
  }
  return parameters;
}

function parseAuthority(address: string, authority: string): NbdEndpoint {
  const match = /^(?:\[([0-9A-Fa-f:.%]+)\]|([^:@[\]]+))(?::(\d{1,5}))?$/.exec(authority);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? DEFAULT_PORT : Number(match[3]);
  if (host === undefined || port < 1 || port > 65_535) throw wrongAddress(address, `"${authority}" is not HOST or HOST:PORT`);
  return { host, port };
}

function wrongAddress(text: string, why: string): TimebandError {
  return new TimebandError(`"${text}" is no NBD address: ${why}.`, { code: 'USAGE' });
}
