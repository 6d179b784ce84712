/**
 * Fuzzing within a budget: random inputs for so many seconds, with a seed that a failure names and
 * `LAKH_SEED` repeats. `LAKH_FAULTS=long` takes sixty times as long.
 *
 * @module
 */

/** Inputs that take longer are a fault of their own: a small file is to be read or refused at once. */
const MOST_MS = 20_000;

/** Random numbers from a seed (mulberry32). */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number in [0, end). */
  below(end: number): number {
    return Math.floor(this.next() * end);
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

/** Values that files and callers should not have. */
export const STRANGE: readonly unknown[] = [
  ...[0, -1, 1, 0.5, -0.5, 1e9, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 1e300, -1e300, 6.4e10],
  ...["", "x", "NaN", "\0", "\x1b[2J", "1", "__proto__", "constructor", "a".repeat(10_000)],
  ...[null, true, false, [], {}, [null], [[]], { a: 1 }, ["x"], [1, 2, 3], [1e9]],
];

/**
 * Where every run begins, so that the tests try the same; what is tried for long begins elsewhere each time.
 */
const FIRST_SEED = 20_261_125;

/** True where everything is tried for much longer. */
export const LONG = Deno.env.get("LAKH_FAULTS") === "long";

/**
 * Runs `body` with dice of one seed after the other until the time is over, and tells how many. An error is
 * thrown on with its seed.
 */
export async function fuzz(
  name: string,
  { seconds, inputs = Infinity }: { readonly seconds: number; readonly inputs?: number },
  body: (dice: Dice, seed: number) => unknown,
): Promise<void> {
  const given = Deno.env.get("LAKH_SEED");
  const first = given !== undefined
    ? Number(given)
    : LONG
    ? crypto.getRandomValues(new Uint32Array(1))[0]!
    : FIRST_SEED;
  const factor = LONG ? 60 : 1, end = performance.now() + seconds * 1000 * factor;
  let tried = 0;
  for (; tried < inputs * factor && (tried === 0 || performance.now() < end); tried++) {
    const seed = (first + tried) >>> 0, started = performance.now();
    try {
      await body(new Dice(seed), seed);
    } catch (error) {
      throw new Error(`${name}: seed ${seed} (LAKH_SEED=${seed} repeats it): ${(error as Error).message}`, {
        cause: error,
      });
    }
    const took = performance.now() - started;
    if (took > MOST_MS) throw new Error(`${name}: seed ${seed}: ${Math.round(took)} ms for one input`);
  }
  console.log(`${name}: ${tried} inputs, seeds ${first} to ${(first + tried - 1) >>> 0}`);
}

/** Whether an error is one of ours: "Cannot …", or what a family's own check says in words. */
export function isInWords(error: unknown): boolean {
  return error instanceof Error && /^Cannot [a-z]/.test(error.message) &&
    !/Cannot (read|set) propert|Cannot convert|Cannot destructure|Cannot mix/.test(error.message);
}
