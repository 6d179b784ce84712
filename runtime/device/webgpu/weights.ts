/**
 * Uploads weights: packs the numbers of a file on the way, splits a matrix over buffers below the binding
 * limit.
 *
 * @module
 */
import type { WeightSource } from "../backend.ts";
import { countOf, type Shape, type WeightDType } from "../tensor.ts";
import { GpuWeight, type WeightPart } from "./gpu.ts";
import { formatBytes, type Memory, type Region } from "./memory.ts";
import { decodeNumbers, packRows, rowBytes } from "./pack.ts";

/** Bytes packed at a time: enough to make a write worthwhile, little beside the model. */
const BATCH_BYTES = 2 ** 22;

/** Streams `source` into a resident weight. Its numbers are counted, and the shape fits the format. */
export async function uploadWeight(
  queue: GPUQueue,
  memory: Memory,
  { dtype, shape, source }: {
    readonly dtype: WeightDType;
    readonly shape: Shape;
    readonly source: WeightSource;
  },
): Promise<GpuWeight> {
  const columns = shape.at(-1)!, total = countOf(shape), rows = columns === 0 ? 0 : total / columns;
  const bytes = rowBytes(dtype, columns);
  const parts = allocate(memory, rows, bytes, `a ${dtype} weight [${shape}]`);
  try {
    await memory.checked();
    await inRows(source, columns, total, (row, numbers) => {
      const packed = packRows(numbers, dtype, columns), count = numbers.length / columns;
      for (const part of parts) {
        const from = Math.max(row, part.first), to = Math.min(row + count, part.first + part.rows);
        if (from >= to) continue;
        const put = (region: Region | undefined, data: Uint8Array<ArrayBuffer>, size: number) => {
          if (region) {
            const at = (from - part.first) * size;
            queue.writeBuffer(region.buffer, at, data, (from - row) * size, (to - from) * size);
          }
        };
        put(part.numbers, packed.numbers, bytes.numbers);
        put(part.scales, packed.scales, bytes.scales);
      }
    });
  } catch (error) {
    releaseParts(memory, parts);
    throw error;
  }
  return new GpuWeight(bytes.numbers / 16, parts);
}

/** Gives the buffers of a weight back. */
export function releaseParts(memory: Memory, parts: readonly WeightPart[]): void {
  for (const { numbers, scales } of parts) for (const r of [numbers, scales]) if (r) memory.destroy(r);
}

/** Calls `use` with whole rows as they arrive. */
async function inRows(
  source: WeightSource,
  columns: number,
  total: number,
  use: (row: number, numbers: Float32Array) => void,
): Promise<void> {
  const batch = Math.max(1, Math.floor(BATCH_BYTES / 4 / Math.max(columns, 1))) * columns;
  const pending = new Float32Array(Math.min(batch, total));
  let filled = 0, row = 0;
  for await (const chunk of source.chunks) {
    let numbers = decodeNumbers(chunk, source.dtype);
    while (numbers.length > 0) {
      const count = Math.min(numbers.length, pending.length - filled);
      pending.set(numbers.subarray(0, count), filled);
      filled += count;
      numbers = numbers.subarray(count);
      if (filled === pending.length) {
        use(row, pending);
        row += filled / columns;
        filled = 0;
      }
    }
  }
  if (filled > 0) use(row, pending.subarray(0, filled));
}

function allocate(
  memory: Memory,
  rows: number,
  bytes: { numbers: number; scales: number },
  what: string,
): WeightPart[] {
  const { bindingBytes, bufferBytes } = memory.limits;
  const most = Math.max(Math.floor(Math.min(bindingBytes, bufferBytes) / Math.max(bytes.numbers, 1)), 1);
  const parts: WeightPart[] = [];
  try {
    for (let first = 0; first < Math.max(rows, 1); first += most) {
      const count = Math.min(most, Math.max(rows - first, 0));
      const numbers = memory.create(Math.max(count * bytes.numbers, 16), what);
      parts.push({ first, rows: count, numbers, scales: undefined });
      if (bytes.scales > 0) {
        const scales = memory.create(Math.max(count * bytes.scales, 16), what);
        parts[parts.length - 1] = { first, rows: count, numbers, scales };
      }
    }
  } catch (error) {
    releaseParts(memory, parts);
    const whole = formatBytes(rows * (bytes.numbers + bytes.scales));
    if (error instanceof RangeError && parts.length > 0) {
      throw new RangeError(`${error.message} (part of ${whole})`);
    }
    throw error;
  }
  return parts;
}
