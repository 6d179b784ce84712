/**
 * Matrix products and table look-ups on the GPU: `linear`, `expertLinear`, `embed`.
 *
 * A weight in several parts takes a dispatch a part, each making its own columns (or rows) of the result.
 *
 * @module
 */
import type { ExpertChoice, Tensor, WeightDType } from "../device.ts";
import { kernels } from "./kernels.ts";
import type { Region } from "./memory.ts";
import { QUANT_BLOCK } from "./pack.ts";
import { folded, type Groups, type Work } from "./recorder.ts";
import { type Gpu, type GpuTensor, type Matrix, mine, rowsOf, sides, stretches } from "./tensor.ts";

/** Rows up to which reading the weight once is the whole cost (linear_decode.wgsl). */
const DECODE_ROWS = 8;
/** Columns and rows of a tile in linear.wgsl; columns of a workgroup in linear_decode.wgsl. */
const TILE = 64, DECODE_COLUMNS = 4;
/** Pairs an expert from which sorting them pays: fewer reads of matrices than pairs. */
const TILED_PAIRS = 4;
/** Counters in group_experts.wgsl. */
const MOST_EXPERTS = 256;
/** Rows and columns from which a matrix is bound by arithmetic in a prefill, rather than by launching and reading. */
const LARGE = 512;
const MAX_GROUPS = 65535;

/** x [rows, in] · weight[out, in]ᵀ + bias [out] → [rows, out] */
export function linear(gpu: Gpu, x: Tensor, weight: Tensor, bias?: Tensor): GpuTensor {
  const { rows, features } = sides(x, "run linear");
  const { matrix, dtype, columns, out } = weightOf(weight, "run linear");
  if (features !== columns || weight.shape.length !== 2) {
    throw new RangeError(`Cannot run linear: x is [${x.shape}], the weight [${weight.shape}], "in" differs`);
  }
  const result = gpu.make([rows, out]);
  product(gpu, { x: mine(x, "run linear"), matrix, dtype, bias: vector(bias, out), result });
  return result;
}

/**
 * Records a product; `result` is [rows, out]. Activations are only rounded (to f16, or to bytes for q8 and q4) where
 * that saves time: not in few rows, nor in small matrices, such as routers, which choose by a hair.
 */
export function product(gpu: Gpu, { x, matrix, dtype, bias, result }: {
  readonly x: GpuTensor;
  readonly matrix: Matrix;
  readonly dtype: WeightDType;
  readonly bias: Region | undefined;
  readonly result: GpuTensor;
}): void {
  const [rows, features] = x.shape as [number, number], out = result.shape[1]!;
  // Rows that count as few are not rounded, whatever else is in the pass.
  const large = features >= LARGE && out >= LARGE && !gpu.few;
  for (const stretch of stretches(rows, [features, out], gpu.memory.limits)) {
    const { from, to } = stretch, count = to - from;
    if (count === 0) continue;
    for (const part of matrix.parts) {
      if (part.rows === 0) continue;
      const parameters = {
        rows: count,
        outputs: part.rows,
        features,
        stride: matrix.stride,
        column: part.first,
        columns: out,
        hasBias: bias !== undefined,
      };
      const groups: Groups = [Math.ceil(part.rows / TILE), Math.ceil(count / TILE)];
      const work = { flops: 2 * count * features * part.rows };
      const weights = part.numbers, scales = part.scales ?? gpu.dummy;
      const given = { bias: bias ?? gpu.dummy, result: rowsOf(result.region!, out, from, to) };
      if (count <= DECODE_ROWS) {
        gpu.dispatch(
          kernels.linearDecode[alignment(features)][dtype],
          { x: rowsOf(x.region!, features, from, to), weights, scales, ...given },
          {
            parameters,
            groups: folded(Math.ceil(part.rows / DECODE_COLUMNS)),
            constants: { ROWS: count },
            work,
          },
        );
      } else if (dtype === "f16" && gpu.arithmetic.f16 && large) {
        const packed = packF16(gpu, x, stretch);
        gpu.dispatch(
          kernels.linearF16,
          { x: packed.numbers, weights, largest: packed.factors, ...given },
          { parameters, groups, work },
        );
      } else if ((dtype === "q8" || dtype === "q4") && gpu.arithmetic.packedDot && large) {
        const packed = packQ8(gpu, x, { ...stretch, evenFirst: dtype === "q4" });
        gpu.dispatch(
          kernels.linearQ8[dtype],
          { x: packed.numbers, weights, scales, factors: packed.factors, ...given },
          { parameters, groups, work },
        );
      } else {
        gpu.dispatch(
          kernels.linear[alignment(features)][dtype],
          { x: rowsOf(x.region!, features, from, to), weights, scales, ...given },
          { parameters, groups, work },
        );
      }
    }
  }
}

function alignment(features: number): "vec4" | "scalar" {
  return features % 4 === 0 ? "vec4" : "scalar";
}

/** What is made of a tensor once for several products: smaller numbers and factors of rows, or an order and tiles. */
interface Packed {
  readonly numbers: Region;
  readonly factors: Region;
  readonly of: readonly GpuTensor[];
}

/** By tensor and format: queries, keys and values are products of the same x, three matrices meet the same choice. */
const packedRows = new WeakMap<GpuTensor, Map<string, Packed>>();

function packedOnce(x: GpuTensor, key: string, pack: () => Packed): Packed {
  let formats = packedRows.get(x);
  if (!formats) packedRows.set(x, formats = new Map());
  let found = formats.get(key);
  // Dead if it was made in a scope that has ended.
  if (!found || found.of.some(({ dead }) => dead)) formats.set(key, found = pack());
  return found;
}

function packF16(gpu: Gpu, x: GpuTensor, { from, to }: { from: number; to: number }): Packed {
  return packedOnce(x, `f16 ${from}`, () => {
    const features = x.shape[1]!, rows = to - from, stride = 2 * Math.ceil(features / 4);
    const numbers = gpu.make([rows, stride], "u32"), factors = gpu.make([rows, 1]);
    gpu.dispatch(
      kernels.packRowsF16[alignment(features)],
      { x: rowsOf(x.region!, features, from, to), packed: numbers.region!, largest: factors.region! },
      { parameters: { rows, features, stride }, groups: folded(rows) },
    );
    return { numbers: numbers.region!, factors: factors.region!, of: [numbers, factors] };
  });
}

function packQ8(
  gpu: Gpu,
  x: GpuTensor,
  { from, to, evenFirst }: { readonly from: number; readonly to: number; readonly evenFirst: boolean },
): Packed {
  return packedOnce(x, `q8 ${evenFirst} ${from}`, () => {
    const features = x.shape[1]!, rows = to - from, blocks = features / QUANT_BLOCK;
    const numbers = gpu.make([rows, features / 4], "u32"), factors = gpu.make([rows, blocks]);
    gpu.dispatch(
      kernels.packRowsQ8,
      { x: rowsOf(x.region!, features, from, to), packed: numbers.region!, factors: factors.region! },
      {
        parameters: { rows, features },
        groups: folded(Math.ceil(rows * blocks / 64)),
        constants: { EVEN_FIRST: evenFirst },
      },
    );
    return { numbers: numbers.region!, factors: factors.region!, of: [numbers, factors] };
  });
}

/** Row r · count + j of the result is weight[experts[r, j]] · x + bias[experts[r, j]]. */
export function expertLinear(
  gpu: Gpu,
  { x, choice, weight, bias }: {
    readonly x: Tensor;
    readonly choice: ExpertChoice;
    readonly weight: Tensor;
    readonly bias: Tensor | undefined;
  },
): GpuTensor {
  const { rows, features } = sides(x, "run expertLinear");
  const { matrix, dtype, columns } = weightOf(weight, "run expertLinear");
  const [experts, out] = weight.shape as [number, number];
  const pairs = choice.experts.shape[0]! * choice.count;
  if (
    features !== columns || weight.shape.length !== 3 || (rows !== pairs && rows * choice.count !== pairs)
  ) {
    throw new RangeError(
      `Cannot run expertLinear: x is [${x.shape}], the weight [${weight.shape}], with ${pairs} choices`,
    );
  }
  const table = bias && mine(bias, "run expertLinear");
  if (table && (table.dtype !== "f32" || table.shape[0] !== experts || table.shape[1] !== out)) {
    throw new RangeError(
      `Cannot run expertLinear: the bias is ${table.dtype} [${table.shape}], not f32 [${experts}, ${out}]`,
    );
  }
  const biasRegion = table?.region ?? table?.matrix?.parts[0]?.numbers;
  const biasStride = table?.region ? out : 4 * (table?.matrix?.stride ?? 0);
  const result = gpu.make([pairs, out]);
  const { count } = choice;
  // A row of choices has `count` rows of the result, and one or `count` of x.
  const share = rows === pairs ? 1 : count, own = count / share;
  const chosen = mine(choice.experts, "run expertLinear");
  const widths = [own * features, count * out, count];
  const tiled = pairs >= TILED_PAIRS * experts && experts <= MOST_EXPERTS;
  for (const { from, to } of stretches(pairs / count, widths, gpu.memory.limits)) {
    const here = (to - from) * count;
    const list = rowsOf(chosen.region!, count, from, to);
    const into = rowsOf(result.region!, count * out, from, to);
    const sorted = tiled ? sortPairs(gpu, chosen, { list, key: `${from}`, pairs: here, experts }) : undefined;
    for (const part of matrix.parts) {
      const buffers = {
        x: rowsOf(mine(x, "run expertLinear").region!, own * features, from, to),
        weights: part.numbers,
        scales: part.scales ?? gpu.dummy,
        bias: biasRegion ?? gpu.dummy,
      };
      const sizes = { outputs: out, features, stride: matrix.stride };
      const shared = {
        hasBias: biasRegion !== undefined,
        share,
        biasStride,
        firstRow: part.first,
        lastRow: part.first + part.rows,
      };
      if (sorted) {
        gpu.dispatch(
          kernels.expertLinearTiles[alignment(features)][dtype],
          { ...buffers, result: into, order: sorted.order, tiles: sorted.tiles },
          {
            parameters: { ...sizes, columns: out, ...shared },
            groups: [Math.ceil(out / TILE), sorted.most],
            work: { flops: 2 * here * out * features },
          },
        );
        continue;
      }
      for (let first = 0; first < here; first += MAX_GROUPS) {
        const some = Math.min(here - first, MAX_GROUPS);
        gpu.dispatch(
          kernels.expertLinear[alignment(features)][dtype],
          { ...buffers, experts: list, result: into },
          {
            parameters: { ...sizes, ...shared, firstPair: first },
            groups: [Math.ceil(out / DECODE_COLUMNS), some],
            work: pairWork(some, { out, features, stride: matrix.stride }),
          },
        );
      }
    }
  }
  return result;
}

/** Pairs by expert, in tiles; once for all matrices that the same choice meets. */
function sortPairs(
  gpu: Gpu,
  chosen: GpuTensor,
  { list, key, pairs, experts }: {
    readonly list: Region;
    readonly key: string;
    readonly pairs: number;
    readonly experts: number;
  },
): { order: Region; tiles: Region; most: number } {
  const most = Math.floor(pairs / TILE) + experts;
  const sorted = packedOnce(chosen, `pairs ${key}`, () => {
    const order = gpu.make([pairs], "u32"), tiles = gpu.make([1 + 3 * most], "u32");
    gpu.dispatch(
      kernels.groupExperts,
      { chosen: list, order: order.region!, tiles: tiles.region! },
      { parameters: { pairs, experts }, groups: [1] },
    );
    return { numbers: order.region!, factors: tiles.region!, of: [order, tiles] };
  });
  return { order: sorted.numbers, tiles: sorted.factors, most };
}

/** Each pair reads its matrix and a row of x, and writes one. */
function pairWork(
  count: number,
  { out, features, stride }: { readonly out: number; readonly features: number; readonly stride: number },
): Work {
  return { flops: 2 * count * out * features, bytes: count * (16 * stride * out + 4 * features + 4 * out) };
}

/** [ids, hidden] = rows of table [vocabulary, hidden] */
export function embed(gpu: Gpu, table: Tensor, ids: Uint32Array): GpuTensor {
  const { matrix, dtype, columns, out } = weightOf(table, "embed");
  for (const id of ids) {
    if (id >= out) throw new RangeError(`Cannot embed id ${id}: the table has ${out} rows`);
  }
  const result = gpu.make([ids.length, columns]);
  if (ids.length === 0) return result;
  for (const { from, to } of stretches(ids.length, [columns], gpu.memory.limits)) {
    const list = gpu.tables.put(ids.subarray(from, to));
    for (const part of matrix.parts) {
      gpu.dispatch(
        kernels.embed[dtype],
        {
          ids: list,
          weights: part.numbers,
          scales: part.scales ?? gpu.dummy,
          result: rowsOf(result.region!, columns, from, to),
        },
        {
          parameters: {
            ids: to - from,
            hidden: columns,
            stride: matrix.stride,
            first: part.first,
            count: part.rows,
          },
          groups: folded(Math.ceil((to - from) * Math.ceil(columns / 4) / 64)),
          work: { bytes: (to - from) * (16 * matrix.stride + 4 * columns) },
        },
      );
    }
  }
  return result;
}

function weightOf(
  weight: Tensor,
  action: string,
): { matrix: Matrix; dtype: WeightDType; columns: number; out: number } {
  const { matrix, dtype, shape } = mine(weight, action);
  if (!matrix || dtype === "u32" || shape.length < 2) {
    throw new TypeError(`Cannot ${action}: [${shape}] is not an uploaded matrix`);
  }
  return { matrix, dtype, columns: shape.at(-1)!, out: shape[0]! };
}

function vector(x: Tensor | undefined, length: number): Region | undefined {
  if (!x) return undefined;
  const { region, shape } = mine(x, "run linear");
  if (!region || shape.length !== 1 || shape[0] !== length) {
    throw new RangeError(`Cannot run linear: the bias is [${shape}], not [${length}]`);
  }
  return region;
}
