/**
 * The reference: every operation as a plain loop in f64. Slow and exact; what other devices are compared
 * with.
 *
 * Weights hold the numbers that their dtype can hold (quantize.ts), everything else is f64 throughout.
 */
import type { AttentionSpec } from "../../runtime/device/attention_spec.ts";
import type { Backend, Kernels, WeightSource } from "../../runtime/device/backend.ts";
import { PAGE_TOKENS, type PagedCache, type PageStore } from "../../runtime/device/page.ts";
import { TensorDevice } from "../../runtime/device/tensor_device.ts";
import {
  type CacheGeometry,
  countOf,
  type DeviceTensor,
  type Rows,
  type Segment,
  type Shape,
  type SourceDType,
  type Tensor,
  type WeightDType,
} from "../../runtime/device/tensor.ts";
import { activate } from "./activate.ts";
import { add } from "./add.ts";
import { attention, type Bias, type Positioned } from "./attention.ts";
import { chooseExperts } from "./choose_experts.ts";
import { clamp } from "./clamp.ts";
import { combineExperts } from "./combine_experts.ts";
import { embed } from "./embed.ts";
import { expertLinear } from "./expert_linear.ts";
import { gather } from "./gather.ts";
import { layerNorm } from "./layer_norm.ts";
import { linear } from "./linear.ts";
import type { Matrix } from "./matrix.ts";
import { multiply } from "./multiply.ts";
import { roundWeights } from "./quantize.ts";
import { rmsNorm } from "./rms_norm.ts";
import { rope } from "./rope.ts";
import { route } from "./route.ts";
import { scale } from "./scale.ts";
import { scatterAdd } from "./scatter_add.ts";
import { slice } from "./slice.ts";

const BYTES = { f32: 4, f16: 2, bf16: 2, q8: 34 / 32, q4: 18 / 32 } as const;

/** The device that tests compare others with. */
export class ReferenceDevice extends TensorDevice {
  constructor() {
    super(new ReferenceBackend());
  }
}

/** Numbers of a tensor, as long as it lives. */
class Numbers {
  data: Float64Array;
  constructor(count: number, readonly bytes: number) {
    this.data = new Float64Array(count);
  }
}

/** Keys and values of 64 tokens. */
interface Page {
  readonly keys: Float64Array;
  readonly values: Float64Array;
}

class ReferenceBackend implements Backend {
  readonly name = "reference";
  readonly limits = { memoryBytes: 2 ** 32, threads: 1, f16: false, headDim: 1024 };
  readonly #uploads = new Set<Numbers>();
  readonly #stores = new Map<string, ReferencePages>();
  readonly layout = {
    weight: (dtype: WeightDType, shape: Shape) => countOf(shape) * BYTES[shape.length === 1 ? "f32" : dtype],
    page: ({ kvHeads, headDim, valueDim }: CacheGeometry) => 8 * PAGE_TOKENS * kvHeads * (headDim + valueDim),
    packed: () => 0,
  };
  readonly kernels = kernels;

  get memoryInUse(): number {
    let bytes = 0;
    for (const upload of this.#uploads) bytes += upload.bytes;
    for (const store of this.#stores.values()) bytes += store.held * store.pageBytes;
    return bytes;
  }

  mustLive(): void {}

  async upload(dtype: WeightDType, shape: Shape, { dtype: source, chunks }: WeightSource): Promise<Numbers> {
    const numbers = new Numbers(countOf(shape), this.layout.weight(dtype, shape));
    let filled = 0;
    for await (const chunk of chunks) {
      const decoded = decode(chunk, source);
      numbers.data.set(decoded, filled);
      filled += decoded.length;
    }
    roundWeights(numbers.data, dtype, shape.at(-1)!);
    this.#uploads.add(numbers);
    return numbers;
  }

  free(buffer: unknown): void {
    this.#uploads.delete(buffer as Numbers);
  }

  begin(): void {}

  end(): Promise<void> {
    return Promise.resolve();
  }

  make(bytes: number): Numbers {
    return new Numbers(bytes / 4, bytes);
  }

  /** Whoever reads recycled memory all the same gets no number. */
  recycle(buffer: unknown): void {
    (buffer as Numbers).data.fill(NaN);
  }

  constant(data: Float32Array | Uint32Array | Float64Array): Numbers {
    const numbers = new Numbers(0, data.byteLength);
    numbers.data = Float64Array.from(data);
    return numbers;
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  read(buffer: unknown, count: number, dtype: "f32" | "u32"): Promise<ArrayBuffer> {
    const numbers = (buffer as Numbers).data.subarray(0, count);
    return Promise.resolve((dtype === "u32" ? Uint32Array.from(numbers) : Float32Array.from(numbers)).buffer);
  }

  pages(geometry: CacheGeometry): ReferencePages {
    const key = JSON.stringify(geometry);
    let store = this.#stores.get(key);
    if (!store) this.#stores.set(key, store = new ReferencePages(geometry, this.layout.page(geometry)));
    return store;
  }

  readPages(store: PageStore<unknown>, places: readonly unknown[]): Promise<Uint8Array> {
    const all = new Float64Array(places.length * store.pageBytes / 8);
    (places as Page[]).forEach(({ keys, values }, i) => {
      all.set(keys, i * store.pageBytes / 8);
      all.set(values, i * store.pageBytes / 8 + keys.length);
    });
    return Promise.resolve(new Uint8Array(all.buffer));
  }

  writePage(_: PageStore<unknown>, place: unknown, bytes: Uint8Array): void {
    const { keys, values } = place as Page, numbers = new Float64Array(bytes.slice().buffer);
    keys.set(numbers.subarray(0, keys.length));
    values.set(numbers.subarray(keys.length));
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#uploads.clear();
    return Promise.resolve();
  }
}

class ReferencePages implements PageStore<Page> {
  held = 0;
  readonly layout: string;

  constructor(readonly geometry: CacheGeometry, readonly pageBytes: number) {
    const { kvHeads, headDim, valueDim, dtype } = geometry;
    this.layout = `reference f64 for ${dtype} ${kvHeads} x ${headDim} and ${valueDim}`;
  }

  take(): Page {
    this.held++;
    const { kvHeads, headDim, valueDim } = this.geometry;
    return {
      keys: new Float64Array(PAGE_TOKENS * kvHeads * headDim),
      values: new Float64Array(PAGE_TOKENS * kvHeads * valueDim),
    };
  }

  copy(from: Page, to: Page): void {
    to.keys.set(from.keys);
    to.values.set(from.values);
  }

  give(places: readonly Page[]): void {
    this.held -= places.length;
    for (const { keys, values } of places) {
      keys.fill(NaN);
      values.fill(NaN);
    }
  }
}

/** Each is a loop of its own file; this only says which numbers it gets. */
const kernels: Kernels = {
  embed: ({ table, ids }, [y]) => put(y!, embed(matrixOf(table), ids)),
  linear: ({ x, weight, bias }, [y]) => put(y!, linear(matrixOf(x), matrixOf(weight), bias && numbers(bias))),
  rmsNorm: ({ x, weight, eps }, [y]) => put(y!, rmsNorm(matrixOf(x), numbers(weight), eps)),
  layerNorm: ({ x, weight, bias, eps }, [y]) =>
    put(y!, layerNorm(matrixOf(x), numbers(weight), { bias: bias && numbers(bias), eps })),
  rope: ({ x, segments, spec }, [y]) => put(y!, rope(matrixOf(x), positionsOfRows(segments, x.rows), spec)),
  append({ caches, keys, values, segments }) {
    segments.forEach(({ from, to, start }, i) => {
      const cache = caches[i] as PagedCache<Page>;
      for (let row = from; row < to; row++) {
        const position = start + row - from, slot = position % PAGE_TOKENS;
        const page = cache.place(Math.floor(position / PAGE_TOKENS));
        page.keys.set(rowOf(keys, row), slot * keys.features);
        page.values.set(rowOf(values, row), slot * values.features);
      }
    });
  },
  attention({ queries, at, over, spec }, [y]) {
    const x = matrixOf(queries), result = numbers(y!);
    const sources = "caches" in over ? over.caches.map(ofCache) : ofRows(over);
    const plain = {
      ...spec,
      bias: spec.bias && plainBias(spec.bias),
      sinkLogits: spec.sinkLogits && numbers(spec.sinkLogits),
    };
    groups(at).forEach((segment, i) => {
      const part = { x: slice(x, 0, segment), positions: segment.positions };
      const { keys, values } = sources[i]!;
      result.set(attention(part, keys, values, plain).data, segment.from * y!.features);
    });
  },
  activate: ({ x, activation, multiplier }, [y]) =>
    put(y!, activate(matrixOf(x), activation, multiplier && matrixOf(multiplier))),
  multiply: ({ a, b }, [y]) => put(y!, multiply(matrixOf(a), numbers(b), b.shape)),
  add: ({ a, b }, [y]) => put(y!, add(matrixOf(a), numbers(b), b.shape)),
  scale: ({ x, factor }, [y]) => put(y!, scale(matrixOf(x), factor)),
  clamp: ({ x, low, high }, [y]) => put(y!, clamp(matrixOf(x), low, high)),
  slice: ({ x, axis, from, to }, [y]) => put(y!, slice(matrixOf(x), axis, { from, to })),
  gather: ({ x, rows }, [y]) => put(y!, gather(matrixOf(x), numbers(rows))),
  route({ x, router, divisor, segments }, [rows, weights]) {
    let at = 0;
    for (const { from, to } of segments) {
      if (from === to) continue;
      const chosen = route(matrixOf(x), numbers(router), { divisor, from, to });
      numbers(rows!).set(chosen.rows, at);
      numbers(weights!).set(chosen.weights, at);
      at += chosen.rows.length;
    }
  },
  scatterAdd({ x, rows, weights, update }, [y]) {
    const added = { weights: numbers(weights), update: matrixOf(update) };
    put(y!, scatterAdd(matrixOf(x), numbers(rows), added));
  },
  chooseExperts({ logits, count, softmaxOver }, [experts, weights]) {
    const chosen = chooseExperts(matrixOf(logits), count, softmaxOver);
    numbers(experts!).set(chosen.experts);
    put(weights!, chosen.weights);
  },
  expertLinear({ x, choice, weight, bias }, [y]) {
    const { count, experts } = choice;
    const of = { weight: numbers(weight), shape: weight.shape, bias: bias && matrixOf(bias) };
    put(y!, expertLinear(matrixOf(x), { count, experts: numbers(experts) }, of));
  },
  combineExperts: ({ x, choice }, [y]) => put(y!, combineExperts(matrixOf(x), matrixOf(choice.weights))),
};

function put(y: DeviceTensor, { data }: Matrix): void {
  numbers(y).set(data);
}

/** The numbers of a tensor of the reference. */
export function numbers(x: Tensor): Float64Array {
  return ((x as DeviceTensor).buffer as Numbers).data;
}

function matrixOf(x: Tensor): Matrix {
  return { rows: x.shape[0]!, features: x.shape[1] ?? 1, data: numbers(x) };
}

function rowOf(x: DeviceTensor, row: number): Float64Array {
  return numbers(x).subarray(row * x.features, (row + 1) * x.features);
}

function decode(bytes: Uint8Array, dtype: SourceDType): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = dtype === "f32" ? 4 : 2;
  const bf16 = new DataView(new ArrayBuffer(4));
  return Float64Array.from({ length: bytes.length / size }, (_, i) => {
    if (dtype === "f32") return view.getFloat32(4 * i, true);
    if (dtype === "f16") return view.getFloat16(2 * i, true);
    bf16.setUint16(2, view.getUint16(2 * i, true), true);
    return bf16.getFloat32(0, true);
  });
}

/** Position of each row of a packed tensor. */
function positionsOfRows(segments: readonly Segment[], rows: number): number[] {
  const positions = new Array<number>(rows).fill(0);
  for (const { from, to, start } of segments) {
    for (let row = from; row < to; row++) positions[row] = start + row - from;
  }
  return positions;
}

/** Rows of each sequence with their positions. */
function groups(at: Rows): { from: number; to: number; positions: number[] }[] {
  const segments = "rows" in at ? at.segments : at;
  const routed = "rows" in at ? Array.from(numbers(at.rows)) : undefined;
  return segments.map(({ from, to, start }) => ({
    from,
    to,
    positions: routed ? routed.slice(from, to) : Array.from({ length: to - from }, (_, i) => start + i),
  }));
}

/** What a cache holds; tokens that were dropped are no numbers. */
export function ofCache(cache: PagedCache): { keys: Positioned; values: Matrix } {
  const { pages, length, geometry: { kvHeads, headDim, valueDim } } = cache as PagedCache<Page>;
  const join = (part: "keys" | "values", features: number): Matrix => {
    const data = new Float64Array(length * features).fill(NaN), size = PAGE_TOKENS * features;
    pages.forEach((page, i) => {
      if (page) data.set(page.place[part].subarray(0, data.length - i * size), i * size);
    });
    return { rows: length, features, data };
  };
  const keys = join("keys", kvHeads * headDim);
  return {
    keys: { x: keys, positions: [...new Array(length).keys()] },
    values: join("values", kvHeads * valueDim),
  };
}

function ofRows(
  { keys, values, at }: { keys: Tensor; values: Tensor; at: Rows },
): { keys: Positioned; values: Matrix }[] {
  const k = matrixOf(keys), v = matrixOf(values);
  return groups(at).map((segment) => ({
    keys: { x: slice(k, 0, segment), positions: segment.positions },
    values: slice(v, 0, segment),
  }));
}

function plainBias(bias: NonNullable<AttentionSpec["bias"]>): Bias {
  if (bias.kind === "alibi") return bias;
  const { summaries } = bias;
  return {
    ...bias,
    table: matrixOf(bias.table),
    summaries: summaries && { ...summaries, table: matrixOf(summaries.table) },
  };
}
