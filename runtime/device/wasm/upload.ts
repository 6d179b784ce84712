/**
 * Streams a weight into shared memory: a staging buffer takes rows as they come from the file, and kernels convert and
 * pack them on all threads.
 *
 * @module
 */
import type { Shape, Tensor, TensorSource, WeightDType } from "../device.ts";
import type { SharedMemory } from "./memory.ts";
import type { Recorder } from "./recorder.ts";
import { BLOCK, matrixBytes, PANEL, panelBytes, WasmTensor } from "./tensor.ts";

/** Bytes of the file that are converted at a time. */
const STAGING = 8 << 20;

export async function uploadTensor(
  source: TensorSource,
  { memory, recorder, dtype, shape }: {
    memory: SharedMemory;
    recorder: Recorder;
    dtype: WeightDType;
    shape: Shape;
  },
): Promise<Tensor> {
  if (shape.length < 1 || shape.length > 3) {
    throw new RangeError(`Cannot upload a tensor of shape [${shape}]: its rank must be 1, 2 or 3`);
  }
  const vector = shape.length === 1;
  const inputs = shape.at(-1)!,
    outputs = vector ? 1 : shape.at(-2)!,
    matrices = shape.length === 3 ? shape[0]! : 1;
  if ((dtype === "q8" || dtype === "q4") && !vector && inputs % BLOCK !== 0) {
    throw new RangeError(`Cannot upload [${shape}] as ${dtype}: ${inputs} is not a multiple of ${BLOCK}`);
  }
  const width = source.dtype === "f32" ? 4 : 2;
  const rowBytes = inputs * width;
  const oneMatrix = vector ? inputs * 4 : matrixBytes(dtype, outputs, inputs);
  const bytes = oneMatrix * matrices;
  const x = new WasmTensor(vector ? "f32" : dtype, shape, memory.allocate(bytes), bytes);
  const batch = Math.max(PANEL, Math.floor(STAGING / Math.max(rowBytes, 1) / PANEL) * PANEL);
  const stagingBytes = Math.ceil(Math.min(batch, outputs) * rowBytes / 4) * 4; // a word follows it
  let staging: number | undefined;
  try {
    staging = memory.allocate(stagingBytes + 4);
    const flag = staging + stagingBytes;
    memory.u32(flag, 1)[0] = 0;
    let filled = 0, row = 0, matrix = 0;
    const convert = async () => {
      const rows = filled / rowBytes;
      const at = x.address + matrix * oneMatrix +
        (vector ? 0 : row / PANEL * panelBytes(dtype, inputs));
      recorder.record("upload", {
        source: staging!,
        sourceFormat: source.dtype,
        rows,
        inputs,
        destination: at,
        format: dtype,
        plain: vector,
        flag,
      });
      await recorder.run();
      filled = 0;
      row += rows;
      if (row === outputs) {
        row = 0;
        matrix++;
      }
    };
    for await (const chunk of source.chunks) {
      let taken = 0;
      while (taken < chunk.length) {
        if (matrix === matrices || rowBytes === 0) throw tooMany(shape);
        const room = Math.min(batch, outputs - row) * rowBytes - filled;
        const part = chunk.subarray(taken, taken + room);
        memory.u8(staging + filled, part.length).set(part);
        filled += part.length;
        taken += part.length;
        if (part.length === room) await convert();
      }
    }
    if (filled > 0 || (rowBytes > 0 && outputs > 0 && matrix !== matrices)) {
      const count = (matrix * outputs + row) * inputs + filled / width;
      throw new RangeError(
        `Cannot upload a tensor of shape [${shape}]: ${count} numbers came, ${
          shape.reduce((a, b) => a * b, 1)
        } are needed`,
      );
    }
    if (memory.u32(flag, 1)[0] !== 0) {
      throw new RangeError("Cannot upload a tensor: it has numbers that are not finite (NaN or infinity)");
    }
    return x;
  } catch (error) {
    recorder.clear();
    memory.free(x.address, x.bytes);
    throw error;
  } finally {
    if (staging !== undefined) memory.free(staging, stagingBytes + 4);
  }
}

function tooMany(shape: Shape): RangeError {
  return new RangeError(
    `Cannot upload a tensor of shape [${shape}]: more than ${shape.reduce((a, b) => a * b, 1)} numbers came`,
  );
}
