/**
 * The command list of a step, written straight into shared memory: f64 words [operation, words, meets, arguments…].
 *
 * @module
 */
import type { SharedMemory } from "./memory.ts";
import type { Threads } from "./threads.ts";

/** Words to start with: a decode step of a hundred layers. */
const CAPACITY = 1 << 16;

export class Recorder {
  readonly #memory: SharedMemory;
  readonly #threads: Threads;
  readonly #codes: ReadonlyMap<string, number>;
  #list: number;
  #words: Float64Array;
  #at = 0;
  #count = 0;
  /** Where the last command is. */
  #last = 0;
  #counters: number;
  #counterCapacity = 4096;
  #scratchNeeded = 1 << 16;
  #scratchHeld = 0;
  #scratch: number[] = [];
  /** Seconds by operation. While it is set, commands run one at a time, which costs some 50 µs each. */
  profile: Map<string, number> | undefined;

  constructor(memory: SharedMemory, threads: Threads) {
    this.#memory = memory;
    this.#threads = threads;
    this.#codes = new Map(threads.operations.map((name, code) => [name, code]));
    this.#list = memory.allocate(CAPACITY * 8);
    this.#words = memory.f64(this.#list, CAPACITY);
    this.#counters = memory.allocate(this.#counterCapacity * 4);
  }

  /** Whether nothing waits to be run. */
  get empty(): boolean {
    return this.#count === 0;
  }

  /**
   * Adds a command. `scratch` is what the operation needs per thread, in bytes; one that `joins` the command before it
   * may run beside it, so threads need not meet in between.
   */
  record(
    operation: string,
    args: readonly number[],
    { scratch, joins }: { scratch: number; joins: boolean },
  ): void {
    const words = args.length + 3;
    if (this.#at + words > this.#words.length) this.#grow();
    if (joins && this.#count > 0) this.#words[this.#last + 2] = 0;
    this.#last = this.#at;
    this.#words[this.#at] = this.#codes.get(operation)!;
    this.#words[this.#at + 1] = words;
    this.#words[this.#at + 2] = 1;
    for (let i = 0; i < args.length; i++) this.#words[this.#at + 3 + i] = args[i]!;
    this.#at += words;
    this.#count++;
    this.#scratchNeeded = Math.max(this.#scratchNeeded, scratch);
  }

  /** Forgets what is recorded. */
  clear(): void {
    this.#at = 0;
    this.#count = 0;
  }

  /** Runs what is recorded. */
  async run(): Promise<void> {
    if (this.#count === 0) return;
    const count = this.#count;
    this.clear();
    if (count > this.#counterCapacity) {
      this.#memory.free(this.#counters, this.#counterCapacity * 4);
      this.#counterCapacity = count * 2;
      this.#counters = this.#memory.allocate(this.#counterCapacity * 4);
    }
    this.#memory.u32(this.#counters, count).fill(0);
    if (this.#scratchNeeded > this.#scratchHeld) {
      for (const address of this.#scratch) this.#memory.free(address, this.#scratchHeld);
      this.#scratchHeld = this.#scratchNeeded;
      this.#scratch = Array.from(
        { length: this.#threads.count },
        () => this.#memory.allocate(this.#scratchHeld),
      );
      this.#threads.setScratch(this.#scratch);
    }
    if (this.profile) await this.#runApart(this.profile, count);
    else await this.#threads.run(this.#list, { count, counters: this.#counters });
  }

  async #runApart(profile: Map<string, number>, count: number): Promise<void> {
    for (let i = 0, at = 0; i < count; i++) {
      const operation = this.#threads.operations[this.#words[at]!]!;
      const start = performance.now();
      await this.#threads.run(this.#list + at * 8, { count: 1, counters: this.#counters + i * 4 });
      profile.set(operation, (profile.get(operation) ?? 0) + (performance.now() - start) / 1000);
      at += this.#words[at + 1]!;
    }
  }

  #grow(): void {
    const words = this.#words.length * 2;
    const list = this.#memory.allocate(words * 8);
    const grown = this.#memory.f64(list, words);
    grown.set(this.#words);
    this.#memory.free(this.#list, this.#words.length * 8);
    this.#list = list;
    this.#words = grown;
  }
}
