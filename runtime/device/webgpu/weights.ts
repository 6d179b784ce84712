/**
 * Uploads weights: packs the numbers of a file on the way, splits a matrix over buffers below the binding limit.
 *
 * @module
 */
import type { Shape, TensorSource, WeightDType } from "../device.ts";
import { formatBytes, type Memory, type Region } from "./memory.ts";
import { decodeNumbers, packRows, QUANT_BLOCK, rowBytes } from "./pack.ts";
import { countOf, GpuTensor, type WeightPart } from "./tensor.ts";

/** Bytes packed at a time: enough to make a write worthwhile, little beside the model. */
const BATCH_BYTES = 2 ** 22;

/** Streams `source` into a resident tensor. */
export async function uploadWeight(
  queue: GPUQueue,
  memory: Memory,
  { dtype, shape, source }: {
    readonly dtype: WeightDType;
    readonly shape: Shape;
    readonly source: TensorSource;
  },
): Promise<GpuTensor> {
  const held = shape.length === 1 ? "f32" : dtype;
  const columns = shape.at(-1) ?? 0;
  const total = countOf(shape);
  if (shape.length < 1 || shape.length > 3) {
    throw new RangeError(`Cannot upload [${shape}]: a weight has one to three dimensions`);
  }
  if ((held === "q8" || held === "q4") && columns % QUANT_BLOCK !== 0) {
    throw new RangeError(
      `Cannot upload [${shape}] as ${held}: ${columns} is not a multiple of ${QUANT_BLOCK}: take f16 or f32`,
    );
  }
  const rows = columns === 0 ? 0 : total / columns;
  const bytes = rowBytes(held, columns);
  const parts = allocate(memory, rows, bytes, `a ${held} weight [${shape}]`);
  const release = () => {
    for (const { numbers, scales } of parts) for (const r of [numbers, scales]) if (r) memory.destroy(r);
  };
  try {
    await memory.checked();
    const write = (row: number, packed: ReturnType<typeof packRows>, count: number) => {
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
    };
    const got = await inRows(source, columns, total, (row, numbers) => {
      write(row, packRows(numbers, held, columns), numbers.length / columns);
    });
    if (got !== total) {
      throw new RangeError(
        `Cannot upload [${shape}]: the source has ${
          got > total ? "more" : `only ${got}`
        } numbers, not ${total}: ` +
          "download the file again",
      );
    }
  } catch (error) {
    release();
    throw error;
  }
  const stride = bytes.numbers / 16;
  const plain = held === "f32" && (columns % 4 === 0 || rows === 1) && parts.length === 1;
  return new GpuTensor(held, shape, plain ? parts[0]!.numbers : undefined, { stride, parts });
}

/** Calls `use` with whole rows as they arrive; returns how many numbers came (or one more than wanted). */
async function inRows(
  source: TensorSource,
  columns: number,
  total: number,
  use: (row: number, numbers: Float32Array) => void,
): Promise<number> {
  const batch = Math.max(1, Math.floor(BATCH_BYTES / 4 / Math.max(columns, 1))) * columns;
  const pending = new Float32Array(Math.min(batch, total));
  let filled = 0, row = 0, got = 0;
  for await (const chunk of source.chunks) {
    let numbers = decodeNumbers(chunk, source.dtype);
    got += numbers.length;
    if (got > total) return got;
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
  if (filled > 0 && filled % columns === 0) use(row, pending.subarray(0, filled));
  return got;
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
    for (const { numbers, scales } of parts) for (const r of [numbers, scales]) if (r) memory.destroy(r);
    const whole = formatBytes(rows * (bytes.numbers + bytes.scales));
    if (error instanceof RangeError && parts.length > 0) {
      throw new RangeError(`${error.message} (part of ${whole})`);
    }
    throw error;
  }
  return parts;
}
