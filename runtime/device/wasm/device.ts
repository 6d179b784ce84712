/**
 * The WASM device: `TensorDevice` over the WASM backend.
 *
 * @module
 */
import { TensorDevice } from "../tensor_device.ts";
import { WasmBackend } from "./backend.ts";
import { loadCompiled } from "./compiled.ts";
import { SharedMemory } from "./memory.ts";
import { Threads } from "./threads.ts";

export interface WasmOptions {
  /** Worker threads; default: all the machine's. */
  readonly threads?: number | undefined;
  /** 32 or 64 bits of address: up to 4 or 16 GiB of memory. Default 32. */
  readonly bits?: 32 | 64 | undefined;
  /** Bytes that the machine can give, if less. */
  readonly machineBytes?: number | undefined;
}

/** Opens a WASM device. Throws an Error where the platform lacks shared memory or WASM SIMD. */
export async function openWasmDevice(
  { threads, bits = 32, machineBytes }: WasmOptions = {},
): Promise<WasmDevice> {
  const count = threads ?? globalThis.navigator?.hardwareConcurrency ?? 1;
  if (!Number.isInteger(count) || count < 1 || count > 256) {
    throw new RangeError(`Cannot open the wasm device: threads must be 1 to 256, not ${count}`);
  }
  if (typeof SharedArrayBuffer === "undefined") {
    throw new Error(
      "Cannot open the wasm device: this page has no shared memory: " +
        "serve it with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp",
    );
  }
  const compiled = await loadCompiled(bits);
  const memory = new SharedMemory(bits, machineBytes);
  return new WasmDevice(new WasmBackend(memory, await Threads.start(compiled, { memory, count })));
}

export class WasmDevice extends TensorDevice<WasmBackend> {
  /**
   * Runs a loop that does nothing but multiply-adds or int8 dots on registers (`amount` iterations of 96
   * flops or 256 operations) or reads `amount` bytes, `items` times over all threads. For benches.
   */
  measureRoof(
    kind: "multiplyAdd" | "dot" | "read",
    { amount, items }: { readonly amount: number; readonly items: number },
  ): Promise<void> {
    return this.step(async () => {
      const buffer = kind === "read" ? this.backend.roofBuffer(amount * items) : 0;
      const out = this.backend.make(items * 4).address;
      this.backend.recorder.record("roof", { kind, amount, items, buffer, out });
      await this.flush();
    });
  }

  /**
   * Runs `body` and tells the seconds that each kernel took in it. Commands run apart meanwhile. For benches.
   */
  async profile(body: () => Promise<unknown>): Promise<Map<string, number>> {
    const { recorder } = this.backend, profile = recorder.profile = new Map<string, number>();
    try {
      await body();
      return profile;
    } finally {
      recorder.profile = undefined;
    }
  }
}
