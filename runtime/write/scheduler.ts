/**
 * Which texts of a decoder run, and what of earlier ones is kept.
 *
 * A text is admitted when memory has room for its whole prompt. Where it has not, texts that are kept leave
 * first, those used least recently before others; then the text waits. When a text that is being written
 * needs more than there is, the youngest one gives its memory up, waits, and goes on later as if nothing had
 * been: a running answer is never ended for another. Namespaces take turns.
 *
 * @module
 */
import type { CacheDType, Device } from "../device/device.ts";
import { PAGE_TOKENS } from "../device/page.ts";
import { isRecurrent } from "../models/layer_state.ts";
import type { Decoder } from "../models/model.ts";
import type { Batcher, WaitingAsk } from "./batcher.ts";
import type { EndlessWindow } from "./endless_window.ts";
import type { Portion } from "./next_pass.ts";
import { PrefixTree } from "./prefix_tree.ts";
import { cacheBytesPerToken, promptRuns, type Run, Sequence } from "./sequence.ts";

/**
 * A kept text that would lose no more tokens than this is cut instead of forked: they are soon read again.
 */
const SHORT_TAIL = 64;
/** Part of memory that is left for activations. */
const ACTIVATIONS = 1 / 16;
/**
 * Texts that are kept take so much of memory, and no more than so many bytes; the last one is kept in any
 * case.
 */
const KEPT_SHARE = 1 / 2, KEPT_BYTES = 2 * 2 ** 30;
/** Texts that are kept at most, however short. */
const MOST_KEPT = 128;
/** Texts that run at once. */
const MOST_RUNNING = 256;
/**
 * A text that has not gone on for so long has no reader that pulls: it gives its memory up for one that
 * waits.
 */
const IDLE_MS = 2000;
/**
 * Tokens of a prompt after which one can go on from it later, in models whose layers with a window give pages
 * back; one can from its end as well.
 */
const RETURN_TOKENS = 4096;
/** Weight of the last answer in how long one is expected to take. */
const NEWS = 0.25;

/** Thrown when more texts wait for a model than it was opened for. */
export class QueueFullError extends Error {
  /** Seconds after which trying again makes sense. */
  readonly retryAfter: number;

  /** `waiting` texts wait already. */
  constructor(waiting: number, retryAfter: number) {
    super(
      `Cannot take another text: ${waiting} wait already: try again in ${retryAfter} s, or open the model with a ` +
        "larger maxQueue",
    );
    this.name = "QueueFullError";
    this.retryAfter = retryAfter;
  }
}

/** What is to be read. */
export interface Order {
  readonly ids: Uint32Array;
  readonly namespace: string;
  /** Go on from what was written before as well, although its numbers differ in their last bits. */
  readonly answers: boolean;
  /** It cannot give its memory up: beams share its pages. */
  readonly pinned: boolean;
  readonly signal: AbortSignal;
}

/** A text that waits to be admitted, for the first time or again. */
interface Waiter extends Omit<Order, "pinned"> {
  /** How what is known of it must have been read. */
  readonly runs: readonly Run[];
  /** Before others: it ran already, and since when. */
  readonly since: number | undefined;
  /** Gets what is known of it in the moment in which it is admitted. */
  readonly onAdmit: (known: Sequence | undefined) => void;
  readonly settle: PromiseWithResolvers<void>;
}

/** A text that runs. */
interface Running {
  readonly order: Order;
  /** Number of its admission. */
  readonly age: number;
  readonly started: number;
  /** It gave its memory up and waits for it. */
  putOff: boolean;
  /** Tokens that it held after the last pass, and since when. */
  length: number;
  since: number;
}

/** How busy a model is. */
export interface SchedulerStatus {
  /** Texts that are read or written. */
  readonly running: number;
  /** Texts that wait to be, those among them that gave up their memory. */
  readonly waiting: number;
  /** Texts that gave up their memory for others, since the model was opened. */
  readonly preemptions: number;
  /** Tokens whose keys and values are kept, in whole pages; what texts have in common counts once. */
  readonly keptTokens: number;
  /** Tokens of prompts that did not have to be read, since the model was opened. */
  readonly cachedTokens: number;
}

/** What a scheduler needs. */
export interface SchedulerParts {
  readonly device: Device;
  readonly decoder: Decoder;
  readonly cache: CacheDType;
  readonly window: EndlessWindow | undefined;
  readonly batcher: Batcher;
  /** Texts that may wait. */
  readonly maxQueue: number;
}

/** Admits texts, keeps them, and makes room. */
export class Scheduler {
  readonly #parts: SchedulerParts;
  readonly #tree = new PrefixTree();
  readonly #running = new Map<Sequence, Running>();
  /** Earlier texts, used least recently first. */
  readonly #kept = new Set<Sequence>();
  readonly #waiters: Waiter[] = [];
  /** When a text of a namespace was last admitted. */
  readonly #lastAdmitted = new Map<string, number>();
  readonly #bytesPerToken: number;
  #admissions = 0;
  #preemptions = 0;
  #cachedTokens = 0;
  #answerSeconds = 1;
  #closed = false;

  constructor(parts: SchedulerParts) {
    const { device, decoder, cache, batcher } = parts;
    this.#parts = parts;
    this.#bytesPerToken = cacheBytesPerToken(device, decoder.facts, cache);
    batcher.hooks = { makeRoom: (pass) => this.#makeRoom(pass), onPass: () => this.#passed() };
  }

  get status(): SchedulerStatus {
    return {
      running: [...this.#running.values()].filter(({ putOff }) => !putOff).length,
      waiting: this.#waiters.length,
      preemptions: this.#preemptions,
      keptTokens: this.#tree.tokens,
      cachedTokens: this.#cachedTokens,
    };
  }

  /** The text that was kept last. */
  get latest(): Sequence | undefined {
    return [...this.#kept].at(-1);
  }

  /** The text of these ids, or one that goes on from it, if it is kept. */
  kept(ids: Uint32Array): Sequence | undefined {
    const found = [...this.#kept].filter((each) => each.commonPrefix(ids) === ids.length);
    return found.find((each) => each.length === ids.length) ?? found.at(-1);
  }

  /**
   * A sequence that holds what is known of a prompt, when there is room for all of it. `finish` it
   * afterwards. Throws the signal's reason, and a QueueFullError when too many wait.
   */
  async admit(order: Order): Promise<Sequence> {
    const { ids } = order, runs = promptRuns(this.#parts.decoder.facts, ids.length);
    let admitted: Sequence | undefined;
    await this.#wait({
      ...{ ...order, runs, since: undefined },
      onAdmit: (known) => {
        const sequence = admitted = known ?? this.create(order.namespace);
        // The last token is read again in any case: its logits are not kept.
        sequence.keepPrefix(ids.subarray(0, -1));
        this.#cachedTokens += sequence.length;
        const age = ++this.#admissions, now = performance.now();
        this.#running.set(sequence, {
          ...{ order, age, started: now, putOff: false },
          ...{ length: sequence.length, since: now },
        });
      },
    });
    return admitted!;
  }

  /** A sequence that is not scheduled; the caller frees it. */
  create(namespace = ""): Sequence {
    const { device, decoder, cache, batcher, window } = this.#parts;
    const sequence = new Sequence(device, decoder, cache, { batcher, namespace });
    sequence.window = window;
    return sequence;
  }

  /** Keeps what a text has read for later ones. */
  finish(sequence: Sequence): Promise<void> {
    const { batcher } = this.#parts;
    batcher.leave(sequence);
    const running = this.#running.get(sequence);
    if (running) {
      const seconds = (performance.now() - running.started) / 1000;
      this.#answerSeconds += NEWS * (seconds - this.#answerSeconds);
    }
    return batcher.between(() => {
      this.#running.delete(sequence);
      this.keep(sequence);
      this.#admitAll();
    });
  }

  /** Keeps a sequence for texts that begin alike. Between passes. */
  keep(sequence: Sequence): void {
    if (this.#closed || sequence.length === 0 || sequence.states.length === 0) {
      this.#tree.remove(sequence);
      return sequence.free();
    }
    // The same text, read in the same way, is kept once.
    for (const each of this.#kept) if (isSameText(each, sequence)) this.#drop(each);
    this.#tree.update(sequence);
    this.#kept.add(sequence);
    // Each has a last page of its own, which is not full.
    const taken = () => (this.#tree.tokens + this.#kept.size * PAGE_TOKENS) * this.#bytesPerToken;
    const most = Math.min(this.#parts.device.limits.memoryBytes * KEPT_SHARE, KEPT_BYTES);
    for (const oldest of this.#kept) {
      if (this.#kept.size === 1 || (this.#kept.size <= MOST_KEPT && taken() <= most)) break;
      this.#drop(oldest);
    }
  }

  /** Ends everything; what has not finished is freed. Call it when nothing runs. */
  close(): void {
    this.#closed = true;
    for (const sequence of [...this.#kept, ...this.#running.keys()]) this.#drop(sequence);
    this.#running.clear();
  }

  /** Waits for room. */
  async #wait(waiter: Omit<Waiter, "settle">): Promise<void> {
    const { signal } = waiter, { batcher, maxQueue } = this.#parts;
    signal.throwIfAborted();
    const entry: Waiter = { ...waiter, settle: Promise.withResolvers() };
    const leave = () => {
      const at = this.#waiters.indexOf(entry);
      if (at >= 0) this.#waiters.splice(at, 1);
      entry.settle.reject(signal.reason);
    };
    signal.addEventListener("abort", leave);
    // Readers that stop pulling give no sign.
    const timer = setInterval(() => batcher.between(() => this.#admitAll()), IDLE_MS / 2);
    try {
      this.#waiters.push(entry);
      await Promise.race([batcher.between(() => this.#admitAll()), entry.settle.promise]);
      const waiting = this.#waiters.filter((each) => !this.#readByAnother(each));
      if (waiting.includes(entry) && entry.since === undefined && waiting.length > maxQueue) {
        this.#waiters.splice(this.#waiters.indexOf(entry), 1);
        throw new QueueFullError(waiting.length - 1, this.#retryAfter());
      }
      await entry.settle.promise;
    } finally {
      clearInterval(timer);
      signal.removeEventListener("abort", leave);
    }
  }

  /** Whole seconds until one of those that wait may be through. */
  #retryAfter(): number {
    const rounds = (this.#waiters.length + 1) / Math.max(1, this.#running.size);
    return Math.max(1, Math.ceil(rounds * this.#answerSeconds));
  }

  /** Admits those for whom there is room, in turn. Between passes. */
  #admitAll(): void {
    const turnOf = ({ namespace }: Waiter) => this.#lastAdmitted.get(namespace) ?? 0;
    for (;;) {
      const order = this.#waiters.toSorted((a, b) =>
        (a.since ?? Infinity) - (b.since ?? Infinity) || turnOf(a) - turnOf(b)
      );
      let admitted = false;
      for (const waiter of order) {
        if (this.#readByAnother(waiter)) continue;
        admitted = this.#tryAdmit(waiter);
        break;
      }
      if (!admitted) return;
    }
  }

  /** Whether another text is about to read more of the same beginning than is known. */
  #readByAnother({ ids, namespace, runs, answers, since }: Waiter): boolean {
    if (since !== undefined) return false;
    let known: number | undefined;
    for (const [sequence, { order, putOff }] of this.#running) {
      if (putOff || order.namespace !== namespace || sequence.length >= order.ids.length) continue;
      if (!sameRuns(promptRuns(sequence.decoder.facts, order.ids.length), runs)) continue;
      const planned = commonIds(ids, order.ids);
      known ??= this.#tree.find(namespace, ids, { runs, answers })?.length ?? 0;
      if (planned > known && planned > sequence.length && planned - known >= PAGE_TOKENS) return true;
    }
    return false;
  }

  #tryAdmit(waiter: Waiter): boolean {
    const { ids, namespace, runs, answers, since } = waiter;
    const running = [...this.#running.values()].filter(({ putOff }) => !putOff).length;
    if (running >= MOST_RUNNING) return false;
    const known = this.#tree.find(namespace, ids, { runs, answers });
    // And a page for each that runs: else one would soon have to give way again.
    const tokens = ids.length - (known?.length ?? 0) + PAGE_TOKENS * (running + 1);
    const enough = () => this.#free - this.#reserved >= tokens * this.#bytesPerToken;
    this.#evict(enough, known?.holder);
    for (const [sequence, running] of this.#running) {
      if (enough()) break;
      const idle = !running.putOff && !running.order.pinned && performance.now() - running.since > IDLE_MS;
      if (!idle || sequence === known?.holder) continue;
      this.#putOff(sequence, running);
      this.#evict(enough, known?.holder);
    }
    if (!enough() && running > 0) return false;
    this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
    if (since === undefined) this.#lastAdmitted.set(namespace, ++this.#admissions);
    try {
      waiter.onAdmit(known && this.#take(known.holder, known.length));
      waiter.settle.resolve();
    } catch (error) {
      waiter.settle.reject(error);
    }
    return true;
  }

  /** What another text holds, up to `length`. */
  #take(holder: Sequence, length: number): Sequence {
    const free = this.#kept.delete(holder);
    if (free && holder.length - length <= SHORT_TAIL && !forgets(holder)) {
      this.#tree.remove(holder);
      holder.truncate(length);
      return holder;
    }
    if (free) this.#kept.add(holder); // as used last
    const copy = holder.fork();
    copy.truncate(length);
    return copy;
  }

  /** Bytes that nothing takes. */
  get #free(): number {
    const { limits, memoryInUse } = this.#parts.device;
    return limits.memoryBytes * (1 - ACTIVATIONS) - memoryInUse;
  }

  /** Bytes that prompts of texts that run will take. */
  get #reserved(): number {
    let tokens = 0;
    for (const [{ length }, { order, putOff }] of this.#running) {
      if (!putOff) tokens += Math.max(0, order.ids.length - length);
    }
    return tokens * this.#bytesPerToken;
  }

  /**
   * Gives back the ends of kept texts, of those used least recently first, until `enough()` or none but `but`
   * is left.
   */
  #evict(enough: () => boolean, but?: Sequence): void {
    for (const oldest of [...this.#kept]) {
      if (enough()) return;
      if (oldest !== but) this.#drop(oldest);
    }
  }

  #drop(sequence: Sequence): void {
    this.#kept.delete(sequence);
    this.#tree.remove(sequence);
    sequence.free();
  }

  /** Room for the tokens of a pass. False when a text had to give its memory up. */
  #makeRoom(pass: readonly Portion<WaitingAsk>[]): boolean {
    const pages = pass.reduce((sum, { of: { start }, tokens }) => {
      // A page that is shared is copied before it is changed.
      return sum + Math.ceil((start + tokens) / PAGE_TOKENS) - Math.floor(start / PAGE_TOKENS);
    }, 0);
    const enough = () => this.#free >= pages * PAGE_TOKENS * this.#bytesPerToken;
    if (enough()) return true;
    this.#evict(enough);
    if (enough()) return true;
    const active = [...this.#running].filter(([, { putOff }]) => !putOff);
    const youngest = active.filter(([, { order }]) => !order.pinned)
      .reduce<typeof active[number] | undefined>((a, b) => a && a[1].age > b[1].age ? a : b, undefined);
    if (active.length < 2 || !youngest) return true; // the device says what is missing
    this.#putOff(...youngest);
    return false;
  }

  /** Takes the memory of a text that runs; it waits for it when it goes on. */
  #putOff(sequence: Sequence, running: Running): void {
    this.#preemptions++;
    running.putOff = true;
    this.#tree.remove(sequence);
    const { namespace, signal } = running.order;
    const heir = sequence.giveUp((takeBack) => {
      const ids = Uint32Array.from(sequence.ids), { runs } = sequence;
      return this.#wait({
        ...{ ids, runs, namespace, signal, answers: false, since: running.age },
        onAdmit: (known) => {
          running.putOff = false;
          takeBack(known);
        },
      });
    });
    this.keep(heir);
  }

  /**
   * Windows leave pages behind as a text grows, and recurrent states forget where they were: a fork holds on
   * to this place, for texts that part from it here.
   */
  #keepPlace(sequence: Sequence, { order, length: before }: Running): void {
    const { length } = sequence, { ids } = order;
    if (this.#closed || before >= ids.length || sequence.window) return;
    const passed = Math.floor(before / RETURN_TOKENS) < Math.floor(length / RETURN_TOKENS) ||
      length >= ids.length;
    if (passed && forgets(sequence)) this.keep(sequence.fork());
  }

  /** Pages that were read are known to others from now on. */
  #passed(): void {
    for (const [sequence, running] of this.#running) {
      if (running.putOff) continue;
      this.#tree.update(sequence);
      if (sequence.length !== running.length) running.since = performance.now();
      this.#keepPlace(sequence, running);
      running.length = sequence.length;
    }
    if (this.#waiters.length > 0) this.#admitAll();
  }
}

/** Whether it cannot go back everywhere: see `returnPoint`. */
function forgets({ states }: Sequence): boolean {
  return states.some((state) => isRecurrent(state) || state.window !== undefined);
}

function commonIds(a: Uint32Array, b: Uint32Array): number {
  let common = 0;
  while (common < a.length && common < b.length && a[common] === b[common]) common++;
  return common;
}

function isSameText(a: Sequence, b: Sequence): boolean {
  if (a === b || a.length !== b.length || a.namespace !== b.namespace || a.runs.length !== b.runs.length) {
    return false;
  }
  const sameRead = a.runs.every((run, i) => {
    const { until, decoded, frequencies } = b.runs[i]!;
    return run.until === until && run.decoded === decoded && run.frequencies === frequencies;
  });
  return sameRead && a.ids.every((id, i) => id === b.ids[i]);
}

function sameRuns([a]: readonly Run[], [b]: readonly Run[]): boolean {
  return a?.frequencies === b?.frequencies && a?.decoded === b?.decoded;
}
