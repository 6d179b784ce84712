/**
 * What a step records: commands, and the data of the host that they read.
 *
 * @module
 */
import { StepMemory } from "../step_memory.ts";
import type { DeviceTensor } from "../tensor.ts";
import { CommandList } from "./command_list.ts";
import type { SharedMemory } from "./memory.ts";
import type { Arguments } from "./signature.ts";
import type { Threads } from "./threads.ts";

/** Words of a list to begin with: a decode step of a hundred layers. */
const CAPACITY = 1 << 16;

export class Recorder {
  readonly threads: Threads;
  readonly #memory: SharedMemory;
  /** Tensors and data of the step. */
  readonly #stepMemory: StepMemory;
  #list: CommandList;
  readonly #lists = new Set<CommandList>();
  /** Lists that have run; commands go on to one of these while the threads are at another. */
  readonly #idle: CommandList[] = [];
  #running: Promise<unknown> = Promise.resolve();
  /**
   * What commands wrote that may run beside the next one; undefined where the next must wait for all before
   * it.
   */
  #together: DeviceTensor[] | undefined;
  /** Seconds by operation. While it is set, commands run one at a time. */
  profile: Map<string, number> | undefined;

  constructor(memory: SharedMemory, threads: Threads) {
    this.threads = threads;
    this.#memory = memory;
    this.#stepMemory = new StepMemory(memory);
    this.#list = this.#newList();
  }

  /**
   * Adds a command, whose arguments have the names that its kernel declares (`arguments!` in wasm/src). One
   * that says what it `reads` and `writes` runs beside the commands before it that say so too, unless it
   * reads what one of them writes.
   */
  record(
    operation: string,
    args: Arguments,
    { reads, writes }: { readonly reads?: DeviceTensor; readonly writes?: DeviceTensor } = {},
  ): void {
    const source = reads?.base ?? reads;
    const joins = source !== undefined && this.#together !== undefined && !this.#together.includes(source);
    this.#list.add(operation, args, joins);
    if (!joins) this.#together = undefined;
    if (!writes) return;
    if (this.#together) this.#together.push(writes);
    else this.#together = [writes];
  }

  /** Bytes of the lists, and of the threads' scratch. */
  get overheadBytes(): number {
    return [...this.#lists].reduce((bytes, list) => bytes + list.bytes, this.threads.scratchBytes);
  }

  /** Runs what is recorded. */
  async run(): Promise<void> {
    const list = this.#list;
    if (list.count === 0) return void await this.#running;
    this.#list = this.#idle.pop() ?? this.#newList();
    this.#together = undefined;
    const run = this.profile ? list.runApart(this.profile) : list.run();
    this.#running = run.catch(() => {});
    try {
      await run;
    } finally {
      list.clear();
      this.#idle.push(list);
    }
  }

  /** Forgets what has not run, waits for what runs, and gives the step's memory back. */
  async end(): Promise<void> {
    this.#list.clear();
    this.#together = undefined;
    await this.#running;
    this.#stepMemory.end();
  }

  /** Memory for a tensor of the step. */
  make(bytes: number): number {
    return this.#stepMemory.take(bytes);
  }

  /** Gives a tensor's memory back: the next command may write there, so it waits for those before it. */
  recycle(address: number, bytes: number): void {
    this.#together = undefined;
    this.#stepMemory.recycle(address, bytes);
  }

  /** Room for data that the host writes at once, until the step ends. */
  room(bytes: number): number {
    return this.#stepMemory.data(bytes);
  }

  /** Addresses for commands of this step, f64 each. */
  addresses(list: readonly number[]): number {
    const address = this.room(8 * list.length), { words } = this.#memory;
    for (let i = 0; i < list.length; i++) words[address / 8 + i] = list[i]!;
    return address;
  }

  /** Data of the host for commands of this step. */
  data(numbers: Float32Array | Float64Array | Uint32Array): number {
    const address = this.room(numbers.byteLength);
    const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
    this.#memory.bytes.set(bytes, address);
    return address;
  }

  /** Rows of a table that kernels read (`record!` in wasm/src), until the step ends; 0 for none. */
  table(record: string, rows: readonly Arguments[]): number {
    if (rows.length === 0) return 0;
    const signature = this.threads.records.get(record);
    if (!signature) throw new TypeError(`Cannot write a table of ${record}: no kernel reads such rows`);
    return this.data(signature.table(rows));
  }

  #newList(): CommandList {
    const list = new CommandList(this.#memory, this.threads, CAPACITY);
    this.#lists.add(list);
    return list;
  }
}
