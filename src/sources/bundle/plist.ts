/**
 * Apple's property lists in XML, as far as a sparse bundle's Info.plist needs them: one dictionary of keys and values.
 * Strict: what is not understood is an error, never passed over. No entities but XML's own five and numbers, no
 * external subsets, so a hostile file can neither grow nor reach out. Pure.
 */
import { TimebandError } from '../../../bands/errors.ts';

export type PlistValue = string | number | boolean | readonly PlistValue[] | PlistDict;
export interface PlistDict {
  readonly [key: string]: PlistValue;
}

/** Dictionaries within dictionaries deeper than this are no Info.plist. */
const MAX_DEPTH = 16;
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/** Parses the text of a property list whose root is a dictionary. @throws TimebandError SOURCE_INVALID */
export function parsePlist(text: string): PlistDict {
  const reader = new Reader(text.replace(/^\uFEFF/, ''));
  reader.skipProlog();
  reader.expect(/<plist(?:\s+version\s*=\s*(?:"1\.0"|'1\.0'))?\s*>/y, '<plist>');
  const root = reader.value(0);
  reader.expect(/<\/plist\s*>/y, '</plist>');
  reader.expect(/$/y, 'the end');
  if (typeof root !== 'object' || Array.isArray(root)) throw malformed('its root is no dictionary');
  return root as PlistDict;
}

function malformed(what: string): TimebandError {
  return new TimebandError(`not a property list in XML: ${what}`, { code: 'SOURCE_INVALID' });
}

/** The text of a property list of strings and whole numbers, as Apple's software writes it; keys as they come. */
export function encodePlist(dict: Readonly<Record<string, string | number>>): string {
  const lines = Object.entries(dict).flatMap(([key, value]) => [
    `\t<key>${escapeText(key)}</key>`,
    typeof value === 'number' ? `\t<integer>${value}</integer>` : `\t<string>${escapeText(value)}</string>`,
  ]);
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
${lines.join('\n')}
</dict>
</plist>
`;
}

function escapeText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** What `pattern` (sticky) matches here, after white space and comments; undefined if it does not. */
  #take(pattern: RegExp): RegExpExecArray | undefined {
    this.#skip(/(?:\s|<!--(?:(?!--)[\s\S])*-->)*/y);
    return this.#skip(pattern);
  }

  #skip(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return match;
  }

  expect(pattern: RegExp, what: string): RegExpExecArray {
    const match = this.#take(pattern);
    if (match === undefined) throw malformed(`${what} expected at character ${this.#at}`);
    return match;
  }

  skipProlog(): void {
    this.#take(/<\?xml\s[^?<>]*\?>/y);
    this.#take(/<!DOCTYPE\s+plist(?:\s+(?:PUBLIC|SYSTEM)(?:\s+"[^"<>]*"){1,2})?\s*>/y); // one with an internal subset does not match
  }

  value(depth: number): PlistValue {
    if (depth > MAX_DEPTH) throw malformed(`more than ${MAX_DEPTH} levels`);
    const [, name = '', slash] = this.expect(/<([a-z]+)\s*(\/)?>/y, 'a value');
    const isEmpty = slash !== undefined;
    switch (name) {
      case 'true':
      case 'false':
        if (!isEmpty) this.expect(new RegExp(`</${name}\\s*>`, 'y'), `</${name}>`);
        return name === 'true';
      case 'dict':
        return isEmpty ? {} : this.#dict(depth);
      case 'array':
        return isEmpty ? [] : this.#array(depth);
      case 'integer':
        return toInteger(isEmpty ? '' : this.#content(name).trim());
      case 'string':
      case 'real':
      case 'date':
      case 'data':
        return isEmpty ? '' : this.#content(name); // only strings are asked for; the others are kept as they stand
      default:
        throw malformed(`<${name}> is no value`);
    }
  }

  #dict(depth: number): PlistDict {
    const dict: Record<string, PlistValue> = Object.create(null);
    while (this.#take(/<\/dict\s*>/y) === undefined) {
      this.expect(/<key\s*>/y, 'a <key>');
      const key = this.#content('key');
      if (key in dict) throw malformed(`the key "${key}" occurs twice`);
      dict[key] = this.value(depth + 1);
    }
    return dict;
  }

  #array(depth: number): PlistValue[] {
    const values: PlistValue[] = [];
    while (this.#take(/<\/array\s*>/y) === undefined) values.push(this.value(depth + 1));
    return values;
  }

  /** The text up to the closing tag. */
  #content(name: string): string {
    const raw = this.#skip(/[^<]*/y)?.[0] ?? '';
    if (this.#skip(new RegExp(`</${name}\\s*>`, 'y')) === undefined) throw malformed(`</${name}> expected at character ${this.#at}`);
    return raw.replace(/&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(\w+))?;?/g, (whole, decimal?: string, hex?: string, entity?: string) => {
      const code = decimal !== undefined ? Number(decimal) : hex !== undefined ? Number.parseInt(hex, 16) : undefined;
      const one = code === undefined ? ENTITIES[entity ?? ''] : code <= 0x10ffff ? String.fromCodePoint(code) : undefined;
      if (one === undefined || !whole.endsWith(';')) throw malformed(`"${whole}" is no character`);
      return one;
    });
  }
}

function toInteger(text: string): number {
  const value = /^[+-]?(?:\d{1,16}|0x[0-9a-fA-F]{1,13})$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw malformed(`"${text}" is no integer that can be used`);
  return value;
}
