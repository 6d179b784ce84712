/**
 * Random numbers that a seed determines: xoshiro128** (https://prng.di.unimi.it), its state filled by
 * splitmix32.
 *
 * @module
 */

/** A stream of numbers; the same seed gives the same stream on every machine. */
export class Random {
  readonly #state: Uint32Array;

  /** `seed` is any integer, of which 32 bits count, or the four words of the state itself. */
  constructor(seed: number | Uint32Array) {
    if (typeof seed !== "number") {
      this.#state = seed.slice();
      return;
    }
    if (!Number.isSafeInteger(seed)) throw new RangeError(`Cannot use the seed ${seed}: give an integer`);
    let word = seed | 0;
    this.#state = Uint32Array.from({ length: 4 }, () => {
      word = (word + 0x9e3779b9) | 0;
      let mixed = word ^ (word >>> 16);
      mixed = Math.imul(mixed, 0x21f0aaad);
      mixed ^= mixed >>> 15;
      mixed = Math.imul(mixed, 0x735a2d97);
      return mixed ^ (mixed >>> 15);
    });
  }

  /** An integer of [0, 2³²). */
  word(): number {
    const s = this.#state;
    const result = Math.imul(rotate(Math.imul(s[1]!, 5), 7), 9) >>> 0;
    const t = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3]! = rotate(s[3]!, 11);
    return result;
  }

  /** A number of [0, 1). */
  next(): number {
    return this.word() / 2 ** 32;
  }
}

const rotate = (x: number, bits: number) => (x << bits) | (x >>> (32 - bits));
