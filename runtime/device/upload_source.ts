/**
 * What `upload` refuses: shapes and formats that do not fit, and sources with more or fewer numbers than the
 * shape.
 *
 * @module
 */
import type { WeightSource } from "./backend.ts";
import { FORMATS, WEIGHT_DTYPES } from "./formats/mod.ts";
import { countOf, type Shape, type TensorSource, type WeightDType } from "./tensor.ts";

const SOURCE_BYTES = { f32: 4, f16: 2, bf16: 2 } as const;

/** Throws a RangeError where a weight cannot be held in this shape and format. */
export function checkUpload(dtype: WeightDType, shape: Shape): void {
  const name = `[${shape}] as ${dtype}`;
  if (!WEIGHT_DTYPES.includes(dtype)) {
    throw new RangeError(`Cannot upload ${name}: weights are held as ${WEIGHT_DTYPES.join(", ")}`);
  }
  if (shape.length < 1 || shape.length > 3 || !shape.every((n) => Number.isInteger(n) && n >= 0)) {
    throw new RangeError(`Cannot upload ${name}: a shape is one to three whole numbers`);
  }
  const { block } = FORMATS[dtype];
  if (shape.length > 1 && shape.at(-1)! % block !== 0) {
    throw new RangeError(`Cannot upload ${name}: ${shape.at(-1)} is not a multiple of ${block}`);
  }
}

/** The source with its numbers counted: iteration throws a RangeError when they are too many or too few. */
export function checkSource(shape: Shape, { dtype, chunks }: TensorSource): WeightSource {
  const bytes = SOURCE_BYTES[dtype], count = countOf(shape);
  if (bytes === undefined) {
    throw new TypeError(`Cannot upload [${shape}]: numbers arrive as f32, f16 or bf16, not ${dtype}`);
  }
  async function* counted() {
    let filled = 0;
    for await (const chunk of chunks) {
      if (chunk.length % bytes !== 0) {
        throw new RangeError(
          `Cannot upload [${shape}]: a piece of ${chunk.length} bytes ends within a number`,
        );
      }
      filled += chunk.length / bytes;
      if (filled > count) throw new RangeError(`Cannot upload [${shape}]: more than ${count} numbers came`);
      if (chunk.length > 0) yield chunk;
    }
    if (filled < count) {
      throw new RangeError(`Cannot upload [${shape}]: ${filled} numbers came, not ${count}`);
    }
  }
  return { dtype, chunks: counted() };
}
