/**
 * A list of commands in shared memory: f64 words [operation, words, meets, arguments…] (wasm/src/lib.rs).
 *
 * @module
 */
import type { SharedMemory } from "./memory.ts";
import type { Arguments } from "./signature.ts";
import type { List, Threads } from "./threads.ts";

/** Words of a command before its arguments (`HEAD` in wasm/src/lib.rs). */
const HEAD = 3;

export class CommandList implements List {
  readonly #memory: SharedMemory;
  readonly #threads: Threads;
  readonly #codes: ReadonlyMap<string, number>;
  #address: number;
  #words: Float64Array;
  #counters: number;
  #counterCapacity: number;
  #at = 0;
  #count = 0;
  /** Where the last command begins. */
  #last = 0;

  /** `capacity`: words to begin with. */
  constructor(memory: SharedMemory, threads: Threads, capacity: number) {
    this.#memory = memory;
    this.#threads = threads;
    this.#codes = new Map(threads.operations.map(({ name }, code) => [name, code]));
    this.#address = memory.allocate(capacity * 8);
    this.#words = memory.f64(this.#address, capacity);
    this.#counterCapacity = Math.ceil(capacity / 16);
    this.#counters = memory.allocate(this.#counterCapacity * 4);
  }

  get address(): number {
    return this.#address;
  }

  /** Bytes that the list takes. */
  get bytes(): number {
    return this.#words.length * 8 + this.#counterCapacity * 4;
  }

  get count(): number {
    return this.#count;
  }

  get counters(): number {
    return this.#counters;
  }

  /**
   * Adds a command. One that `joins` the command before it may run beside it, so threads need not meet in
   * between. Throws a TypeError where the arguments are not those that the kernel declares.
   */
  add(operation: string, args: Arguments, joins = false): void {
    const code = this.#codes.get(operation);
    if (code === undefined) throw new TypeError(`Cannot record ${operation}: no kernel has this name`);
    const signature = this.#threads.operations[code]!, length = HEAD + signature.length;
    if (this.#at + length > this.#words.length) this.#grow();
    const words = this.#words, at = this.#at;
    signature.write(args, words, at + HEAD);
    if (joins && this.#count > 0) words[this.#last + 2] = 0;
    this.#last = at;
    words[at] = code;
    words[at + 1] = length;
    words[at + 2] = 1;
    this.#at += length;
    this.#count++;
  }

  clear(): void {
    this.#at = this.#count = 0;
  }

  /** Runs the commands, which stay in the list. */
  async run(): Promise<void> {
    this.#clearCounters();
    await this.#threads.run(this);
  }

  /**
   * Runs them one at a time, which costs some 50 µs each, and adds the seconds of each operation to
   * `profile`.
   */
  async runApart(profile: Map<string, number>): Promise<void> {
    this.#clearCounters();
    for (let i = 0, at = 0; i < this.#count; i++) {
      const { name } = this.#threads.operations[this.#words[at]!]!, start = performance.now();
      await this.#threads.run({
        address: this.#address + at * 8,
        count: 1,
        counters: this.#counters + i * 4,
      });
      profile.set(name, (profile.get(name) ?? 0) + (performance.now() - start) / 1000);
      at += this.#words[at + 1]!;
    }
  }

  /** Gives the memory back. */
  free(): void {
    this.#memory.free(this.#address, this.#words.length * 8);
    this.#memory.free(this.#counters, this.#counterCapacity * 4);
  }

  #clearCounters(): void {
    if (this.#count > this.#counterCapacity) {
      const capacity = this.#count * 2, counters = this.#memory.allocate(capacity * 4);
      this.#memory.free(this.#counters, this.#counterCapacity * 4);
      this.#counters = counters;
      this.#counterCapacity = capacity;
    }
    this.#memory.u32(this.#counters, this.#count).fill(0);
  }

  #grow(): void {
    const capacity = this.#words.length * 2, address = this.#memory.allocate(capacity * 8);
    const words = this.#memory.f64(address, capacity);
    words.set(this.#words);
    this.#memory.free(this.#address, this.#words.length * 8);
    this.#address = address;
    this.#words = words;
  }
}
