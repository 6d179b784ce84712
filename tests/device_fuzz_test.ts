/**
 * Random calls of every operation on the WASM device: wrong shapes and formats, tensors that are gone or
 * another device's, numbers that are none, nested steps. Each must compute or be refused in words, and
 * afterwards the device must still compute. Calls are drawn from a seed; a failure names it. Bounded by time
 * on slow machines.
 */
import assert from "node:assert/strict";
import type { AttentionMask, AttentionSpec } from "../runtime/device/attention_spec.ts";
import type {
  CacheDType,
  Device,
  ExpertChoice,
  KvCache,
  Routed,
  Segment,
  Tensor,
} from "../runtime/device/device.ts";
import { openWasmDevice } from "../runtime/device/wasm/device.ts";
import { Random } from "./cases/case.ts";

const CALLS = 100_000;
/** A step has this many calls, so that its commands run together. */
const CALLS_PER_STEP = 40;
const SECONDS = 40;

/** What calls draw from. */
class Pool {
  readonly random: Random;
  /** Of this step, of steps before, and of another device. */
  tensors: Tensor[] = [];
  readonly gone: Tensor[] = [];
  readonly weights: Tensor[];
  readonly foreign: readonly Tensor[];
  caches: KvCache[] = [];
  choices: ExpertChoice[] = [];
  routed: Routed[] = [];

  constructor(random: Random, weights: Tensor[], foreign: readonly Tensor[]) {
    this.random = random;
    this.weights = weights;
    this.foreign = foreign;
  }

  chance(share: number): boolean {
    return this.random.uniform() < share;
  }
  of<T>(list: readonly T[]): T {
    return list[this.random.int(list.length)]!;
  }
  /** Mostly a small whole number, now and then one that fits nothing. */
  count(most = 9): number {
    if (this.chance(0.97)) return this.random.int(most + 1);
    return this.of([-1, 0.5, NaN, Infinity, -Infinity, 2 ** 31, 2 ** 32 + 1, 2 ** 53, 1e308]);
  }
  number(): number {
    return this.chance(0.97) ? this.random.normal() : this.of([0, NaN, Infinity, -Infinity, 1e-38, 3e38]);
  }
  /** Mostly alive, and mostly of this shape where there is one. */
  tensor(...shape: number[]): Tensor {
    if (this.chance(0.02)) return this.of([...this.foreign, ...this.gone.slice(-20)]);
    if (this.chance(0.05)) return this.of(this.weights);
    const fitting = shape.length === 0 ? [] : this.tensors.filter((x) => `${x.shape}` === `${shape}`);
    return this.of(fitting.length > 0 && this.chance(0.9) ? fitting : this.tensors);
  }
  weight(rank: number, inputs?: number): Tensor {
    if (this.chance(0.05)) return this.tensor();
    const fitting = this.weights.filter((w) =>
      w.shape.length === rank && (inputs === undefined || w.shape.at(-1) === inputs)
    );
    return this.of(fitting.length > 0 && this.chance(0.9) ? fitting : this.weights);
  }
  /** Mostly such that they cover the rows. */
  segments(rows: number, starts: readonly number[] = [0]): Segment[] {
    const segments: Segment[] = [];
    for (let from = 0; from < rows && segments.length < 4;) {
      const to = segments.length === 3 ? rows : Math.min(rows, from + 1 + this.random.int(rows));
      segments.push({ from, to, start: starts[segments.length] ?? this.random.int(70) });
      from = to;
    }
    if (this.chance(0.05)) segments.push({ from: this.count(), to: this.count(), start: this.count() });
    if (this.chance(0.03)) segments.reverse();
    return segments;
  }
  mask(): AttentionMask {
    const mask: { -readonly [K in keyof AttentionMask]: AttentionMask[K] } = { causal: this.chance(0.6) };
    if (this.chance(0.2)) mask.prefix = this.count(20);
    if (this.chance(0.3)) mask.window = { left: this.count(30), right: this.count(9) };
    if (this.chance(0.2)) mask.keepFirst = this.count(9);
    if (this.chance(0.1)) {
      mask.blocks = {
        size: this.count(20),
        local: this.count(2),
        global: [this.count(3)],
        random: this.chance(0.5) ? [] : [[[0], [this.count(3)]], [[1]]],
      };
    }
    return mask;
  }
  spec(heads: number, kvHeads: number): AttentionSpec {
    const spec: { -readonly [K in keyof AttentionSpec]: AttentionSpec[K] } = {
      heads: this.chance(0.97) ? heads : this.count(),
      kvHeads: this.chance(0.97) ? kvHeads : this.count(),
      mask: this.mask(),
    };
    if (this.chance(0.2)) spec.scale = this.number();
    if (this.chance(0.2)) spec.softcap = this.number();
    if (this.chance(0.2)) spec.sinkLogits = this.tensor(heads);
    const bias = this.random.int(5);
    if (bias === 0) {
      spec.bias = { kind: "alibi", slopes: Float32Array.from({ length: heads }, () => this.number()) };
    } else if (bias === 1) {
      const table = this.tensor(8, heads), maxDistance = this.count(40), bidirectional = this.chance(0.5);
      const summaries = { count: this.count(3), size: this.count(3), table };
      spec.bias = {
        kind: "buckets",
        table,
        maxDistance,
        bidirectional,
        ...(this.chance(0.3) && { summaries }),
      };
    }
    return spec;
  }
}

const rowsOf = (x: Tensor) => x.shape[0]!;
const featuresOf = (x: Tensor) => x.shape.at(-1)!;

/** One call of a random operation; what it makes goes to the pool. */
function call(device: Device, pool: Pool): void {
  const keep = (x: Tensor) => void pool.tensors.push(x);
  const x = pool.tensor(), rows = rowsOf(x), features = featuresOf(x);
  const operations: readonly (() => void)[] = [
    () =>
      keep(
        device.embed(pool.weight(2), Uint32Array.from({ length: pool.random.int(6) }, () => pool.count(9))),
      ),
    () =>
      keep(device.linear(x, pool.weight(2, features), pool.chance(0.3) ? pool.tensor(features) : undefined)),
    () => keep(device.rmsNorm(x, pool.tensor(features), pool.number())),
    () => keep(device.layerNorm(x, pool.tensor(features), undefined, pool.number())),
    () => {
      const heads = pool.of([1, 2, 4]), dim = pool.of([2, 4, 8, pool.count()]);
      const inverseFrequencies = new Float32Array(Math.min(64, Math.max(0, Math.floor(dim / 2) || 0))).fill(
        0.1,
      );
      const pairing = pool.of(["half", "interleaved"] as const);
      keep(device.rope(x, pool.segments(rows), { heads, dim, pairing, inverseFrequencies, scale: 1 }));
    },
    () => {
      const caches = pool.caches.slice(0, 1 + pool.random.int(2));
      const of = pool.tensor(9, 32), starts = caches.map((cache) => cache.length);
      const segments = pool.segments(rowsOf(of), starts).slice(0, caches.length);
      device.append(caches, of, pool.tensor(9, 32), segments);
    },
    () => {
      const cache = pool.of(pool.caches), q = pool.tensor(9, 64);
      const at = [{ from: 0, to: rowsOf(q), start: Math.max(0, cache.length - rowsOf(q)) }];
      keep(device.attention(q, at, { caches: [cache] }, pool.spec(4, 2)));
    },
    () => {
      const q = pool.tensor(9, 64), keys = pool.tensor(9, 32), at = pool.segments(rowsOf(q));
      keep(device.attention(q, at, { keys, values: pool.tensor(9, 32), at }, pool.spec(4, 2)));
    },
    () => {
      const routed = pool.routed.at(-1);
      if (!routed) return;
      const of = pool.tensor(rowsOf(routed.rows), 64), keys = pool.tensor(9, 32);
      const over = { keys, values: keys, at: pool.segments(rowsOf(keys)) };
      keep(device.attention(of, routed, over, pool.spec(4, 2)));
    },
    () => {
      const activation = pool.of(["silu", "gelu", "gelu_tanh", "relu2", "tanh", "none" as "relu"] as const);
      keep(device.activate(x, activation, pool.chance(0.3) ? pool.tensor(rows, features) : undefined));
    },
    () =>
      keep(
        device.multiply(
          x,
          pool.of([pool.tensor(rows, features), pool.tensor(features), pool.tensor(rows, 1)]),
        ),
      ),
    () => keep(device.add(x, pool.of([pool.tensor(rows, features), pool.tensor(features)]))),
    () => keep(device.scale(x, pool.number())),
    () => keep(device.clamp(x, pool.number(), pool.number())),
    () => keep(device.slice(x, pool.of([0, 1] as const), pool.count(), pool.count(33))),
    () => keep(device.gather(x, pool.tensor(5))),
    () => {
      const routed = device.route(x, pool.tensor(features), pool.count(4), pool.segments(rows));
      pool.routed.push(routed);
      keep(routed.rows);
      keep(routed.weights);
    },
    () => {
      const routed = pool.routed.at(-1);
      if (!routed) return;
      const { rows: chosen, weights } = routed;
      keep(device.scatterAdd(x, chosen, weights, pool.tensor(rowsOf(chosen), features)));
    },
    () => {
      const choice = device.chooseExperts(
        x,
        pool.count(3),
        pool.of(["chosen", "all", "some" as "all"] as const),
      );
      pool.choices.push(choice);
      keep(choice.weights);
    },
    () => {
      if (pool.choices.length === 0) return;
      const choice = pool.of(pool.choices), count = pool.chance(0.9) ? choice.count : pool.count();
      keep(device.expertLinear(x, { ...choice, count }, pool.weight(3, features)));
    },
    () => pool.choices.length > 0 && keep(device.combineExperts(x, pool.of(pool.choices))),
    () => {
      const shape = [pool.count(), pool.of([1, 3, 32, 64])], count = shape[0]! * shape[1]!;
      const length = Number.isInteger(count) && count >= 0 && count < 4096 ? count : 3;
      keep(device.constant(shape, pool.random.normals(length)));
    },
    () => keep(device.scope(() => device.scale(device.scale(x, 2), 0.5))),
    () => pool.of(pool.caches).truncate(pool.count(80)),
    () => pool.of(pool.caches).keepWindow(pool.count(80)),
    () => {
      const at = pool.random.int(pool.caches.length), cache = pool.caches[at]!;
      pool.caches[at] = pool.chance(0.5) ? cache.fork() : device.createKvCache(
        ...[pool.chance(0.9) ? 2 : pool.count(), pool.chance(0.9) ? 16 : pool.count(40)] as const,
        pool.of<CacheDType>(["f32", "f16", "q8", "q4" as "q8"]),
      );
      cache.free();
    },
    () => pool.of(pool.caches).share(pool.of(pool.caches), pool.of([0, 64, pool.count()])),
    () => device.free(pool.tensor()),
  ];
  pool.of(operations)();
}

/** Engines' own messages also begin with "Cannot"; these are bugs. */
const RAW = /^Cannot (read properties|set prop|convert |destructure|access '|mix |perform |use 'in')/;

Deno.test({
  name: "100,000 random calls leave a WASM device that computes",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const seed = Number(Deno.env.get("LAKH_FUZZ_SEED") ?? 20251125), random = new Random(seed);
    await using device = await openWasmDevice({ threads: 2 });
    await using other = await openWasmDevice({ threads: 1 });
    const upload = (on: Device, dtype: "f32" | "bf16" | "q8" | "q4", shape: number[]) => {
      const data = random.normals(shape.reduce((a, b) => a * b));
      return on.upload(dtype, shape, { dtype: "f32", chunks: [new Uint8Array(data.buffer)] });
    };
    const weights = [
      ...await Promise.all((["f32", "bf16", "q8", "q4"] as const).map((d) => upload(device, d, [64, 32]))),
      await upload(device, "f32", [32, 64]),
      await upload(device, "f32", [64]),
      await upload(device, "f32", [32]),
      await upload(device, "f32", [4]),
      await upload(device, "f32", [8, 4]),
      await upload(device, "q8", [3, 32, 64]),
    ];
    const pool = new Pool(random, weights, [await upload(other, "f32", [64])]);
    pool.caches = [1, 2, 3].map(() => device.createKvCache(2, 16, "f32"));

    const probe = await upload(device, "f32", [8, 8]);
    const compute = () =>
      device.step(async () => {
        const x = device.constant([1, 8], Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8));
        return await device.read(device.linear(x, probe));
      });
    const expected = await compute(), memory = device.memoryInUse;

    const end = performance.now() + SECONDS * 1000;
    let calls = 0, refused = 0, steps = 0;
    const guard = async (body: () => unknown) => {
      try {
        await body();
      } catch (error) {
        refused++;
        const { message } = error as Error;
        const words = error instanceof Error && message.startsWith("Cannot ") && !RAW.test(message);
        assert.ok(words, `seed ${seed}, call ${calls}: ${(error as Error)?.stack ?? error}`);
        assert.ok(!/closed|thread failed/.test(message), `seed ${seed}, call ${calls}: ${message}`);
      }
    };
    while (calls < CALLS && performance.now() < end) {
      await guard(() =>
        device.step(async () => {
          pool.tensors = [
            device.constant([9, 64], random.normals(576)),
            device.constant([9, 32], random.normals(288)),
            device.constant([9, 32], random.normals(288)),
            device.constant([5], Uint32Array.from({ length: 5 }, () => pool.count(12))),
            device.constant([64], random.normals(64)),
            device.constant([8, 4], random.normals(32)),
            device.constant([0, 32], new Float32Array(0)),
          ];
          pool.choices = [];
          pool.routed = [];
          for (let i = 0; i < CALLS_PER_STEP; i++, calls++) await guard(() => call(device, pool));
          if (steps % 5 === 0) await guard(() => device.step(() => Promise.resolve()));
          if (steps % 7 === 0) await guard(() => device.readPages(pool.of(pool.caches), 0, pool.count(2)));
          if (steps % 3 === 0) {
            const x = pool.of(pool.tensors);
            await guard(async () => void await device.read(x));
          }
          if (steps % 11 === 0) throw new Error("Cannot go on: the caller gave up");
        })
      );
      pool.gone.push(...pool.tensors.splice(0).slice(-3));
      pool.gone.splice(0, pool.gone.length - 20);
      if (++steps % 50 === 0) assert.deepEqual(await compute(), expected, `seed ${seed}, call ${calls}`);
      for (const [i, cache] of pool.caches.entries()) {
        if (cache.length > 400) {
          cache.free();
          pool.caches[i] = device.createKvCache(2, 16, "f32");
        }
      }
      // A weight that was freed is replaced.
      for (const [i, weight] of pool.weights.entries()) {
        if (!(weight as unknown as { alive: boolean }).alive) {
          pool.weights[i] = await upload(device, weight.dtype as "f32", [...weight.shape]);
        }
      }
    }
    assert.deepEqual(await compute(), expected, `seed ${seed}`);
    for (const cache of pool.caches) cache.free();
    assert.equal(device.memoryInUse, memory, `seed ${seed}: memory comes back`);
    assert.ok(refused > calls / 100 && refused < calls, `${refused} of ${calls} calls were refused`);
    console.log(`${calls} calls in ${steps} steps, ${refused} refused, seed ${seed}`);
  },
});
