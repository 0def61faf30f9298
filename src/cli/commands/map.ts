import { utf8 } from '../../../bands/format/bytes.ts';
import { replaceFile } from '../../../bands/store/files.ts';
import { mapRuns, mapVolume, type VolumeMap } from '../../map.ts';
import { splitVolumeAndSession } from '../../session-spec.ts';
import type { CommandContext } from '../context.ts';
import type { Define } from '../define.ts';
import { EXIT } from '../exit-codes.ts';
import { numbersOf } from '../map-cells.ts';
import { renderMapSvg } from '../map-svg.ts';
import { renderMapText } from '../map-text.ts';
import { writeOutput } from '../write-output.ts';

const DEFAULT_COLUMNS = 80;
const MIN_COLUMNS = 40;

export function addMap(define: Define): void {
  define(
    'map <session>',
    'draw a volume: where data is, what NAME[@SESSION] changed, how often each part changes',
    (command) =>
      command.option('--svg <file>', 'write a picture instead of drawing in the terminal').option('--overwrite', 'write over a picture that exists'),
    async (context, [text], options) => {
      const { name, session } = splitVolumeAndSession(String(text));
      const svg = typeof options['svg'] === 'string' ? options['svg'] : undefined;
      await context.withRepository(async (repository) => {
        const volume = await repository.volume(name);
        const map = await mapVolume(volume, await volume.resolve(session));
        if (svg !== undefined) await writePicture(svg, renderMapSvg(map), options['overwrite'] === true);
        for (const { session: id, message } of map.skipped) context.warn(`${name}@${id} is damaged, and not counted: ${message}`);
        if (map.skipped.length > 0) context.exitCode = EXIT.incomplete;
        if (context.options.json === true || svg !== undefined) context.print(`Drew ${name}@${map.session} to ${svg}`, toJson(map, svg));
        else draw(context, map);
      });
    },
  );
}

/** Straight to the stream: colours are control characters, which print() would show as codes. */
function draw({ terminal, options }: CommandContext, map: VolumeMap): void {
  if (options.quiet === true) return;
  const { env, stdoutColumns } = terminal;
  const columns = stdoutColumns ?? (Number(env['COLUMNS']) || DEFAULT_COLUMNS);
  const hasColour = stdoutColumns !== undefined && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';
  terminal.stdout.write(`${renderMapText(map, { columns: Math.max(MIN_COLUMNS, columns), hasColour })}\n`);
}

async function writePicture(file: string, picture: string, isOverwrite: boolean): Promise<void> {
  const bytes = utf8(picture);
  if (isOverwrite) {
    await replaceFile(file, bytes);
    return;
  }
  await writeOutput(file, bytes, 'Name another file, or say --overwrite.');
}

/** The map as --json shows it; the fields stay. */
function toJson(map: VolumeMap, svg: string | undefined): Record<string, unknown> {
  const { dataBands, dataBytes, changedBands, changedBytes, mostChanges } = numbersOf(map);
  return {
    volume: map.volume,
    session: map.session,
    base: map.base ?? null,
    sizeBytes: map.sizeBytes,
    bandBytes: map.bandBytes,
    bands: map.bandCount,
    dataBands,
    dataBytes,
    changedBands,
    changedBytes,
    mostChanges,
    countedSessions: map.sessions,
    skippedSessions: map.skipped,
    runs: mapRuns(map),
    svg: svg ?? null,
  };
}
