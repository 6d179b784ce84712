/**
 * Matrix products: `linear`, `embed` and experts, with weights in every dtype.
 *
 * The reference has the same rounded weights, so that only the arithmetic differs.
 */
import type { Device, WeightDType } from "../../runtime/device/device.ts";
import { roundWeights } from "../reference/quantize.ts";
import { compute, concat, type DeviceCase, withWeights } from "./case.ts";

const WEIGHTS: readonly WeightDType[] = ["f32", "f16", "bf16", "q8", "q4"];
const QUANTIZED: readonly WeightDType[] = ["q8", "q4"];

/**
 * Of Σ|x·w|: rounding of f32 sums of up to some thousand terms grows like √n · 6e-8, worst seen about 3e-6.
 */
const F32_SUM = 1e-5;
/** A number taken from a table: one multiplication by a scale in f32. */
const F32_ONCE = 1e-6;
/**
 * webgpu multiplies large f16 weights in f16 from 9 rows on: x, products and sums of 16 are rounded by up to
 * 2⁻¹² each.
 */
const F16_SUM = 1e-3;
/**
 * Quantized weights meet activations that are rounded per block of 32 to integers in ± so many: wasm by the
 * row with few rows and small matrices, and in tiles with more; webgpu from 9 rows on with large weights.
 * Each rounding is off by at most half a step and uniform, so the sum has deviation step · |w| / √12; six
 * deviations are met about once in 10⁹ numbers.
 */
const EXACT_LEVELS = 32767, ROW_LEVELS = { q8: EXACT_LEVELS, q4: 127 }, TILE_LEVELS = { q8: 63, q4: 127 };
const WEBGPU_LEVELS = 127;
/** Numbers of a matrix, and of activations, up to which wasm keeps 15 bits of the activations. */
const SMALL_MATRIX = 1 << 17, SMALL_ACTIVATIONS = 1 << 19;
const DEVIATIONS = 6;
const BLOCK = 32;

function largestOf(x: Float32Array): number {
  return x.reduce((largest, v) => Math.max(largest, Math.abs(v)), 0);
}

/** How a device rounds x before it multiplies. */
interface Arithmetic {
  /** Of Σ|x·w|. */
  readonly sum: number;
  /** Integers that the largest of a block of 32 activations becomes. */
  readonly levels: number;
}

/** Largest difference allowed for x · w of one row. */
function dotBound(
  x: Float32Array,
  w: Float64Array,
  { sum: ofSum, levels, bias = 0 }: Arithmetic & { readonly bias?: number | undefined },
): number {
  let sum = Math.abs(bias), variance = 0;
  for (let i = 0; i < x.length; i++) sum += Math.abs(x[i]! * w[i]!);
  if (levels < Infinity) {
    for (let start = 0; start < x.length; start += BLOCK) {
      const step = largestOf(x.subarray(start, start + BLOCK)) / levels;
      for (const v of w.subarray(start, start + BLOCK)) variance += v * v * step * step / 12;
    }
  }
  return ofSum * sum + DEVIATIONS * Math.sqrt(variance) + 1e-30;
}

function arithmeticOf(
  device: Device["name"],
  dtype: WeightDType,
  [rows, size, out]: readonly [number, number, number],
): Arithmetic {
  const large = device === "webgpu"
    ? size >= 512 && out >= 512
    : size * out > SMALL_MATRIX || rows * size > SMALL_ACTIVATIONS;
  const many = rows > 8 && large;
  return {
    sum: device === "webgpu" && dtype === "f16" && many ? F16_SUM : F32_SUM,
    levels: dtype === "q8" || dtype === "q4"
      ? levelsOf(device, dtype, { many, numbers: size * out })
      : Infinity,
  };
}

function levelsOf(
  device: Device["name"],
  dtype: "q8" | "q4",
  { many, numbers }: { readonly many: boolean; readonly numbers: number },
): number {
  if (device === "webgpu") return many ? WEBGPU_LEVELS : Infinity;
  if (device === "reference") return Infinity;
  return many ? TILE_LEVELS[dtype] : numbers > SMALL_MATRIX ? ROW_LEVELS[dtype] : EXACT_LEVELS;
}

/**
 * [rows, in, out] around the tiles of 4 rows, 8 columns, 32 weights and 64 tokens, primes, and two of a real
 * size.
 */
const SHAPES = [
  [0, 64, 8],
  [1, 32, 1],
  [1, 64, 7],
  [1, 2048, 301],
  [2, 32, 8],
  [3, 96, 9],
  [4, 64, 8],
  [5, 160, 17],
  [7, 128, 33],
  [8, 64, 64],
  [63, 32, 13],
  [64, 96, 65],
  [65, 64, 40],
  [131, 512, 72],
  [70, 576, 516],
] as const;
/** More numbers than SMALL_MATRIX or SMALL_ACTIVATIONS: the tiled kernels of quantized weights. */
const LARGE_SHAPES = [[9, 256, 520], [10, 224, 600], [11, 192, 703], [12, 160, 824], [67, 160, 833], [
  259,
  128,
  1030,
], [4203, 128, 9]] as const;
/** Rows of a matrix need not fill vectors, unless they are quantized. */
const ODD_SHAPES = [[1, 1, 1], [1, 7, 5], [3, 33, 10], [5, 31, 3], [66, 37, 11], [9, 70, 64]] as const;

function linearCases(): DeviceCase[] {
  return WEIGHTS.flatMap((dtype) => {
    const shapes = [...SHAPES, ...(QUANTIZED.includes(dtype) ? LARGE_SHAPES : ODD_SHAPES)];
    return shapes.map(([rows, size, out], i): DeviceCase => {
      const withBias = i % 2 === 1;
      return {
        operation: "linear",
        name: `[${rows}, ${size}] by ${dtype} [${out}, ${size}]${withBias ? " + bias" : ""}`,
        seed: 100 + i,
        prepare(random) {
          const x = random.normals(rows * size), data = random.normals(out * size, 1 / Math.sqrt(size));
          const bias = withBias ? random.normals(out) : undefined;
          const rounded = Float64Array.from(data);
          roundWeights(rounded, dtype, size);
          return {
            run: (device) =>
              withWeights(device, [
                { dtype, shape: [out, size], data },
                ...(bias ? [{ dtype: "f32" as const, shape: [out], data: bias }] : []),
              ], ([w, b]) => compute(device, () => device.linear(device.constant([rows, size], x), w!, b))),
            bound(_, index, device) {
              const row = Math.floor(index / out), column = index % out;
              return dotBound(
                x.subarray(row * size, (row + 1) * size),
                rounded.subarray(column * size, (column + 1) * size),
                { ...arithmeticOf(device, dtype, [rows, size, out]), bias: bias?.[column] },
              );
            },
          };
        },
      };
    });
  });
}

/** Weights arrive as f32, f16 or bf16 whatever they become. */
function uploadCases(): DeviceCase[] {
  return (["f32", "f16", "bf16"] as const).flatMap((source) =>
    WEIGHTS.map((dtype): DeviceCase => ({
      operation: "upload",
      name: `a ${source} file as ${dtype}, in chunks that end anywhere`,
      seed: 200,
      prepare(random) {
        const shape = [67, 96], data = random.normals(67 * 96);
        data.fill(0, 96, 160); // blocks of zeros have no scale
        const ids = Uint32Array.from({ length: 67 }, (_, i) => i);
        return {
          run: (device) =>
            withWeights(device, [{ dtype, shape, data, source }], ([w]) => {
              return compute(device, () => device.embed(w!, ids));
            }),
          bound: (expected) => F32_ONCE * Math.abs(expected),
        };
      },
    }))
  );
}

function embedCases(): DeviceCase[] {
  const sizes = [[0, 10, 32], [1, 10, 64], [7, 3, 96], [65, 1000, 32], [130, 101, 160]] as const;
  return WEIGHTS.flatMap((dtype) =>
    sizes.map(([count, vocabulary, hidden], i): DeviceCase => ({
      operation: "embed",
      name: `${count} ids in ${dtype} [${vocabulary}, ${hidden}]`,
      seed: 300 + i,
      prepare(random) {
        const data = random.normals(vocabulary * hidden);
        const ids = Uint32Array.from({ length: count }, () => random.int(vocabulary));
        ids[0] = vocabulary - 1;
        return {
          run: (device) =>
            withWeights(device, [{ dtype, shape: [vocabulary, hidden], data }], ([table]) => {
              return compute(device, () => device.embed(table!, ids));
            }),
          bound: (expected) => F32_ONCE * Math.abs(expected),
        };
      },
    }))
  );
}

/** Which experts, with which weights; then through two layers of experts and together again. */
function expertCases(): DeviceCase[] {
  const sizes = [[1, 4, 2, 32, 24], [5, 8, 2, 64, 32], [67, 5, 3, 32, 64], [3, 2, 1, 96, 7]] as const;
  const choices = (["chosen", "all"] as const).flatMap((softmaxOver) =>
    sizes.map(([rows, experts, count], i): DeviceCase => ({
      operation: "chooseExperts",
      name: `${count} of ${experts} for ${rows} rows, softmax over ${softmaxOver}`,
      seed: 400 + i,
      prepare(random) {
        const logits = random.normals(rows * experts, 2);
        logits.fill(0.5, 0, experts); // equal: the lower experts are chosen
        const inputs = new Float32Array(rows * 32), numbers = new Float32Array(experts * 32);
        for (let row = 0; row < rows; row++) inputs[row * 32] = 1;
        for (let expert = 0; expert < experts; expert++) numbers[expert * 32] = expert;
        return {
          run: (device) =>
            withWeights(device, [{ dtype: "f32", shape: [experts, 1, 32], data: numbers }], ([w]) => {
              return device.step(async () => {
                const choice = device.chooseExperts(
                  device.constant([rows, experts], logits),
                  count,
                  softmaxOver,
                );
                const chosen = device.expertLinear(device.constant([rows, 32], inputs), choice, w!);
                return concat([await device.read(chosen), await device.read(choice.weights)]);
              });
            }),
          bound: (expected) => F32_SUM * Math.abs(expected),
        };
      },
    }))
  );
  const passes = WEIGHTS.flatMap((dtype) =>
    sizes.map(([rows, experts, count, size, out], i): DeviceCase => ({
      operation: "expertLinear",
      name: `${count} of ${experts} experts ${dtype} [${out}, ${size}] for ${rows} rows`,
      seed: 420 + i,
      prepare(random) {
        const logits = random.normals(rows * experts), x = random.normals(rows * size);
        const data = random.normals(experts * out * size, 1 / Math.sqrt(size));
        const bias = random.normals(experts * out);
        const rounded = Float64Array.from(data);
        roundWeights(rounded, dtype, size);
        return {
          run: (device) =>
            withWeights(device, [
              { dtype, shape: [experts, out, size], data },
              { dtype: "f32", shape: [experts, out], data: bias },
            ], ([w, b]) =>
              compute(device, () => {
                const choice = device.chooseExperts(
                  device.constant([rows, experts], logits),
                  count,
                  "chosen",
                );
                const y = device.expertLinear(device.constant([rows, size], x), choice, w!, b);
                return device.combineExperts(y, choice);
              })),
          // Weights sum to one, so the sum is as exact as the least exact expert.
          bound(_, index, device) {
            const row = Math.floor(index / out), column = index % out;
            const arithmetic = arithmeticOf(device, dtype, [Math.max(rows, 2), size, out]); // pairs, not rows
            let largest = 0;
            for (let expert = 0; expert < experts; expert++) {
              const start = (expert * out + column) * size;
              const part = rounded.subarray(start, start + size);
              const of = { ...arithmetic, bias: bias[expert * out + column] };
              largest = Math.max(largest, dotBound(x.subarray(row * size, (row + 1) * size), part, of));
            }
            return 2 * largest;
          },
        };
      },
    }))
  );
  return [...choices, ...passes];
}

export const linearCaseList: readonly DeviceCase[] = [
  ...linearCases(),
  ...uploadCases(),
  ...embedCases(),
  ...expertCases(),
];
