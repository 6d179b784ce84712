/**
 * Operations on rows and single numbers: norms, rotary positions, activations, arithmetic, choosing rows.
 *
 * @module
 */
import type { Activation, RopeSpec, Segment, Tensor } from "../device.ts";
import { kernels } from "./kernels.ts";
import type { Region } from "./memory.ts";
import { folded } from "./recorder.ts";
import { countOf, type Gpu, type GpuTensor, mine, rowsOf, sides, stretches } from "./tensor.ts";

const THREADS = 64;
const ACTIVATIONS: readonly Activation[] = [
  "silu",
  "gelu",
  "gelu_tanh",
  "quick_gelu",
  "relu",
  "relu2",
  "tanh",
  "sigmoid",
];

/** Numbers of a tensor, unpacked first if it is an uploaded matrix with padded or shorter numbers. */
export function plain(gpu: Gpu, x: Tensor, action: string): Region {
  const { region, matrix, shape, dtype } = mine(x, action);
  if (region) return region;
  if (!matrix || dtype === "u32") throw new TypeError(`Cannot ${action}: [${shape}] holds no numbers`);
  const rows = countOf(shape) / shape.at(-1)!, columns = shape.at(-1)!;
  const result = gpu.make([rows, columns]);
  const ids = gpu.tables.put(Uint32Array.from({ length: rows }, (_, i) => i));
  for (const part of matrix.parts) {
    gpu.dispatch(
      kernels.embed[dtype],
      { ids, weights: part.numbers, scales: part.scales ?? gpu.dummy, result: result.region! },
      {
        parameters: {
          ids: rows,
          hidden: columns,
          stride: matrix.stride,
          first: part.first,
          count: part.rows,
        },
        groups: folded(Math.ceil(rows * Math.ceil(columns / 4) / THREADS)),
      },
    );
  }
  return result.region!;
}

/** x / sqrt(mean(x²) + eps) · weight over groups of weight.length features */
export function rmsNorm(gpu: Gpu, x: Tensor, { weight, eps }: { weight: Tensor; eps: number }): GpuTensor {
  const action = "run rmsNorm";
  const { rows, features, size } = groupsOf(x, weight, action);
  const result = gpu.make([rows, features]);
  for (const { from, to } of stretches(rows, [features], gpu.memory.limits)) {
    const groups = (to - from) * features / size;
    gpu.dispatch(
      kernels.rmsNorm,
      {
        x: rowsOf(plain(gpu, x, action), features, from, to),
        weight: mine(weight, action).region!,
        bias: gpu.dummy,
        result: rowsOf(result.region!, features, from, to),
      },
      {
        parameters: { size, groups, eps, hasBias: false },
        groups: folded(groups),
        constants: { THREADS: size > 512 ? 256 : 64 },
      },
    );
  }
  return result;
}

/** (x − mean) / sqrt(var + eps) · weight + bias over groups of weight.length features */
export function layerNorm(
  gpu: Gpu,
  x: Tensor,
  { weight, bias, eps }: { weight: Tensor; bias: Tensor | undefined; eps: number },
): GpuTensor {
  const action = "run layerNorm";
  const { rows, features, size } = groupsOf(x, weight, action);
  if (bias && (bias.shape.length !== 1 || bias.shape[0] !== size)) {
    throw new RangeError(`Cannot run layerNorm: the bias is [${bias.shape}], the weight [${size}]`);
  }
  const result = gpu.make([rows, features]);
  for (const { from, to } of stretches(rows, [features], gpu.memory.limits)) {
    const groups = (to - from) * features / size;
    gpu.dispatch(
      kernels.layerNorm,
      {
        x: rowsOf(plain(gpu, x, action), features, from, to),
        weight: mine(weight, action).region!,
        bias: bias ? mine(bias, action).region! : gpu.dummy,
        result: rowsOf(result.region!, features, from, to),
      },
      {
        parameters: { size, groups, eps, hasBias: bias !== undefined },
        groups: folded(groups),
        constants: { THREADS: size > 512 ? 256 : 64 },
      },
    );
  }
  return result;
}

function groupsOf(x: Tensor, weight: Tensor, action: string) {
  const { rows, features } = sides(x, action);
  const size = weight.shape[0]!;
  if (weight.shape.length !== 1 || size === 0 || features % size !== 0) {
    throw new RangeError(
      `Cannot ${action}: the weight is [${weight.shape}], which does not divide ${features} features`,
    );
  }
  return { rows, features, size };
}

/** Rotates pairs of the first `dim` features of each head. */
export function rope(
  gpu: Gpu,
  x: Tensor,
  { segments, spec }: { readonly segments: readonly Segment[]; readonly spec: RopeSpec },
): GpuTensor {
  const { rows, features } = sides(x, "run rope");
  const { heads, dim, pairing, inverseFrequencies, scale } = spec;
  const headDim = features / heads;
  if (!Number.isInteger(headDim) || dim > headDim || dim % 2 !== 0 || inverseFrequencies.length !== dim / 2) {
    throw new RangeError(
      `Cannot run rope: ${features} features in ${heads} heads, ${dim} of each rotated by ${inverseFrequencies.length} frequencies`,
    );
  }
  const places = segments.map(({ from, to, start }) => `${from} ${to} ${start}`).join();
  const angles = gpu.remember(inverseFrequencies, `${rows} ${scale} ${places}`, () => {
    return gpu.tables.put(angleTable(segments, spec, rows));
  });
  const result = gpu.make([rows, features]);
  for (const { from, to } of stretches(rows, [features, dim], gpu.memory.limits)) {
    gpu.dispatch(
      kernels.rope,
      {
        x: rowsOf(plain(gpu, x, "run rope"), features, from, to),
        angles: rowsOf(angles, dim, from, to),
        result: rowsOf(result.region!, features, from, to),
      },
      {
        parameters: { rows: to - from, features, headDim, dim },
        groups: folded(Math.ceil((to - from) * heads * (headDim - dim / 2) / THREADS)),
        constants: { INTERLEAVED: pairing === "interleaved" },
      },
    );
  }
  return result;
}

/** [rows, dim / 2] pairs (cos, sin) times scale; (1, 0) in rows outside of segments, which stay as they are. */
function angleTable(segments: readonly Segment[], spec: RopeSpec, rows: number): Float32Array {
  const { dim, inverseFrequencies, scale } = spec;
  const table = new Float32Array(Math.max(rows * dim, 4));
  for (let i = 0; i < rows * dim; i += 2) table[i] = 1;
  for (const { from, to, start } of segments) {
    for (let row = from; row < to; row++) {
      for (let i = 0; i < dim / 2; i++) {
        const angle = Math.fround((start + row - from) * inverseFrequencies[i]!);
        table[row * dim + 2 * i] = Math.cos(angle) * scale;
        table[row * dim + 2 * i + 1] = Math.sin(angle) * scale;
      }
    }
  }
  return table;
}

/** activation(x), times `multiplier` if given */
export function activate(gpu: Gpu, x: Tensor, activation: Activation, multiplier?: Tensor): GpuTensor {
  const kind = ACTIVATIONS.indexOf(activation);
  if (kind < 0) {
    throw new RangeError(`Cannot activate: "${activation}" is not one of ${ACTIVATIONS.join(", ")}`);
  }
  const { rows, features } = sides(x, "activate");
  if (multiplier && (multiplier.shape[0] !== rows || multiplier.shape[1] !== features)) {
    throw new RangeError(`Cannot activate: x is [${x.shape}], the multiplier [${multiplier.shape}]`);
  }
  const a = plain(gpu, x, "activate"), b = multiplier && plain(gpu, multiplier, "activate");
  return byNumber(gpu, [rows, features], (from, to, result) => {
    gpu.dispatch(
      kernels.activate,
      { x: rowsOf(a, features, from, to), multiplier: b ? rowsOf(b, features, from, to) : gpu.dummy, result },
      {
        parameters: { count: (to - from) * features },
        groups: threads((to - from) * features),
        constants: { ACTIVATION: kind, GATED: b !== undefined },
      },
    );
  });
}

/** a + b or a · b; b has a's shape, is [features], or [rows, 1] */
export function combine(gpu: Gpu, operation: "add" | "multiply", a: Tensor, b: Tensor): GpuTensor {
  const { rows, features } = sides(a, operation);
  const { shape } = b;
  const spread = shape.length === 2 && shape[0] === rows && shape[1] === features
    ? 0
    : shape.length === 1 && shape[0] === features
    ? 1
    : shape.length === 2 && shape[0] === rows && shape[1] === 1
    ? 2
    : -1;
  if (spread < 0) throw new RangeError(`Cannot ${operation}: [${shape}] does not fit [${a.shape}]`);
  const left = plain(gpu, a, operation), right = plain(gpu, b, operation);
  return byNumber(gpu, [rows, features, ...(spread === 2 ? [1] : [])], (from, to, result) => {
    const other = spread === 1 ? right : rowsOf(right, spread === 0 ? features : 1, from, to);
    gpu.dispatch(kernels[operation], { a: rowsOf(left, features, from, to), b: other, result }, {
      parameters: { count: (to - from) * features, features },
      groups: threads((to - from) * features),
      constants: { MULTIPLY: operation === "multiply", SPREAD: spread },
    });
  });
}

/** x · factor */
export function scale(gpu: Gpu, x: Tensor, factor: number): GpuTensor {
  const { rows, features } = sides(x, "scale");
  const region = plain(gpu, x, "scale");
  return byNumber(gpu, [rows, features], (from, to, result) => {
    gpu.dispatch(kernels.scale, { x: rowsOf(region, features, from, to), result }, {
      parameters: { count: (to - from) * features, factor },
      groups: threads((to - from) * features),
    });
  });
}

/** min(max(x, low), high) */
export function clamp(gpu: Gpu, x: Tensor, { low, high }: { low: number; high: number }): GpuTensor {
  const { rows, features } = sides(x, "clamp");
  const region = plain(gpu, x, "clamp");
  return byNumber(gpu, [rows, features], (from, to, result) => {
    gpu.dispatch(kernels.clamp, { x: rowsOf(region, features, from, to), result }, {
      parameters: { count: (to - from) * features, low, high },
      groups: threads((to - from) * features),
    });
  });
}

/** Rows (axis 0) or features (axis 1) [from, to) */
export function slice(
  gpu: Gpu,
  x: Tensor,
  { axis, from, to }: { readonly axis: 0 | 1; readonly from: number; readonly to: number },
): GpuTensor {
  const { rows, features } = sides(x, "slice");
  if (from < 0 || to < from || to > (axis === 0 ? rows : features)) {
    throw new RangeError(`Cannot slice [${x.shape}]: [${from}, ${to}) of axis ${axis} is not in it`);
  }
  const region = plain(gpu, x, "slice");
  const columns = axis === 1 ? to - from : features;
  const first = axis === 0 ? from : 0;
  const result = gpu.make([axis === 0 ? to - from : rows, columns]);
  // Stretches of x that hold the rows; the first row of one may lie before the slice.
  for (const part of stretches(rows, [features, columns], gpu.memory.limits)) {
    const begin = Math.max(part.from, first), end = Math.min(part.to, first + result.shape[0]!);
    if (begin >= end || columns === 0) continue;
    const count = (end - begin) * columns;
    const target = rowsOf(result.region!, columns, begin - first, end - first);
    const aligned = target.offset % gpu.memory.limits.alignment === 0;
    const into = aligned ? target : gpu.temporary(target.size);
    gpu.dispatch(kernels.slice, { x: rowsOf(region, features, part.from, part.to), result: into }, {
      parameters: {
        count,
        features: columns,
        columns: features,
        row: begin - part.from,
        column: axis === 1 ? from : 0,
      },
      groups: threads(count),
    });
    if (!aligned) {
      gpu.recorder.copy(into, target, target.size);
      gpu.memory.recycle(into);
    }
  }
  return result;
}

/** Chosen rows of x */
export function gather(gpu: Gpu, x: Tensor, rows: Tensor): GpuTensor {
  const { rows: rowCount, features } = sides(x, "gather");
  const list = mine(rows, "gather");
  if (list.dtype !== "u32") throw new TypeError(`Cannot gather: rows are ${list.dtype}, not u32`);
  const region = plain(gpu, x, "gather");
  return byNumber(gpu, [countOf(list.shape), features, 1], (from, to, result) => {
    for (const part of stretches(rowCount, [features], gpu.memory.limits)) {
      const some = rowsOf(region, features, part.from, part.to);
      gpu.dispatch(kernels.gather, { x: some, rows: rowsOf(list.region!, 1, from, to), result }, {
        parameters: {
          count: (to - from) * features,
          features,
          first: part.from,
          bound: part.to - part.from,
        },
        groups: threads((to - from) * features),
        work: { bytes: 8 * (to - from) * features },
      });
    }
  });
}

/** x with weights[i] · update[i] added to row rows[i] */
export function scatterAdd(
  gpu: Gpu,
  x: Tensor,
  { rows, weights, update }: { readonly rows: Tensor; readonly weights: Tensor; readonly update: Tensor },
): GpuTensor {
  const { features } = sides(x, "scatterAdd");
  const count = countOf(rows.shape);
  if (countOf(weights.shape) !== count || update.shape[0] !== count || update.shape[1] !== features) {
    throw new RangeError(
      `Cannot scatterAdd to [${x.shape}]: rows [${rows.shape}], weights [${weights.shape}], update [${update.shape}]`,
    );
  }
  const result = slice(gpu, x, { axis: 0, from: 0, to: x.shape[0]! });
  const list = mine(rows, "scatterAdd").region!;
  const factors = plain(gpu, weights, "scatterAdd"), addends = plain(gpu, update, "scatterAdd");
  for (const to of stretches(x.shape[0]!, [features], gpu.memory.limits)) {
    for (const from of stretches(count, [features, 1], gpu.memory.limits)) {
      const numbers = (from.to - from.from) * features;
      gpu.dispatch(
        kernels.scatterAdd,
        {
          rows: rowsOf(list, 1, from.from, from.to),
          weights: rowsOf(factors, 1, from.from, from.to),
          update: rowsOf(addends, features, from.from, from.to),
          result: rowsOf(result.region!, features, to.from, to.to),
        },
        {
          parameters: { count: numbers, features, first: to.from, bound: to.to - to.from },
          groups: threads(numbers),
        },
      );
    }
  }
  return result;
}

/** Most numbers that `topK` finds, and rows of a dispatch (a multiple of all alignments). */
const MOST_TOP = 256, MOST_ROWS = 32768;

/** [rows, 2 · k]: the k largest of each row, largest first, then their features */
export function topK(gpu: Gpu, x: Tensor, k: number): GpuTensor {
  const { rows, features } = sides(x, "run topK");
  if (!Number.isInteger(k) || k < 1 || k > Math.min(features, MOST_TOP)) {
    throw new RangeError(
      `Cannot run topK: ${k} of ${features} numbers: 1 to ${Math.min(features, MOST_TOP)} can be found`,
    );
  }
  const region = plain(gpu, x, "run topK");
  const result = gpu.make([rows, 2 * k]);
  for (const { from, to } of stretches(rows, [features, 2 * k], gpu.memory.limits)) {
    for (let first = from; first < to; first += MOST_ROWS) {
      const count = Math.min(MOST_ROWS, to - first);
      gpu.dispatch(
        kernels.topK,
        {
          x: rowsOf(region, features, first, first + count),
          result: rowsOf(result.region!, 2 * k, first, first + count),
        },
        { parameters: { rows: count, features, k }, groups: [count] },
      );
    }
  }
  return result;
}

function threads(count: number) {
  return folded(Math.ceil(count / THREADS));
}

/** A result of the same rows, made stretch by stretch where bindings are limited; `others` are bound by rows as well. */
function byNumber(
  gpu: Gpu,
  [rows, features, ...others]: readonly [number, number, ...number[]],
  record: (from: number, to: number, result: Region) => void,
): GpuTensor {
  const result = gpu.make([rows, features]);
  if (rows * features === 0) return result;
  for (const { from, to } of stretches(rows, [features, ...others], gpu.memory.limits)) {
    record(from, to, rowsOf(result.region!, features, from, to));
  }
  return result;
}
