/**
 * What goes wrong on a GPU between two waits, in words: it was lost, or it reports an error of a command.
 *
 * @module
 */
import { formatBytes, type Memory } from "./memory.ts";

export class Failures {
  readonly #memory: Memory;
  readonly #loss: Promise<GPUDeviceLostInfo>;
  #lost: GPUDeviceLostInfo | undefined;
  /** The first one since the last check. */
  #message: string | undefined;

  constructor(device: GPUDevice, memory: Memory) {
    this.#memory = memory;
    this.#loss = device.lost.then((info) => this.#lost = info);
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault?.();
      this.#message ??= (event as GPUUncapturedErrorEvent).error.message;
    });
  }

  /**
   * Waits for `work`, or until the GPU is lost: what waits for a lost GPU may wait for ever. Rejects with
   * what went wrong meanwhile, in words.
   */
  async finished<T>(action: string, work: Promise<T>): Promise<T> {
    let result: T | undefined;
    try {
      result = await Promise.race([work, this.#loss]) as T;
    } catch (cause) {
      // A loss is often told only after the errors that it causes.
      await Promise.race([this.#loss, new Promise((done) => setTimeout(done))]);
      await this.check(action);
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`Cannot ${action}: WebGPU reports: ${message}`, { cause });
    }
    await this.check(action);
    return result;
  }

  /** Throws what went wrong since the last time. */
  async check(action: string): Promise<void> {
    this.mustLive(action);
    const message = this.#message;
    this.#message = undefined;
    await Promise.race([this.#memory.checked(), this.#loss]);
    this.mustLive(action);
    if (message === undefined) return;
    if (/out.?of.?memory|not enough memory/i.test(message)) {
      throw new RangeError(
        `Cannot ${action}: the GPU is out of memory with ${formatBytes(this.#memory.inUse)} in use: ` +
          "take smaller weights (q8 or q4), a shorter context or an f16 cache",
      );
    }
    throw new Error(`Cannot ${action}: WebGPU reports: ${message}`);
  }

  /** Throws an Error when the GPU was lost. */
  mustLive(action: string): void {
    if (!this.#lost) return;
    const { reason, message } = this.#lost;
    throw new Error(
      `Cannot ${action}: the GPU was lost (${reason}: ${message}) with ${
        formatBytes(this.#memory.inUse)
      } in use: ` +
        "open another device and load the model again, with smaller weights (q8 or q4) or a shorter context if it was full",
    );
  }
}
