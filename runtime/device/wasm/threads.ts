/**
 * The worker threads of a WASM device: started once, asleep between steps, stopped by a value.
 *
 * A worker that waits cannot be terminated (the process would hang), so they leave their loop themselves, on `close`
 * and when the program ends.
 *
 * @module
 */
import type { Kernels } from "./kernels.ts";
import type { SharedMemory } from "./memory.ts";
import { Signature } from "./signature.ts";

/** Words of the control range in shared memory, each busy one on a cache line of its own. */
const WORDS = {
  go: 0,
  done: 16,
  finished: 32,
  started: 48,
  barrier: 64, // arrived, generation, sleepers, poison
  parameters: 80, // six f64: list, count, counters, bytes of scratch a thread, bytes that the list needs if more
  scratch: 96, // one f64 a thread
  count: 96,
  stop: -1,
} as const;
/** What the parameters are. */
const PARAMETERS = { list: 0, count: 1, counters: 2, scratchBytes: 3, scratchNeeded: 4 } as const;

/** What the module says about its kernels. */
interface Declared {
  readonly operations: readonly string[];
  readonly records: readonly string[];
}

export class Threads {
  readonly count: number;
  /** The operations in the order of their codes. */
  readonly operations: readonly Signature[];
  /** Rows of tables that kernels read, by their names. */
  readonly records: ReadonlyMap<string, Signature>;
  readonly #signal: Int32Array;
  readonly #parameters: Float64Array;
  readonly #scratch: Float64Array;
  #turn = 0;
  #failure: string | undefined;
  #closed = false;
  readonly #onExit = () => this.close();

  private constructor(
    memory: SharedMemory,
    { control, count, declared }: { control: number; count: number; declared: Declared },
  ) {
    this.count = count;
    this.operations = declared.operations.map((text) => new Signature(text));
    this.records = new Map(
      declared.records.map((text) => new Signature(text)).map((record) => [record.name, record]),
    );
    this.#signal = new Int32Array(memory.memory.buffer, control, WORDS.count);
    this.#parameters = memory.f64(control + WORDS.parameters * 4, 6);
    this.#scratch = memory.f64(control + WORDS.scratch * 4, count);
    globalThis.addEventListener?.("unload", this.#onExit);
  }

  /** Starts `count` workers over `memory` and waits until they are ready. */
  static async start(kernels: Kernels, { memory, count }: { memory: SharedMemory; count: number }) {
    const control = memory.allocate(WORDS.scratch * 4 + count * 8);
    memory.u8(control, WORDS.scratch * 4 + count * 8).fill(0);
    const url = URL.createObjectURL(new Blob([kernels.workerSource], { type: "text/javascript" }));
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
          worker.onerror = (event) => reject(new Error(`Cannot start a compute thread: ${event.message}`));
          worker.postMessage({
            module: kernels.module,
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
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  /** Sets the scratch memory of every thread, of so many bytes each. */
  setScratch(addresses: readonly number[], bytes: number): void {
    this.#scratch.set(addresses);
    this.#parameters[PARAMETERS.scratchBytes] = bytes;
  }

  /**
   * Runs `count` commands at `list`; resolves when all threads are through. The main thread stays free. Where a kernel
   * needs more scratch than is set nothing runs, and the bytes that it needs are given; else 0.
   */
  async run(list: number, { count, counters }: { count: number; counters: number }): Promise<number> {
    if (this.#closed) throw new Error("Cannot compute: the device is closed");
    const before = this.#turn;
    this.#turn = (before + 1) & 0x3fffffff;
    this.#parameters[PARAMETERS.list] = list;
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

  /** Lets the workers go. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    globalThis.removeEventListener?.("unload", this.#onExit);
    Atomics.store(this.#signal, WORDS.go, WORDS.stop);
    Atomics.notify(this.#signal, WORDS.go);
  }
}
