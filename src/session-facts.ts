/** What lists show of a session, and how the catalog keeps it: so that a list of many sessions opens none. */
import { type JsonCodec, jsonCodec } from '../bands/format/json-record.ts';
import type { Manifest } from '../bands/format/manifest.ts';
import type { SessionSizes } from './deletion/sizes.ts';

/** A manifest without the digests of the session's parts. */
export type SessionFacts = Pick<Manifest, 'sizeBytes' | 'bandBytes' | 'startedMs' | 'source' | 'totals'> & {
  readonly base: { readonly sessionId: string } | undefined;
};

/** As the catalog keeps it. */
export interface KeptFacts {
  /** The manifest file that it was read from: inode, size, time. */
  readonly stamp: string;
  readonly facts: SessionFacts;
  /** What it takes, and beside which sessions; undefined: not computed yet. */
  readonly sizes: { readonly neighbours: string; readonly of: SessionSizes } | undefined;
}

export const keptFactsCodec: JsonCodec<KeptFacts> = jsonCodec('session in the catalog', {
  toJson: ({ stamp, facts, sizes }) => ({
    stamp,
    sizeBytes: facts.sizeBytes,
    bandBytes: facts.bandBytes,
    startedMs: facts.startedMs,
    base: facts.base?.sessionId ?? '',
    source: { kind: facts.source.kind, location: facts.source.location, host: facts.source.host },
    totals: {
      bands: facts.totals.bands,
      zeroBands: facts.totals.zeroBands,
      changedBands: facts.totals.changedBands,
      storedBytes: facts.totals.storedBytes,
      writtenBytes: facts.totals.writtenBytes,
    },
    sizes: sizes === undefined ? null : { neighbours: sizes.neighbours, addedBytes: sizes.of.addedBytes, freedBytes: sizes.of.freedBytes },
  }),
  fromJson(fields) {
    const [source, totals, base] = [fields.object('source'), fields.object('totals'), fields.string('base')];
    return {
      stamp: fields.string('stamp'),
      facts: {
        sizeBytes: fields.integer('sizeBytes'),
        bandBytes: fields.integer('bandBytes'),
        startedMs: fields.integer('startedMs'),
        base: base === '' ? undefined : { sessionId: base },
        source: { kind: source.string('kind'), location: source.string('location'), host: source.string('host') },
        totals: {
          bands: totals.integer('bands'),
          zeroBands: totals.integer('zeroBands'),
          changedBands: totals.integer('changedBands'),
          storedBytes: totals.integer('storedBytes'),
          writtenBytes: totals.integer('writtenBytes'),
        },
      },
      sizes: fields.optional('sizes', (sizes) => ({
        neighbours: sizes.string('neighbours'),
        of: { addedBytes: sizes.integer('addedBytes'), freedBytes: sizes.integer('freedBytes') },
      })),
    };
  },
});
