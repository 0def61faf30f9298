/** repository.json: what a repository is, readable without any key. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { nodePrimitives } from '../bands/crypto/node-primitives.ts';
import { errnoOf, ioError, messageOf, TimebandError } from '../bands/errors.ts';
import { type RepositoryConfig, repositoryConfigCodec } from '../bands/format/repository-config.ts';
import { readRegularFile } from '../bands/store/files.ts';
import type { RepositoryLayout } from './layout.ts';

const MAX_CONFIG_BYTES = 65_536;

export interface ReadConfig {
  readonly config: RepositoryConfig;
  /** SHA-256 of the file. */
  readonly digest: Uint8Array;
}

/** Reads repository.json without any key. @throws TimebandError REPOSITORY_NOT_FOUND, REPOSITORY_VERSION, REPOSITORY_CORRUPT */
export async function readConfig(layout: RepositoryLayout): Promise<ReadConfig> {
  let bytes: Uint8Array;
  try {
    await (await open(layout.root, constants.O_RDONLY | constants.O_DIRECTORY)).close();
    bytes = await readRegularFile(layout.config, { maxBytes: MAX_CONFIG_BYTES, what: 'repository.json' });
  } catch (cause) {
    if (errnoOf(cause) !== 'ENOENT' && errnoOf(cause) !== 'ENOTDIR' && !(cause instanceof TimebandError && cause.code === 'RECORD_MISSING'))
      throw ioError(cause, 'open the repository', layout.root);
    throw new TimebandError(
      `no Timeband repository at ${layout.root}. Make one with "timeband init", or name another with --repo or TIMEBAND_REPO.`,
      {
        code: 'REPOSITORY_NOT_FOUND',
        cause,
        path: layout.root,
      },
    );
  }
  try {
    return { config: repositoryConfigCodec.decode(bytes), digest: nodePrimitives.sha256(bytes) };
  } catch (cause) {
    throw configError(bytes, layout.config, cause);
  }
}

function configError(bytes: Uint8Array, file: string, cause: unknown): TimebandError {
  const version = /"format": "timeband-repository",\s+"version": (\d+)/.exec(new TextDecoder().decode(bytes))?.[1];
  if (version !== undefined && Number(version) > 1) {
    return new TimebandError(`${file}: the repository has format version ${version}; this program knows version 1. Use a newer Timeband.`, {
      code: 'REPOSITORY_VERSION',
      cause,
      path: file,
    });
  }
  return new TimebandError(`${file} is damaged: ${messageOf(cause)}. Put it back from a copy; it never changes after init.`, {
    code: 'REPOSITORY_CORRUPT',
    cause,
    path: file,
  });
}
