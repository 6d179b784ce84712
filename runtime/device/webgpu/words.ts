/**
 * Lists of words for shaders that look them up by place, collected before they are written to the GPU.
 *
 * @module
 */
import type { Struct, Values } from "./declarations.ts";

/** A buffer that grows, used again for each operation. */
export class Words {
  #words = new Uint32Array(1024);
  #floats = new Float32Array(this.#words.buffer);
  #length = 0;

  /** Empties it. */
  cleared(): this {
    this.#length = 0;
    return this;
  }

  /** Appends a list and returns where it begins. */
  list(words: Uint32Array): number {
    const at = this.#room(words.length);
    this.#words.set(words, at);
    return at;
  }

  /** Appends structs and returns where they begin. */
  items(struct: Struct, items: readonly Values[]): number {
    const size = struct.fields.length, at = this.#room(items.length * size);
    for (let i = 0; i < items.length; i++) struct.write(items[i]!, this.#words, this.#floats, at + i * size);
    return at;
  }

  /** What was appended; valid until the next change. */
  get used(): Uint32Array {
    return this.#words.subarray(0, this.#length);
  }

  #room(count: number): number {
    const at = this.#length;
    this.#length += count;
    if (this.#length > this.#words.length) {
      const before = this.#words;
      this.#words = new Uint32Array(Math.max(2 * before.length, this.#length));
      this.#words.set(before);
      this.#floats = new Float32Array(this.#words.buffer);
    }
    return at;
  }
}
