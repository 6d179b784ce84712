/**
 * The worker threads of a WASM device: started once, asleep between lists of commands, stopped by a value.
 *
 * A worker that waits cannot be terminated (the process would hang), so they leave their loop themselves, on
 * `close` and when the program ends.
 *
 * @module
 */
import type { Compiled } from "./compiled.ts";
import type { SharedMemory } from "./memory.ts";
import { Signature } from "./signature.ts";

/** Words of the control range in shared memory, each busy one on a cache line of its own. */
const WORDS = {
  go: 0,
  done: 16,
  finished: 32,
  started: 48,
  barrier: 64, // arrived, generation, sleepers, poison
  parameters: 80, // f64: see PARAMETERS
  scratch: 96, // one f64 a thread
  count: 96,
  stop: -1,
} as const;
/** What the parameters of a list are, f64 each. */
const PARAMETERS = {
  list: 0,
  count: 1,
  counters: 2,
  /** Bytes that each thread has. */
  scratchBytes: 3,
  /** Bytes that each thread needs, where that is more; the list was not run then. */
  scratchNeeded: 4,
  length: 5,
} as const;
/** Scratch memory grows in steps of this many bytes, so that it need not grow often. */
const SCRATCH_STEP = 1 << 16;

/** What the module says about its kernels. */
interface Declared {
  readonly operations: readonly string[];
  readonly records: readonly string[];
}

/** A list of commands in shared memory. */
export interface List {
  readonly address: number;
  /** Commands. */
  readonly count: number;
  /** One zeroed u32 a command. */
  readonly counters: number;
}

export class Threads {
  readonly count: number;
  /** The operations in the order of their codes. */
  readonly operations: readonly Signature[];
  /** Rows of tables that kernels read, by their names. */
  readonly records: ReadonlyMap<string, Signature>;
  readonly #memory: SharedMemory;
  readonly #signal: Int32Array;
  readonly #parameters: Float64Array;
  readonly #scratch: Float64Array;
  #turn = 0;
  #failure: string | undefined;
  #closed = false;
  #queue: Promise<unknown> = Promise.resolve();
  readonly #onExit = () => this.close();

  private constructor(
    memory: SharedMemory,
    { control, count, declared }: { control: number; count: number; declared: Declared },
  ) {
    this.#memory = memory;
    this.count = count;
    this.operations = declared.operations.map((text) => new Signature(text));
    const records = declared.records.map((text) => new Signature(text));
    this.records = new Map(records.map((record) => [record.name, record]));
    this.#signal = new Int32Array(memory.memory.buffer, control, WORDS.count);
    this.#parameters = memory.f64(control + WORDS.parameters * 4, PARAMETERS.length);
    this.#scratch = memory.f64(control + WORDS.scratch * 4, count);
    globalThis.addEventListener?.("unload", this.#onExit);
  }

  /** Starts `count` workers over `memory` and waits until they are ready. */
  static async start(compiled: Compiled, { memory, count }: { memory: SharedMemory; count: number }) {
    const control = memory.allocate(WORDS.scratch * 4 + count * 8);
    memory.u8(control, WORDS.scratch * 4 + count * 8).fill(0);
    const url = URL.createObjectURL(new Blob([compiled.workerSource], { type: "text/javascript" }));
    let threads: Threads | undefined;
    const started = Array.from(
      { length: count },
      (_, i) =>
        new Promise<Declared>((resolve, reject) => {
          const worker = new Worker(url, { type: "module", name: `lakh compute thread ${i}` });
          worker.onmessage = ({ data }) => {
            if (data.operations) resolve(data);
            else if (threads) threads.#failure = data.error;
          };
          worker.onerror = (event) => {
            event.preventDefault(); // or the whole program ends
            reject(new Error(`Cannot start a compute thread: ${event.message}`));
            if (threads) threads.#lose(event.message);
          };
          worker.postMessage({
            module: compiled.module,
            memory: memory.memory,
            control,
            words: WORDS,
            at: PARAMETERS,
            threads: count,
          });
        }),
    );
    try {
      const [declared] = await Promise.all(started);
      threads = new Threads(memory, { control, count, declared: declared! });
      return threads;
    } catch (error) {
      // Those that did start leave.
      const signal = new Int32Array(memory.memory.buffer, control, WORDS.count);
      Atomics.store(signal, WORDS.go, WORDS.stop);
      Atomics.notify(signal, WORDS.go);
      throw error;
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Bytes of all threads' scratch. */
  get scratchBytes(): number {
    return this.count * this.#parameters[PARAMETERS.scratchBytes]!;
  }

  /** Runs a list once those before it are through; resolves when it is. The main thread stays free. */
  run(list: List): Promise<void> {
    const result = this.#queue.then(async () => {
      const needed = await this.#runOnce(list);
      if (needed === 0) return;
      this.#growScratch(needed);
      await this.#runOnce(list);
    });
    this.#queue = result.catch(() => {});
    return result;
  }

  /**
   * Kernels say how much scratch they need when the threads come to the list (docs/decisions/0120). Where
   * that is more than there is, nothing runs and the bytes are given; else 0.
   */
  async #runOnce({ address, count, counters }: List): Promise<number> {
    if (this.#closed) throw new Error("Cannot compute: the device is closed");
    const before = this.#turn;
    this.#turn = (before + 1) & 0x3fffffff;
    this.#parameters[PARAMETERS.list] = address;
    this.#parameters[PARAMETERS.count] = count;
    this.#parameters[PARAMETERS.counters] = counters;
    this.#parameters[PARAMETERS.scratchNeeded] = 0;
    Atomics.store(this.#signal, WORDS.finished, 0);
    Atomics.store(this.#signal, WORDS.go, this.#turn);
    Atomics.notify(this.#signal, WORDS.go);
    while (Atomics.load(this.#signal, WORDS.done) !== this.#turn) {
      const { async, value } = Atomics.waitAsync(this.#signal, WORDS.done, before);
      if (async) await value;
    }
    if (Atomics.load(this.#signal, WORDS.barrier + 3) !== 0) {
      // The message of the thread that failed may still be on its way.
      await new Promise((resolve) => setTimeout(resolve, 50));
      this.close();
      throw new Error(
        `Cannot go on computing: a thread failed, and its device is closed: ${
          this.#failure ?? "unknown reason"
        }`,
      );
    }
    return this.#parameters[PARAMETERS.scratchNeeded]!;
  }

  #growScratch(needed: number): void {
    const held = this.#parameters[PARAMETERS.scratchBytes]!;
    const bytes = Math.ceil(needed / SCRATCH_STEP) * SCRATCH_STEP;
    // The new ranges first: what is there stays in use when memory does not suffice.
    const ranges: number[] = [];
    try {
      while (ranges.length < this.count) ranges.push(this.#memory.allocate(bytes));
    } catch (error) {
      for (const address of ranges) this.#memory.free(address, bytes);
      throw error;
    }
    if (held > 0) { for (const address of this.#scratch) this.#memory.free(address, held); }
    this.#scratch.set(ranges);
    this.#parameters[PARAMETERS.scratchBytes] = bytes;
  }

  /** A thread has died outside of a kernel: nothing waits for it, and the list that runs counts as failed. */
  #lose(reason: string): void {
    // Waking the waiting list is a task that does not keep a program without threads alive.
    setTimeout(() => {}, 1000);
    this.#failure ??= reason;
    Atomics.store(this.#signal, WORDS.barrier + 3, 1);
    Atomics.add(this.#signal, WORDS.barrier + 1, 1);
    Atomics.notify(this.#signal, WORDS.barrier + 1);
    Atomics.store(this.#signal, WORDS.done, this.#turn);
    Atomics.notify(this.#signal, WORDS.done);
  }

  /** Lets the workers go. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    globalThis.removeEventListener?.("unload", this.#onExit);
    Atomics.store(this.#signal, WORDS.go, WORDS.stop);
    Atomics.notify(this.#signal, WORDS.go);
  }

  /** Waits for lists that were handed in, then lets the workers go. */
  async end(): Promise<void> {
    await this.#queue;
    this.close();
  }
}
