/**
 * Streams a weight into shared memory: a staging buffer takes rows as they come from the file, and kernels
 * convert and pack them on all threads.
 *
 * @module
 */
import type { WeightSource } from "../backend.ts";
import { PANEL } from "../formats/format.ts";
import { FORMATS } from "../formats/mod.ts";
import type { Shape, WeightDType } from "../tensor.ts";
import { CommandList } from "./command_list.ts";
import { WASM_LAYOUT } from "./layout.ts";
import type { SharedMemory } from "./memory.ts";
import type { Range } from "./signature.ts";
import type { Threads } from "./threads.ts";

/** Bytes of the file that are converted at a time. */
const STAGING = 8 << 20;
/** Words of a list with one command. */
const LIST_WORDS = 16;

/** The weight in `dtype`: matrices in panels, vectors as they are. Keeps no memory when it throws. */
export async function uploadWeight(
  source: WeightSource,
  { memory, threads, dtype, shape }: {
    readonly memory: SharedMemory;
    readonly threads: Threads;
    readonly dtype: WeightDType;
    readonly shape: Shape;
  },
): Promise<Range> {
  const plain = shape.length === 1;
  const inputs = shape.at(-1)!, outputs = shape.at(-2) ?? 1;
  const width = source.dtype === "f32" ? 4 : 2, rowBytes = inputs * width;
  const oneMatrix = WASM_LAYOUT.weight(dtype, plain ? shape : [outputs, inputs]);
  const batch = Math.max(PANEL, Math.floor(STAGING / Math.max(rowBytes, 1) / PANEL) * PANEL);
  const stagingBytes = Math.ceil(Math.min(batch, outputs) * rowBytes / 4) * 4; // a word follows it

  const held: Range[] = [];
  const take = (bytes: number) => {
    const range = { address: memory.allocate(bytes), bytes };
    held.push(range);
    return range;
  };
  let list: CommandList | undefined;
  try {
    const weight = take(WASM_LAYOUT.weight(dtype, shape)), staging = take(stagingBytes + 4).address;
    list = new CommandList(memory, threads, LIST_WORDS);
    const flag = staging + stagingBytes;
    memory.u32(flag, 1)[0] = 0;
    let filled = 0, row = 0, matrix = 0;
    for await (const chunk of source.chunks) {
      for (let taken = 0; taken < chunk.length;) {
        const room = Math.min(batch, outputs - row) * rowBytes - filled;
        const part = chunk.subarray(taken, taken + room);
        memory.u8(staging + filled, part.length).set(part);
        filled += part.length;
        taken += part.length;
        if (part.length < room) continue;
        const rows = filled / rowBytes;
        const begin = plain ? 0 : row / PANEL * FORMATS[dtype].wasm.panelBytes(inputs);
        list.add("upload", {
          source: staging,
          sourceFormat: source.dtype,
          rows,
          inputs,
          destination: weight.address + matrix * oneMatrix + begin,
          format: dtype,
          plain,
          flag,
        });
        await list.run();
        list.clear();
        filled = 0;
        row += rows;
        if (row < outputs) continue;
        row = 0;
        matrix++;
      }
    }
    if (memory.u32(flag, 1)[0] !== 0) {
      throw new RangeError("Cannot upload a tensor: it has numbers that are not finite (NaN or infinity)");
    }
    return held.shift()!;
  } finally {
    // All but the weight, once that is returned.
    for (const { address, bytes } of held) memory.free(address, bytes);
    list?.free();
  }
}
