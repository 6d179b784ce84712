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

/** Words of the control range in shared memory, each busy one on a cache line of its own. */
const WORDS = {
  go: 0,
  done: 16,
  finished: 32,
  started: 48,
  barrier: 64, // arrived, generation, sleepers, poison
  parameters: 80, // four f64: list, count, counters
  scratch: 96, // one f64 a thread
  count: 96,
  stop: -1,
} as const;

export class Threads {
  readonly count: number;
  /** Names of the operations in the order of their codes. */
  readonly operations: readonly string[];
  readonly #signal: Int32Array;
  readonly #parameters: Float64Array;
  readonly #scratch: Float64Array;
  #turn = 0;
  #failure: string | undefined;
  #closed = false;
  readonly #onExit = () => this.close();

  private constructor(memory: SharedMemory, control: number, count: number, operations: readonly string[]) {
    this.count = count;
    this.operations = operations;
    this.#signal = new Int32Array(memory.memory.buffer, control, WORDS.count);
    this.#parameters = memory.f64(control + WORDS.parameters * 4, 4);
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
        new Promise<readonly string[]>((resolve, reject) => {
          const worker = new Worker(url, { type: "module", name: `lakh compute thread ${i}` });
          worker.onmessage = ({ data }) => {
            if (data.operations) resolve(data.operations);
            else if (threads) threads.#failure = data.error;
          };
          worker.onerror = (event) => reject(new Error(`Cannot start a compute thread: ${event.message}`));
          worker.postMessage({
            module: kernels.module,
            memory: memory.memory,
            control,
            words: WORDS,
            threads: count,
          });
        }),
    );
    try {
      const [operations] = await Promise.all(started);
      threads = new Threads(memory, control, count, operations!);
      return threads;
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  /** Sets the scratch memory of every thread. */
  setScratch(addresses: readonly number[]): void {
    this.#scratch.set(addresses);
  }

  /** Runs `count` commands at `list`; resolves when all threads are through. The main thread stays free. */
  async run(list: number, { count, counters }: { count: number; counters: number }): Promise<void> {
    if (this.#closed) throw new Error("Cannot compute: the device is closed");
    const before = this.#turn;
    this.#turn = (before + 1) & 0x3fffffff;
    this.#parameters.set([list, count, counters]);
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
