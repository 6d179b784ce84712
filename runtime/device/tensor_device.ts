/**
 * `Device` over a backend: steps, scopes and lifetimes, and the only place where arguments are refused.
 *
 * The life of an operation is the same on every device: its tensors are looked at (are they alive, and this
 * device's?), `operations[name].check` refuses what does not fit and tells the results, these are made in the
 * innermost scope, and the backend's kernel records its commands.
 *
 * @module
 */
import type { AttentionSpec } from "./attention_spec.ts";
import type { Backend, Kernel, Recording } from "./backend.ts";
import type { Device } from "./device.ts";
import { type OperationArgs, type OperationName, operations } from "./operations/mod.ts";
import type { Result } from "./operations/operation.ts";
import { CACHE_DTYPES } from "./formats/mod.ts";
import { checkSource, checkUpload } from "./upload_source.ts";
import { routeTable } from "./host_tables.ts";
import { PAGE_TOKENS, PagedCache } from "./page.ts";
import {
  type Activation,
  type CacheDType,
  type CacheGeometry,
  countOf,
  DeviceTensor,
  type ExpertChoice,
  type KeySource,
  type KvCache,
  type RopeSpec,
  type Routed,
  type Rows,
  type Segment,
  type Shape,
  type Tensor,
  type TensorSource,
  type WeightDType,
} from "./tensor.ts";

/** Told of each operation that is recorded: for plans and profiles. */
export type OperationListener = <K extends OperationName>(
  name: K,
  args: OperationArgs[K],
  results: readonly Result[],
) => void;

/** A device: see `Device` for what its methods do. */
export class TensorDevice<B extends Backend = Backend> implements Device {
  readonly backend: B;
  /** Tensors made since the step and each open scope began. Empty outside of a step. */
  readonly #scopes: DeviceTensor[][] = [];
  readonly #constants: DeviceTensor[] = [];
  readonly #once = new Map<object, Map<string, unknown>>();
  readonly #recording: Recording;
  readonly #caches = new Set<PagedCache>();
  #step: "none" | "open" | "ending" = "none";
  #few: number | undefined;
  onOperation: OperationListener | undefined;
  readonly topK?: (x: Tensor, k: number) => Tensor;

  constructor(backend: B) {
    this.backend = backend;
    const fewRows = () => this.#few;
    this.#recording = {
      get few() {
        return fewRows();
      },
      make: (dtype, shape, bytes) => this.#make({ dtype, shape }, bytes),
      constant: (shape, data) => this.#constant(shape, data),
      once: (owner, key, make) => this.#onceAStep(owner, key, make),
      form: (x, name, make) => {
        const before = x.forms.get(name);
        if (before?.alive) return before;
        const made = make();
        x.forms.set(name, made);
        return made;
      },
    };
    if (backend.kernels.topK) {
      this.topK = (x, k) => this.#one("topK", { x: this.#alive(x, "topK"), k });
    }
  }

  get name(): Device["name"] {
    return this.backend.name;
  }

  get limits(): Device["limits"] {
    return this.backend.limits;
  }

  get memoryInUse(): number {
    return this.backend.memoryInUse;
  }

  // Memory.

  async upload(dtype: WeightDType, shape: Shape, source: TensorSource): Promise<Tensor> {
    this.backend.mustLive("upload a tensor");
    checkUpload(dtype, shape);
    const held = shape.length === 1 ? "f32" : dtype;
    const buffer = await this.backend.upload(held, shape, checkSource(shape, source));
    return new DeviceTensor(this, held, [...shape], buffer, "weight");
  }

  constant(shape: Shape, data: Float32Array | Uint32Array): Tensor {
    this.#mustRecord("make a constant");
    const whole = (shape.length === 1 || shape.length === 2) &&
      shape.every((n) => Number.isInteger(n) && n >= 0);
    if (!whole || data.length !== countOf(shape)) {
      throw new RangeError(
        `Cannot make a constant [${shape}] of ${data.length} numbers: ` +
          "a shape is one or two whole numbers, whose product is the count",
      );
    }
    return this.#constant(shape, data);
  }

  free(x: Tensor): void {
    const tensor = this.#alive(x, "free");
    if (tensor.kind !== "weight") throw new Error(`Cannot free [${x.shape}]: it is not an uploaded tensor`);
    tensor.alive = false;
    this.backend.free(tensor.buffer);
  }

  createKvCache(kvHeads: number, headDim: number, dtype: CacheDType, valueDim = headDim): KvCache {
    this.backend.mustLive("create a cache");
    const geometry = this.#geometry({ kvHeads, headDim, valueDim, dtype });
    const cache = new PagedCache(this, this.backend.pages(geometry), {
      onFork: (copy) => this.#caches.add(copy),
      onFree: (freed) => this.#caches.delete(freed),
    });
    this.#caches.add(cache);
    return cache;
  }

  pageBytes(kvHeads: number, headDim: number, dtype: CacheDType, valueDim = headDim): number {
    return this.backend.layout.page(this.#geometry({ kvHeads, headDim, valueDim, dtype }));
  }

  async readPages(cache: KvCache, from: number, to: number): Promise<Uint8Array> {
    const held = this.#outside(cache, "read pages");
    if (!(Number.isInteger(from) && Number.isInteger(to) && 0 <= from && from <= to)) {
      throw new RangeError(
        `Cannot read pages ${from} to ${to} of a cache: they must be whole numbers in order`,
      );
    }
    const places = Array.from({ length: to - from }, (_, i) => held.place(from + i));
    if (places.length === 0) return new Uint8Array(0);
    return await this.backend.readPages(held.store, places);
  }

  async fillPages(
    cache: KvCache,
    { length, dropped, window }: { length: number; dropped: number; window: number | undefined },
    pages: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const held = this.#outside(cache, "fill a cache"), { pageBytes } = held;
    if (held.length > 0) throw new Error(`Cannot fill a cache: it holds ${held.length} tokens already`);
    try {
      held.skip(dropped);
      held.window = window;
      for await (const piece of pages) {
        if (piece.length % pageBytes !== 0 || held.length + piece.length / pageBytes > length + PAGE_TOKENS) {
          throw new RangeError(
            `Cannot fill a cache of ${length} tokens: a piece of ${piece.length} bytes is not whole pages of ${pageBytes}`,
          );
        }
        for (let at = 0; at < piece.length; at += pageBytes) {
          if (held.length === length) {
            throw new RangeError(`Cannot fill a cache of ${length} tokens: more pages came than it has`);
          }
          const index = Math.ceil(held.length / PAGE_TOKENS);
          held.extend(Math.min(PAGE_TOKENS, length - held.length));
          this.backend.writePage(held.store, held.place(index), piece.subarray(at, at + pageBytes));
        }
      }
      if (held.length < length) {
        throw new RangeError(`Cannot fill a cache of ${length} tokens: pages end at ${held.length}`);
      }
    } catch (error) {
      held.truncate(0);
      throw error;
    }
  }

  async read(x: Tensor): Promise<Float32Array> {
    this.backend.mustLive("read");
    const tensor = this.#alive(x, "read");
    if (tensor.kind === "weight" && tensor.shape.length > 1) {
      throw new TypeError(`Cannot read [${x.shape}]: it is an uploaded matrix: read what embed makes of it`);
    }
    const count = countOf(tensor.shape);
    if (count === 0) {
      await this.flush();
      return new Float32Array(0);
    }
    const dtype = tensor.dtype === "u32" ? "u32" : "f32";
    const numbers = await this.backend.read(tensor.buffer, count, dtype);
    return dtype === "u32" ? Float32Array.from(new Uint32Array(numbers)) : new Float32Array(numbers);
  }

  async flush(): Promise<void> {
    this.backend.mustLive("flush");
    await this.backend.flush();
  }

  async step<T>(body: () => Promise<T>): Promise<T> {
    this.backend.mustLive("begin a step");
    if (this.#step !== "none") {
      throw new Error("Cannot begin a step: another one is under way: await it first");
    }
    this.#step = "open";
    this.#scopes.push([]);
    try {
      this.backend.begin();
      const result = await body();
      await this.backend.flush();
      return result;
    } finally {
      this.#step = "ending";
      while (this.#scopes.length > 0) this.#recycle(this.#scopes.pop()!);
      for (const tensor of this.#constants.splice(0)) tensor.alive = false;
      this.#once.clear();
      try {
        await this.backend.end();
      } finally {
        this.#step = "none";
      }
    }
  }

  scope(body: () => Tensor): Tensor {
    this.#mustRecord("open a scope");
    const outer = this.#scopes.at(-1)!, inner: DeviceTensor[] = [];
    this.#scopes.push(inner);
    let kept: DeviceTensor | undefined;
    try {
      const result = this.#alive(body(), "end a scope");
      kept = result.base ?? result;
      return result;
    } finally {
      this.#scopes.pop();
      this.#recycle(inner.filter((x) => x !== kept));
      if (kept && inner.includes(kept)) outer.push(kept);
    }
  }

  withRows<T>(few: number, body: () => T): T {
    this.#mustRecord("choose the arithmetic of rows");
    const before = this.#few;
    this.#few = few;
    try {
      return body();
    } finally {
      this.#few = before;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const cache of [...this.#caches]) cache.free();
    await this.backend[Symbol.asyncDispose]();
  }

  // Operations.

  embed(table: Tensor, ids: Uint32Array): Tensor {
    return this.#one("embed", { table: this.#alive(table, "embed"), ids });
  }

  linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
    const action = "linear";
    return this.#one(action, {
      x: this.#alive(x, action),
      weight: this.#alive(weight, action),
      bias: bias && this.#alive(bias, action),
    });
  }

  rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
    const action = "rmsNorm";
    return this.#one(action, {
      x: this.#alive(x, action),
      weight: this.#alive(weight, action),
      bias: undefined,
      eps,
    });
  }

  layerNorm(x: Tensor, weight: Tensor, bias: Tensor | undefined, eps: number): Tensor {
    const action = "layerNorm";
    return this.#one(action, {
      x: this.#alive(x, action),
      weight: this.#alive(weight, action),
      bias: bias && this.#alive(bias, action),
      eps,
    });
  }

  rope(x: Tensor, segments: readonly Segment[], spec: RopeSpec): Tensor {
    return this.#one("rope", { x: this.#alive(x, "rope"), segments, spec });
  }

  append(caches: readonly KvCache[], keys: Tensor, values: Tensor, segments: readonly Segment[]): void {
    const args = {
      caches: caches.map((cache) => this.#held(cache, "append")),
      keys: this.#alive(keys, "append"),
      values: this.#alive(values, "append"),
      segments,
    };
    this.#mustRecord("run append");
    operations.append.check(args, this.limits);
    // Room for all first: nothing is recorded when memory does not suffice.
    const before = args.caches.map(({ length }) => length);
    try {
      args.caches.forEach((cache, i) => cache.extend(segments[i]!.to - segments[i]!.from));
    } catch (error) {
      args.caches.forEach((cache, i) => cache.truncate(before[i]!));
      throw error;
    }
    this.onOperation?.("append", args, []);
    if (args.keys.rows > 0) this.backend.kernels.append(args, [], this.#recording);
  }

  attention(queries: Tensor, at: Rows, over: KeySource, spec: AttentionSpec): Tensor {
    const action = "attention";
    const rows = (at: Rows) =>
      "rows" in at
        ? { ...at, rows: this.#alive(at.rows, action), weights: this.#alive(at.weights, action) }
        : at;
    const keys = "caches" in over ? { caches: over.caches.map((cache) => this.#held(cache, action)) } : {
      keys: this.#alive(over.keys, action),
      values: this.#alive(over.values, action),
      at: rows(over.at),
    };
    if (spec.sinkLogits) this.#alive(spec.sinkLogits, action);
    if (spec.bias?.kind === "buckets") {
      this.#alive(spec.bias.table, action);
      if (spec.bias.summaries) this.#alive(spec.bias.summaries.table, action);
    }
    return this.#one(action, {
      queries: this.#alive(queries, action),
      at: rows(at),
      over: keys,
      spec,
    });
  }

  activate(x: Tensor, activation: Activation, multiplier?: Tensor): Tensor {
    const action = "activate";
    return this.#one(action, {
      x: this.#alive(x, action),
      activation,
      multiplier: multiplier && this.#alive(multiplier, action),
    });
  }

  multiply(a: Tensor, b: Tensor): Tensor {
    return this.#one("multiply", { a: this.#alive(a, "multiply"), b: this.#alive(b, "multiply") });
  }

  add(a: Tensor, b: Tensor): Tensor {
    return this.#one("add", { a: this.#alive(a, "add"), b: this.#alive(b, "add") });
  }

  scale(x: Tensor, factor: number): Tensor {
    return this.#one("scale", { x: this.#alive(x, "scale"), factor });
  }

  clamp(x: Tensor, low: number, high: number): Tensor {
    return this.#one("clamp", { x: this.#alive(x, "clamp"), low, high });
  }

  slice(x: Tensor, axis: 0 | 1, from: number, to: number): Tensor {
    const args = { x: this.#alive(x, "slice"), axis, from, to };
    if (axis !== 0 || !this.backend.view) return this.#one("slice", args);
    this.#mustRecord("run slice");
    const [{ shape }] = operations.slice.check(args, this.limits) as [Result];
    const { buffer, base, features } = args.x;
    const view = this.backend.view(buffer, 4 * from * features, 4 * countOf(shape));
    return new DeviceTensor(this, "f32", shape, view, "activations", base ?? args.x);
  }

  gather(x: Tensor, rows: Tensor): Tensor {
    return this.#one("gather", { x: this.#alive(x, "gather"), rows: this.#alive(rows, "gather") });
  }

  route(x: Tensor, router: Tensor, divisor: number, segments: readonly Segment[]): Routed {
    const args = { x: this.#alive(x, "route"), router: this.#alive(router, "route"), divisor, segments };
    const [rows, weights] = this.#run("route", args) as [DeviceTensor, DeviceTensor];
    return { rows, weights, segments: routeTable(segments, divisor).segments };
  }

  scatterAdd(x: Tensor, rows: Tensor, weights: Tensor, update: Tensor): Tensor {
    const action = "scatterAdd";
    return this.#one(action, {
      x: this.#alive(x, action),
      rows: this.#alive(rows, action),
      weights: this.#alive(weights, action),
      update: this.#alive(update, action),
    });
  }

  chooseExperts(logits: Tensor, count: number, softmaxOver: "chosen" | "all"): ExpertChoice {
    const args = { logits: this.#alive(logits, "chooseExperts"), count, softmaxOver };
    const [experts, weights] = this.#run("chooseExperts", args) as [DeviceTensor, DeviceTensor];
    return { count, experts, weights };
  }

  expertLinear(x: Tensor, choice: ExpertChoice, weight: Tensor, bias?: Tensor): Tensor {
    const action = "expertLinear";
    return this.#one(action, {
      x: this.#alive(x, action),
      choice: this.#choice(choice, action),
      weight: this.#alive(weight, action),
      bias: bias && this.#alive(bias, action),
    });
  }

  combineExperts(x: Tensor, choice: ExpertChoice): Tensor {
    const action = "combineExperts";
    return this.#one(action, { x: this.#alive(x, action), choice: this.#choice(choice, action) });
  }

  // The life of an operation.

  #one<K extends OperationName>(name: K, args: OperationArgs[K]): Tensor {
    return this.#run(name, args)[0]!;
  }

  #run<K extends OperationName>(name: K, args: OperationArgs[K]): readonly DeviceTensor[] {
    this.#mustRecord(`run ${name}`);
    const results = operations[name].check(args, this.limits);
    this.onOperation?.(name, args, results);
    const made = results.map((result) => this.#make(result));
    if (countOf(results[0]!.shape) > 0) {
      (this.backend.kernels[name] as Kernel<K>)(args, made, this.#recording);
    }
    return made;
  }

  #make({ dtype, shape, below, distinct }: Result, bytes = 4 * countOf(shape)): DeviceTensor {
    const tensor = new DeviceTensor(this, dtype, shape, this.backend.make(bytes), "activations");
    if (below !== undefined) tensor.below = below;
    if (distinct !== undefined) tensor.distinct = distinct;
    this.#scopes.at(-1)!.push(tensor);
    return tensor;
  }

  /** Numbers of the host live until the step ends, whatever scope they were made in. */
  #constant(shape: Shape, data: Float32Array | Uint32Array | Float64Array): DeviceTensor {
    const dtype = data instanceof Uint32Array ? "u32" : "f32";
    const tensor = new DeviceTensor(this, dtype, shape, this.backend.constant(data), "activations");
    if (data instanceof Uint32Array && shape.length === 1) {
      let largest = -1;
      for (const n of data) if (n > largest) largest = n;
      tensor.below = largest + 1;
      tensor.distinct = new Set(data).size === data.length;
    }
    this.#constants.push(tensor);
    return tensor;
  }

  #onceAStep<T>(owner: object, key: string, make: () => T): T {
    let parts = this.#once.get(owner);
    if (!parts) this.#once.set(owner, parts = new Map());
    if (parts.has(key)) return parts.get(key) as T;
    const scopes = this.#scopes.splice(1);
    try {
      const made = make();
      parts.set(key, made);
      return made;
    } finally {
      this.#scopes.push(...scopes);
    }
  }

  /** The last one first, so that the next step like this one finds the same buffers in the same places. */
  #recycle(tensors: readonly DeviceTensor[]): void {
    for (let i = tensors.length - 1; i >= 0; i--) {
      tensors[i]!.alive = false;
      this.backend.recycle(tensors[i]!.buffer);
    }
  }

  #mustRecord(action: string): void {
    this.backend.mustLive(action);
    if (this.#step === "open") return;
    throw new Error(`Cannot ${action}: no step is under way: do it inside of device.step()`);
  }

  /** The tensor as this device's own, alive. */
  #alive(x: Tensor, name: string): DeviceTensor {
    const action = name === "read" || name === "free" || name === "end a scope" ? name : `run ${name}`;
    if (!(x instanceof DeviceTensor) || x.owner !== this) {
      throw new TypeError(`Cannot ${action}: a tensor is not of this device`);
    }
    if (!(x.base ?? x).alive) {
      throw new Error(
        `Cannot ${action}: the tensor [${x.shape}] is gone: its step or scope has ended, or it was freed`,
      );
    }
    return x;
  }

  #choice(choice: ExpertChoice, name: string) {
    return {
      count: choice.count,
      experts: this.#alive(choice.experts, name),
      weights: this.#alive(choice.weights, name),
    };
  }

  #held(cache: KvCache, name: string): PagedCache {
    if (!(cache instanceof PagedCache) || cache.owner !== this) {
      throw new TypeError(
        `Cannot ${name.includes(" ") ? name : `run ${name}`}: a cache is not of this device`,
      );
    }
    return cache;
  }

  #outside(cache: KvCache, action: string): PagedCache {
    this.backend.mustLive(action);
    if (this.#step !== "none") throw new Error(`Cannot ${action}: a step is under way: await it first`);
    const held = this.#held(cache, action);
    if (held.freed) throw new Error(`Cannot ${action}: the cache was freed`);
    return held;
  }

  #geometry(geometry: CacheGeometry): CacheGeometry {
    const { kvHeads, headDim, valueDim, dtype } = geometry, most = this.limits.headDim;
    const fits = (dim: number) => Number.isInteger(dim) && dim % 4 === 0 && dim >= 4 && dim <= most;
    if (!Number.isInteger(kvHeads) || kvHeads < 1 || !fits(headDim) || !fits(valueDim)) {
      throw new RangeError(
        `Cannot create a cache of ${kvHeads} heads with keys of ${headDim} features and values of ${valueDim}: ` +
          `heads are at least 1, features multiples of 4 up to ${most}`,
      );
    }
    if (!CACHE_DTYPES.includes(dtype)) {
      throw new RangeError(`Cannot create a cache of ${dtype}: take ${CACHE_DTYPES.join(", ")}`);
    }
    return geometry;
  }
}
