/**
 * A process that syncs and kills itself (SIGKILL) at a chosen point: node dying-sync.js REPO NAME LOCATION STATE POINT.
 * Without POINT it goes to the end.
 */
import { BandPool } from '../../bands/workers/band-pool.ts';
import { Repository } from '../../src/repository.ts';
import { openSource } from '../../src/sources/open-source.ts';
import type { SourceView } from '../../src/sources/source.ts';
import { syncVolume } from '../../src/sync/sync.ts';
import { BAND_256K } from './library.ts';
import { PASSPHRASE } from './workspace.ts';

/** Moments of a sync as its source sees them. */
export const DYING_POINTS = ['opened', 'compared', 'reading', 'read', 'bound', 'committed', 'dropped', 'closed'] as const;
type Point = (typeof DYING_POINTS)[number];

function dieAt(view: SourceView, point: string | undefined): SourceView {
  const reach = (here: Point): void => {
    if (here === point) process.kill(process.pid, 'SIGKILL');
  };
  reach('opened');
  const after =
    <Args extends readonly unknown[], T>(here: Point, work: (...args: Args) => Promise<T>) =>
    async (...args: Args): Promise<T> => {
      const result = await work(...args);
      reach(here);
      return result;
    };
  return {
    kind: view.kind,
    location: view.location,
    sizeBytes: view.sizeBytes,
    warnings: view.warnings,
    readDataMap: () => view.readDataMap(),
    changesSince: after('compared', (base) => view.changesSince(base)),
    withBand: (range, data, use) =>
      view.withBand(range, data, (input) => {
        reach('reading');
        return use(input);
      }),
    verifyStable: after('read', () => view.verifyStable()),
    bind: after('bound', (token) => view.bind(token)),
    committed(token) {
      reach('committed');
      return after('dropped', () => view.committed(token))();
    },
    close: after('closed', () => view.close()),
  };
}

if (process.argv[1]?.endsWith('dying-sync.js') === true) {
  const [root = '', name = '', location = '', stateDirectory, point] = process.argv.slice(2);
  await using pool = new BandPool(2);
  using repository = await Repository.open(root, { passphrase: PASSPHRASE });
  const open: typeof openSource = async (...args) => {
    const { view, warning } = await openSource(...args);
    return { view: dieAt(view, point), warning };
  };
  await syncVolume(repository, { name, location, bandBytes: BAND_256K }, { pool, stateDirectory, openSource: open });
}
