/**
 * The command list of a step, written straight into shared memory: f64 words [operation, words, meets, arguments…].
 *
 * @module
 */
import type { SharedMemory } from "./memory.ts";
import type { Arguments } from "./signature.ts";
import type { Threads } from "./threads.ts";

/** Words to start with: a decode step of a hundred layers. */
const CAPACITY = 1 << 16;
/** Words of a command before its arguments (`HEAD` in wasm/src/lib.rs). */
const HEAD = 3;
/** Scratch memory grows in steps of this many bytes, so that it need not grow often. */
const SCRATCH_STEP = 1 << 16;

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
  #scratchHeld = 0;
  #scratch: number[] = [];
  /** Seconds by operation. While it is set, commands run one at a time, which costs some 50 µs each. */
  profile: Map<string, number> | undefined;

  constructor(memory: SharedMemory, threads: Threads) {
    this.#memory = memory;
    this.#threads = threads;
    this.#codes = new Map(threads.operations.map(({ name }, code) => [name, code]));
    this.#list = memory.allocate(CAPACITY * 8);
    this.#words = memory.f64(this.#list, CAPACITY);
    this.#counters = memory.allocate(this.#counterCapacity * 4);
  }

  /** Whether nothing waits to be run. */
  get empty(): boolean {
    return this.#count === 0;
  }

  /**
   * Adds a command. One that `joins` the command before it may run beside it, so threads need not meet in between.
   * Throws a TypeError where the arguments are not those that the kernel declares.
   */
  record(operation: string, args: Arguments, joins = false): void {
    const code = this.#codes.get(operation);
    if (code === undefined) throw new TypeError(`Cannot record ${operation}: no kernel has this name`);
    const signature = this.#threads.operations[code]!, words = HEAD + signature.length;
    if (this.#at + words > this.#words.length) this.#grow();
    signature.write(args, this.#words, this.#at + HEAD);
    if (joins && this.#count > 0) this.#words[this.#last + 2] = 0;
    this.#last = this.#at;
    this.#words[this.#at] = code;
    this.#words[this.#at + 1] = words;
    this.#words[this.#at + 2] = 1;
    this.#at += words;
    this.#count++;
  }

  /** Rows of u32 for kernels to read, as the kernels declare them. */
  table(record: string, rows: readonly Arguments[]): Uint32Array {
    const signature = this.#threads.records.get(record);
    if (!signature) throw new TypeError(`Cannot write a table of ${record}: no kernel reads such rows`);
    return signature.table(rows);
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
    if (this.profile) await this.#runApart(this.profile, count);
    else await this.#runList(this.#list, count, this.#counters);
  }

  /**
   * Kernels say how much scratch they need when the threads come to the list; where that is more than there is, nothing
   * runs, and the list is run once more with enough.
   */
  async #runList(list: number, count: number, counters: number): Promise<void> {
    const needed = await this.#threads.run(list, { count, counters });
    if (needed === 0) return;
    for (const address of this.#scratch) this.#memory.free(address, this.#scratchHeld);
    this.#scratch = [];
    this.#scratchHeld = Math.ceil(needed / SCRATCH_STEP) * SCRATCH_STEP;
    while (this.#scratch.length < this.#threads.count) {
      this.#scratch.push(this.#memory.allocate(this.#scratchHeld));
    }
    this.#threads.setScratch(this.#scratch, this.#scratchHeld);
    await this.#threads.run(list, { count, counters });
  }

  async #runApart(profile: Map<string, number>, count: number): Promise<void> {
    for (let i = 0, at = 0; i < count; i++) {
      const operation = this.#threads.operations[this.#words[at]!]!.name;
      const start = performance.now();
      await this.#runList(this.#list + at * 8, 1, this.#counters + i * 4);
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
