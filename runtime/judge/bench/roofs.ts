/**
 * What this machine can do at most: multiply-adds and dots from registers, and reading memory.
 *
 * @module
 */
import type { WasmDevice } from "../../device/open_device.ts";
import { secondsOf } from "./measure.ts";

export interface Roofs {
  readonly f32Gflops: number;
  readonly int8Gops: number;
  readonly readGbs: number;
}

/** Larger than every cache. */
const READ_BYTES = 256 << 20;
const ITERATIONS = 4_000_000;

/** Measures the roofs of a device with all its threads. */
export async function measureRoofs(device: WasmDevice, runs = 5): Promise<Roofs> {
  const items = device.limits.threads * 4;
  const rate = async (kind: "multiplyAdd" | "dot" | "read", amount: number, perItem: number) => {
    const seconds = await secondsOf(() => device.measureRoof(kind, { amount, items }), runs);
    return items * perItem / seconds / 1e9;
  };
  const bytes = Math.floor(READ_BYTES / items / 128) * 128;
  const roofs = {
    f32Gflops: await rate("multiplyAdd", ITERATIONS, ITERATIONS * 96),
    int8Gops: await rate("dot", ITERATIONS, ITERATIONS * 256),
    readGbs: await rate("read", bytes, bytes),
  };
  return roofs;
}
