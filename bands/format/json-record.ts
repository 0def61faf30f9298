/**
 * Strict JSON: what is decoded must encode to the same bytes again, so there is one form of each value, no unknown
 * or duplicate field, and no number that JSON rounds.
 */
import { TimebandError } from '../errors.ts';
import { equalBytes, fromHex, utf8 } from './bytes.ts';

/** Reads the fields of one JSON object; every method throws RECORD_CORRUPT for a field of another shape. */
export class Fields {
  readonly #object: Readonly<Record<string, unknown>>;
  readonly #what: string;

  constructor(value: unknown, what: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(what, 'is not a JSON object');
    this.#object = value as Readonly<Record<string, unknown>>;
    this.#what = what;
  }

  #fail(name: string, expected: string): TimebandError {
    return malformed(this.#what, `field "${name}" is not ${expected}`);
  }

  /** The constant that this field must hold. */
  constant<T extends string | number>(name: string, expected: T): T {
    if (this.#object[name] !== expected) throw this.#fail(name, JSON.stringify(expected));
    return expected;
  }

  string(name: string): string {
    const value = this.#object[name];
    if (typeof value !== 'string') throw this.#fail(name, 'a string');
    return value;
  }

  boolean(name: string): boolean {
    const value = this.#object[name];
    if (typeof value !== 'boolean') throw this.#fail(name, 'true or false');
    return value;
  }

  /** A whole number from `least` (0) to `most`. */
  integer(name: string, least = 0, most: number = Number.MAX_SAFE_INTEGER): number {
    const value = this.#object[name];
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least || value > most) {
      throw this.#fail(name, `a whole number from ${least} to ${most}`);
    }
    return value;
  }

  oneOf<T extends string>(name: string, values: readonly T[]): T {
    const value = values.find((one) => one === this.#object[name]);
    if (value === undefined) throw this.#fail(name, `one of ${values.join(', ')}`);
    return value;
  }

  /** Bytes in lower-case hex. */
  hex(name: string, length: number): Uint8Array {
    return this.#hexOf(name, this.#object[name], length);
  }

  hexList(name: string, length: number): Uint8Array[] {
    return this.list(name).map((item) => this.#hexOf(name, item, length));
  }

  #hexOf(name: string, value: unknown, length: number): Uint8Array {
    const bytes = typeof value === 'string' ? fromHex(value, length) : undefined;
    if (bytes === undefined) throw this.#fail(name, `${length} bytes in hex`);
    return bytes;
  }

  list(name: string): readonly unknown[] {
    const value = this.#object[name];
    if (!Array.isArray(value)) throw this.#fail(name, 'a list');
    return value;
  }

  /** The objects of a list. */
  objects(name: string): Fields[] {
    return this.list(name).map((item) => new Fields(item, `${this.#what}, "${name}"`));
  }

  strings(name: string): string[] {
    return this.list(name).map((item) => {
      if (typeof item !== 'string') throw this.#fail(name, 'a list of strings');
      return item;
    });
  }

  /** An ISO 8601 UTC time as `Date.toISOString` writes it, in milliseconds since 1970. */
  time(name: string): number {
    const text = this.string(name);
    const time = Date.parse(text);
    if (Number.isNaN(time) || new Date(time).toISOString() !== text) throw this.#fail(name, 'a UTC time');
    return time;
  }

  /** Whether the object has the field, for one that only some records have. */
  has(name: string): boolean {
    return Object.hasOwn(this.#object, name);
  }

  textOrInteger(name: string): string | number {
    return typeof this.#object[name] === 'string' ? this.string(name) : this.integer(name);
  }

  object(name: string): Fields {
    return new Fields(this.#object[name], `${this.#what}, "${name}"`);
  }

  /** The object in a field that may be null. */
  optional<T>(name: string, read: (fields: Fields) => T): T | undefined {
    return this.#object[name] === null ? undefined : read(this.object(name));
  }
}

function malformed(what: string, message: string, cause?: unknown): TimebandError {
  return new TimebandError(`${what}: ${message}`, { code: 'RECORD_CORRUPT', cause });
}

/** A codec between a value and the bytes of its one JSON form. */
export interface JsonCodec<T> {
  encode(value: T): Uint8Array;
  /** @throws TimebandError RECORD_CORRUPT */
  decode(bytes: Uint8Array): T;
}

/** Builds a codec from the two directions of a shape. `indent` is for files that people read. */
export function jsonCodec<T>(what: string, shape: { toJson(value: T): unknown; fromJson(fields: Fields): T; indent?: number }): JsonCodec<T> {
  const encode = (value: T): Uint8Array => utf8(`${JSON.stringify(shape.toJson(value), null, shape.indent)}\n`);
  return {
    encode,
    decode(bytes) {
      let json: unknown;
      try {
        json = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
      } catch (cause) {
        throw malformed(what, 'is not JSON', cause);
      }
      const value = shape.fromJson(new Fields(json, what));
      if (!equalBytes(encode(value), bytes)) throw malformed(what, 'is not in its one valid form (unknown field, order or spacing)');
      return value;
    },
  };
}
