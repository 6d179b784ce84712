/**
 * `linear` and `embed` on the WASM device: few rows read each matrix once, many go in tiles.
 *
 * @module
 */
import type { Kernels, Recording } from "../../backend.ts";
import { PANEL } from "../../formats/format.ts";
import { FORMATS } from "../../formats/mod.ts";
import { FEW_ROWS } from "../../operations/operation.ts";
import type { DeviceTensor, WeightDType } from "../../tensor.ts";
import type { Recorder } from "../recorder.ts";
import { addressOf } from "../signature.ts";

/** Numbers of a quantized matrix that takes no time in any case, so that its rows always go one by one. */
const SMALL_MATRIX = 1 << 17;
/** Numbers of activations up to which each thread packs them for itself: 1.3 MB of its scratch. */
const SMALL_ACTIVATIONS = 1 << 19;
/** Items per thread, so that one which was interrupted can be made up for. */
const ITEMS_PER_THREAD = 2;

export function linearKernels(recorder: Recorder): Pick<Kernels, "linear" | "embed"> {
  return {
    embed({ table, ids }, [y], recording) {
      recorder.record("embed", {
        table,
        format: table.dtype,
        inputs: table.features,
        ids: recording.constant([ids.length], ids),
        count: ids.length,
        y: y!,
      });
    },

    linear({ x, weight, bias = 0 }, [y], recording) {
      const [outputs, inputs] = weight.shape as [number, number], { rows } = x;
      const format = weight.dtype as WeightDType, { rows: packing, tiles } = FORMATS[format].wasm;
      const few = rowsOneByOne(weight, rows, recording.few);
      const atOnce = packing ? Math.max(FEW_ROWS, Math.floor(SMALL_ACTIVATIONS / inputs)) : few;
      for (let from = 0; from < few; from += atOnce) {
        recorder.record("linear_rows", {
          x: addressOf(x) + 4 * from * inputs,
          rows: Math.min(atOnce, few - from),
          inputs,
          weights: weight,
          format,
          outputs,
          bias,
          y: addressOf(y!) + 4 * from * outputs,
          run: panelsInItem(outputs, recorder.threads.count),
          bits: bitsOfRows(weight),
        }, { reads: x, writes: y! });
      }
      if (few === rows) return;
      const packed = packGroups(x, few, tiles, { recorder, recording });
      const common = {
        x: packed,
        rows: rows - few,
        inputs,
        weights: weight,
        outputs,
        bias,
        y: addressOf(y!) + 4 * few * outputs,
      };
      recorder.record(tiles.kernel, packing ? common : { ...common, format }, { reads: packed, writes: y! });
    },
  };
}

/** How many of the first rows go one by one; `few` is what the recording says about it. */
function rowsOneByOne(weight: DeviceTensor, rows: number, few: number | undefined): number {
  const [outputs, inputs] = weight.shape as [number, number];
  const small = FORMATS[weight.dtype as WeightDType].wasm.rows !== undefined &&
    inputs * outputs <= SMALL_MATRIX;
  if (few === undefined) return rows <= FEW_ROWS || small && rows * inputs <= SMALL_ACTIVATIONS ? rows : 0;
  return small ? rows : Math.min(few, rows);
}

/** Rows from `first` on as the tiled kernel wants them; made once for all that multiply the same tensor. */
function packGroups(
  x: DeviceTensor,
  first: number,
  { pack, groupBytesPerInput }: { readonly pack: string; readonly groupBytesPerInput: number },
  { recorder, recording }: { readonly recorder: Recorder; readonly recording: Recording },
): DeviceTensor {
  const inputs = x.features, rows = x.rows - first;
  return recording.form(x, `${pack} from ${first}`, () => {
    const bytes = Math.ceil(rows / 4) * inputs * groupBytesPerInput;
    const y = recording.make("f32", [bytes / 4], bytes);
    recorder.record(pack, { x: addressOf(x) + 4 * first * inputs, rows, inputs, y });
    return y;
  });
}

/**
 * Panels of a matrix in one item of a kernel of rows: few long runs, because memory is fastest in long runs.
 */
export function panelsInItem(outputs: number, threads: number): number {
  return Math.max(1, Math.ceil(Math.ceil(outputs / PANEL) / (ITEMS_PER_THREAD * threads)));
}

/** Bits that are kept of activations where rows meet this weight one by one. */
export function bitsOfRows(weight: DeviceTensor): number {
  const numbers = weight.shape.at(-1)! * weight.shape.at(-2)!;
  return FORMATS[weight.dtype as WeightDType].wasm.rows?.bits(numbers) ?? 15;
}
