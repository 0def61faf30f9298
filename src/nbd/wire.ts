/** Reading and writing the fields of NBD messages. Pure; what does not fit is a TimebandError, never a read beyond the end. */
import { TimebandError } from '../../bands/errors.ts';
import { concat, viewOf } from '../../bands/format/bytes.ts';
import { MAX_STRING_BYTES } from './protocol.ts';

/** What the other side sent breaks the protocol. */
export function protocolError(what: string): TimebandError {
  return new TimebandError(`the NBD protocol was broken: ${what}`, { code: 'SOURCE_INVALID' });
}

/** Takes fields from the front of a message. */
export class WireReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  #advance(length: number): number {
    if (this.left < length) throw protocolError(`a message of ${this.#bytes.length} bytes is too short`);
    const at = this.#at;
    this.#at += length;
    return at;
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8));
  }

  /** A 64-bit offset or size that JavaScript can count with. */
  size(): number {
    const value = this.u64();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw protocolError(`${value} is no possible offset or size`);
    return Number(value);
  }

  /** `length` bytes of UTF-8; undefined: all that is left. */
  text(length: number = this.left): string {
    if (length > MAX_STRING_BYTES) throw protocolError(`a string of ${length} bytes; none is longer than ${MAX_STRING_BYTES}`);
    const at = this.#advance(length);
    return new TextDecoder().decode(this.#bytes.subarray(at, at + length));
  }

  /** @throws TimebandError SOURCE_INVALID if anything is left */
  end(): void {
    if (this.left > 0) throw protocolError(`a message is ${this.left} bytes too long`);
  }
}

/** Puts fields behind each other. */
export class WireWriter {
  readonly #parts: Uint8Array[] = [];

  #number(length: number, set: (view: DataView) => void): this {
    const bytes = new Uint8Array(length);
    set(viewOf(bytes));
    return this.bytes(bytes);
  }

  u16(value: number): this {
    return this.#number(2, (view) => view.setUint16(0, value));
  }

  u32(value: number): this {
    return this.#number(4, (view) => view.setUint32(0, value));
  }

  u64(value: bigint | number): this {
    return this.#number(8, (view) => view.setBigUint64(0, BigInt(value)));
  }

  bytes(bytes: Uint8Array): this {
    this.#parts.push(bytes);
    return this;
  }

  /** A string with its length before it. */
  string(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.u32(bytes.length).bytes(bytes);
  }

  done(): Uint8Array {
    return concat(...this.#parts);
  }
}
