/** The page that is printed and put away: a recovery phrase or a key file, and what a stranger does with it. Pure. */
import { PHRASE_WORDS } from '../../bands/format/recovery-phrase.ts';

export interface Paper {
  /** The words of a recovery phrase, or the text of a key file. */
  readonly secret: { readonly kind: 'recovery-phrase'; readonly phrase: string } | { readonly kind: 'key-file'; readonly text: string };
  readonly repositoryId: string;
  /** Where the repository was when this was printed. */
  readonly location: string;
  readonly slotId: string;
  readonly printedMs: number;
}

const COLUMNS = 4;

/** The words of a phrase with their numbers, in columns to be read downwards. */
export function phraseGrid(phrase: string): string {
  return phraseRows(phrase)
    .map((row) => row.map(({ number, word }) => `${String(number).padStart(2)} ${word.padEnd(10)}`).join(' '))
    .map((line) => `  ${line.trimEnd()}`)
    .join('\n');
}

function phraseRows(phrase: string): { readonly number: number; readonly word: string }[][] {
  const words = phrase.split(' ');
  const rows = PHRASE_WORDS / COLUMNS;
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: COLUMNS }, (_, column) => ({ number: column * rows + row + 1, word: words[column * rows + row] ?? '' })),
  );
}

interface Section {
  readonly title: string;
  readonly text: string;
  readonly commands: readonly string[];
}

function facts(paper: Paper): readonly (readonly [string, string])[] {
  return [
    ['Repository', paper.repositoryId],
    ['It was at', paper.location],
    ['Key slot', paper.slotId],
    ['Printed', new Date(paper.printedMs).toISOString()],
  ];
}

function sections({ secret, slotId }: Paper): readonly Section[] {
  const isPhrase = secret.kind === 'recovery-phrase';
  const option = isPhrase ? '--recovery-phrase' : '--key-file KEYFILE';
  const how = isPhrase ? 'It asks for the 24 words.' : 'KEYFILE is a file with the key above in it, as one line.';
  return [
    {
      title: 'To get the data without Timeband',
      text: `On any Linux machine, in the folder of the repository (the file repository.json in it names the repository's id). ${how}`,
      commands: [
        'apt install python3-cryptography zstd',
        `python3 recover.py list ${option}`,
        `python3 recover.py restore ${option} NAME image.raw`,
        'mount -o loop,ro image.raw /mnt',
      ],
    },
    {
      title: 'With Timeband',
      text: 'To read it, or to set a new passphrase when the old one is forgotten:',
      commands: [`timeband --repo FOLDER ${option} volumes`, `timeband --repo FOLDER ${option} key change-passphrase`],
    },
    {
      title: 'If this page is lost or was seen by others',
      text: 'Remove its key slot, with the passphrase. Who kept a copy of the repository and of this page can still read that copy.',
      commands: [`timeband --repo FOLDER key remove ${slotId}`],
    },
  ];
}

const TITLE = 'Timeband recovery page';
const WARNING = 'Whoever has this page and a copy of the repository can read all of it. Keep the page away from the backup.';

/** @returns text that ends with a newline */
export function renderPaperText(paper: Paper): string {
  const { secret } = paper;
  const lines = [TITLE, '='.repeat(TITLE.length), '', WARNING, '', ...facts(paper).map(([name, value]) => `${`${name}:`.padEnd(12)}${value}`), ''];
  lines.push(
    ...(secret.kind === 'recovery-phrase' ? ['Recovery phrase:', '', phraseGrid(secret.phrase)] : ['Key file (one line):', '', `  ${secret.text}`]),
  );
  for (const { title, text, commands } of sections(paper))
    lines.push('', title, '-'.repeat(title.length), '', text, '', ...commands.map((one) => `    ${one}`));
  return `${lines.join('\n')}\n`;
}

const STYLE = `body { font: 12pt/1.5 serif; max-width: 44em; margin: 2em auto; padding: 0 1em; color: #000; background: #fff }
h1 { font-size: 1.5em } h2 { font-size: 1.1em; margin: 1.2em 0 0.2em } p { margin: 0.3em 0 }
table { border-collapse: collapse; margin: 0.6em 0 } td, th { text-align: left; padding: 0.15em 1em 0.15em 0; vertical-align: top }
table.phrase td { font: bold 13pt monospace; border: 1px solid #000; padding: 0.3em 0.8em } table.phrase small { font-weight: normal }
pre { font: 10.5pt monospace; background: #eee; padding: 0.5em; white-space: pre-wrap; overflow-wrap: anywhere }
@media print { body { margin: 0 } pre { background: none; border: 1px solid #999 } }`;

/** @returns a page that needs nothing else: no scripts, no links */
export function renderPaperHtml(paper: Paper): string {
  const { secret } = paper;
  const rows = facts(paper).map(([name, value]) => `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`);
  const body = [
    `<h1>${TITLE}</h1>`,
    `<p>${WARNING}</p>`,
    `<table>${rows.join('')}</table>`,
    secret.kind === 'recovery-phrase' ? phraseTable(secret.phrase) : `<h2>Key file (one line)</h2><pre>${escapeHtml(secret.text)}</pre>`,
    ...sections(paper).map(
      ({ title, text, commands }) => `<h2>${escapeHtml(title)}</h2><p>${escapeHtml(text)}</p><pre>${commands.map(escapeHtml).join('\n')}</pre>`,
    ),
  ];
  return `<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>${TITLE}</title>\n<style>\n${STYLE}\n</style></head>\n<body>\n${body.join('\n')}\n</body>\n</html>\n`;
}

function phraseTable(phrase: string): string {
  const rows = phraseRows(phrase).map(
    (row) => `<tr>${row.map(({ number, word }) => `<td><small>${number}</small> ${escapeHtml(word)}</td>`).join('')}</tr>`,
  );
  return `<h2>Recovery phrase</h2><table class="phrase">${rows.join('')}</table>`;
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
