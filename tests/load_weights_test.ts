import assert from "node:assert/strict";
import type { Device, Tensor, TensorSource, WeightDType } from "../runtime/device/device.ts";
import { memoryFiles } from "../runtime/load/memory_files.ts";
import { openCheckpoint } from "../runtime/load/safetensors.ts";
import { allFinite, pickedRows, type Selection, streamTensor } from "../runtime/load/tensor_stream.ts";
import { countOf } from "../runtime/load/weight_formats.ts";
import {
  chooseWeightDType,
  createConfigWeights,
  createWeights,
  type LoadOptions,
} from "../runtime/load/weights.ts";
import type { Weights } from "../runtime/models/model.ts";
import { fc } from "./deps.ts";
import { f32, ramp, rawFile, safetensors, type TensorBytes, tiny } from "./load_files.ts";

/** Keeps uploaded numbers in f32; operations record their names and arguments. */
class RecordingDevice {
  readonly limits = { memoryBytes: 1e9, threads: 1, f16: false };
  memoryInUse = 0;
  readonly uploads: { dtype: WeightDType; shape: readonly number[]; numbers: number[]; freed: boolean }[] =
    [];
  readonly calls: string[] = [];

  async upload(dtype: WeightDType, shape: readonly number[], source: TensorSource): Promise<Tensor> {
    const numbers: number[] = [];
    for await (const piece of source.chunks) numbers.push(...decode(piece, source.dtype));
    assert.equal(numbers.length, shape.reduce((a, b) => a * b, 1));
    const tensor = { dtype, shape, numbers, freed: false };
    this.uploads.push(tensor);
    return tensor;
  }

  free(x: Tensor): void {
    (x as unknown as { freed: boolean }).freed = true;
  }

  linear(_x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
    this.calls.push(`linear ${this.#index(weight)} ${bias ? this.#index(bias) : "-"}`);
    return weight;
  }

  expertLinear(_x: Tensor, _choice: unknown, weight: Tensor, bias?: Tensor): Tensor {
    return this.linear(_x, weight, bias);
  }

  embed(table: Tensor): Tensor {
    this.calls.push(`embed ${this.#index(table)}`);
    return table;
  }

  #index(x: Tensor): number {
    return this.uploads.indexOf(x as never);
  }
}

function decode(piece: Uint8Array, dtype: TensorSource["dtype"]): Iterable<number> {
  const copy = piece.slice().buffer;
  if (dtype === "f32") return new Float32Array(copy);
  if (dtype === "f16") return new Float16Array(copy);
  return new Float32Array(Uint32Array.from(new Uint16Array(copy), (bits) => bits << 16).buffer);
}

async function load(
  tensors: Readonly<Record<string, TensorBytes>>,
  declare: (w: Weights) => unknown,
  options: LoadOptions = {},
) {
  const device = new RecordingDevice();
  using checkpoint = await openCheckpoint(tiny(tensors));
  const weights = createWeights(checkpoint, device as unknown as Device);
  declare(weights);
  const report = await weights.load({ weights: "f32", ...options });
  return { device, report, weights, uploads: device.uploads };
}

const X = {} as Tensor;

Deno.test("load() uploads in the order of the file, whatever the order of declarations", async () => {
  const seen: number[] = [];
  const { uploads, report } = await load(
    {
      "a.weight": ramp([2, 3]),
      "a.bias": ramp([2], 10),
      "norm.weight": ramp([3], 0.5),
      "e.weight": ramp([4, 2]),
    },
    (w) => {
      w.embedding("e", { vocabulary: 4, hidden: 2 });
      w.rmsNorm("norm", 3, 1e-5);
      w.linear("a", { in: 3, out: 2, bias: true });
    },
    { weights: "f16", onProgress: ({ done, total }) => seen.push(done, total) },
  );
  assert.deepEqual(uploads.map(({ dtype, shape, numbers }) => [dtype, shape, numbers]), [
    ["f16", [2, 3], [0, 1, 2, 3, 4, 5]],
    ["f32", [2], [0, 10]],
    ["f32", [3], [0, 0.5, 1]],
    ["f16", [4, 2], [0, 1, 2, 3, 4, 5, 6, 7]],
  ]);
  assert.deepEqual(seen, [0, 76, 24, 76, 32, 76, 44, 76, 76, 76]);
  assert.deepEqual(report, { weights: "f16", parameters: 19, keptF32: [] });
});

Deno.test("load() gives layers, embeddings and tied outputs their tensors", async () => {
  let run = () => {};
  const { device } = await load(
    {
      "e.weight": ramp([4, 2]),
      "l.0.p.weight": ramp([2, 2]),
      "l.0.p.bias": ramp([2]),
      "l.1.p.weight": ramp([2, 2]),
    },
    (w) => {
      const embed = w.embedding("e", { vocabulary: 4, hidden: 2 });
      const layers = w.list(
        "l",
        2,
        (w, i) => w.linear("p", { in: 2, out: 2, bias: w.has("p.bias") && i === 0 }),
      );
      run = () => {
        embed(Uint32Array.of(1));
        layers.forEach((layer) => layer(X));
        embed.asLinear(X);
      };
    },
  );
  run();
  assert.deepEqual(device.calls, ["embed 0", "linear 1 2", "linear 3 -", "linear 0 -"]);
});

Deno.test("load() uploads once what is declared twice", async () => {
  const { uploads } = await load({ "e.weight": ramp([4, 2]) }, (w) => {
    w.embedding("e", { vocabulary: 4, hidden: 2 });
    w.at("e").tensor("weight", [4, 2]);
  });
  assert.equal(uploads.length, 1);
});

Deno.test("WeightOptions take parts, transpose, add and stay f32", async () => {
  const { uploads } = await load(
    {
      "qkv.weight": ramp([4, 2]),
      "qkv.bias": ramp([4]),
      "conv.weight": ramp([2, 3]),
      "norm.weight": ramp([2]),
    },
    (w) => {
      w.linear("qkv", { in: 2, out: 1, bias: true, rows: { from: 0, to: 1 } });
      w.linear("qkv", { in: 2, out: 3, bias: true, rows: { from: 1, to: 4 } });
      w.linear("qkv", { in: 2, out: 2, bias: true, rows: { from: 1, to: 2, every: 2 } });
      w.linear("conv", { in: 2, out: 3, transpose: true });
      w.linear("conv", { in: 2, out: 2, transpose: true, rows: { from: 1, to: 3 } });
      w.linear("conv", { in: 2, out: 2, transpose: true, rows: { from: 1, to: 3 }, keepFloat: true });
      w.rmsNorm("norm", 2, 1e-5, { plus: 1 });
    },
    { weights: "f16" },
  );
  assert.deepEqual(uploads.map(({ dtype, numbers }) => [dtype, ...numbers]), [
    ["f16", 0, 1],
    ["f16", 2, 3, 4, 5, 6, 7],
    ["f16", 2, 3, 6, 7],
    ["f32", 0],
    ["f32", 1, 2, 3],
    ["f32", 1, 3],
    ["f16", 0, 3, 1, 4, 2, 5],
    ["f16", 1, 4, 2, 5],
    ["f32", 1, 4, 2, 5],
    ["f32", 1, 2],
  ]);
});

Deno.test("load() keeps matrices whose rows are no multiple of 32 in f32 and reports them", async () => {
  const { uploads, report } = await load(
    { "a.weight": ramp([2, 64]), "b.weight": ramp([2, 48]), "c.weight": ramp([2, 32]) },
    (w) => {
      w.linear("a", { in: 64, out: 2 });
      w.linear("b", { in: 48, out: 2 });
      w.tensor("c.weight", [2, 32], { keepFloat: true });
    },
    { weights: "q8" },
  );
  assert.deepEqual(uploads.map(({ dtype }) => dtype), ["q8", "f32", "f32"]);
  assert.deepEqual(report, { weights: "q8", parameters: 288, keptF32: ["b.weight"] });
});

Deno.test("chooseWeightDType() keeps f32 up to 256 MB", () => {
  assert.equal(chooseWeightDType("auto", 64 * 2 ** 20), "f32");
  assert.equal(chooseWeightDType("auto", 64 * 2 ** 20 + 1), "q8");
  assert.equal(chooseWeightDType("f16", 1), "f16");
});

Deno.test("Weights name what is missing, and the nearest name", async () => {
  const tensors = { "l.0.p.weight": ramp([2, 2]) };
  await assert.rejects(
    load(tensors, (w) => w.linear("l.0.q", { in: 2, out: 2 })),
    /Cannot load "tiny": tensor "l.0.q.weight" is missing \(the nearest name is "l.0.p.weight"\): config.json/,
  );
  await assert.rejects(
    load(tensors, (w) => w.linear("l.0.p", { in: 2, out: 2, bias: true })),
    /tensor "l.0.p.bias" is missing/,
  );
  await assert.rejects(
    load(tensors, (w) => w.list("l", 9e15, (w) => w.linear("p", { in: 2, out: 2 }))),
    /layer "l.1" of 9000000000000000 is missing/,
  );
});

Deno.test("Weights name tensors that the model leaves, unless it ignores them", async () => {
  const tensors = Object.fromEntries(
    ["a", "b", "c", "d", "e", "f", "g"].map((n) => [`${n}.weight`, ramp([2])]),
  );
  await assert.rejects(
    load(tensors, (w) => w.rmsNorm("a", 2, 0)),
    /does not use tensors "b.weight", "c.weight", "d.weight", "e.weight", "f.weight" and 1 more: config.json/,
  );
  await assert.rejects(
    load({ "a.weight": ramp([2]), ab: ramp([1]) }, (w) => w.ignore("a")),
    /not use tensor "ab":/,
  );
  await load(tensors, (w) => {
    w.rmsNorm("a", 2, 0);
    w.at("b").ignore("weight");
    w.ignore("c", "d", "e", "f.weight", "g", "not.there");
  });
});

Deno.test("Weights show both shapes when they differ", async () => {
  const tensors = { "a.weight": ramp([2, 3]), "a.bias": ramp([2]) };
  const cases: readonly (readonly [(w: Weights) => unknown, RegExp])[] = [
    [
      (w) => w.linear("a", { in: 2, out: 3 }),
      /"tiny\/model.safetensors": tensor "a.weight" has the shape \[2, 3\], config.json asks for \[3, 2\]$/,
    ],
    [(w) => w.linear("a", { in: 3, out: 2, transpose: true }), /asks for \[2, 3\] \(transposed\)/],
    [
      (w) => w.linear("a", { in: 3, out: 2, rows: { from: 1, to: 3 } }),
      /asks for \[2, 3\] \(from rows 1 to 3\)/,
    ],
    [
      (w) => w.linear("a", { in: 3, out: 1, rows: { from: 0, to: 1, every: 3 } }),
      /\(from rows 0 to 1 of every 3\)/,
    ],
    [(w) => w.tensor("a.weight", [6]), /asks for \[6\]/],
    [(w) => w.tensor("a.bias", [2, 1]), /asks for \[2, 1\]/],
    [(w) => w.tensor("a.bias", [1e15]), /asks for \[1000000000000000\]/],
    [(w) => w.experts("a.weight", { experts: 2, in: 3, out: 1 }), /asks for \[2, 1, 3\]/],
  ];
  for (const [declare, message] of cases) await assert.rejects(load(tensors, declare), message);
});

Deno.test("Weights refuse formats that are no floating-point weights", async () => {
  for (const dtype of ["I64", "F64", "F8_E4M3", "BOOL"]) {
    const size = dtype === "I64" || dtype === "F64" ? 8 : 1;
    await assert.rejects(
      load(
        { "a.weight": { dtype, shape: [2], bytes: new Uint8Array(2 * size) } },
        (w) => w.rmsNorm("a", 2, 0),
      ),
      new RegExp(`tensor "a.weight" is ${dtype}, weights can be F32, F16 or BF16`),
    );
  }
});

Deno.test("Weights find names of checkpoints saved without or with an outer name", async () => {
  const layer = (w: Weights) => w.list("transformer.h", 1, (w) => w.rmsNorm("ln", 2, 0));
  await load({ "h.0.ln.weight": ramp([2]), "wte.weight": ramp([2, 2]), "lm_head.weight": ramp([2]) }, (w) => {
    layer(w);
    assert(w.has("transformer.wte.weight") && w.has("lm_head.weight") && !w.has("transformer.none"));
    w.embedding("transformer.wte", { vocabulary: 2, hidden: 2 });
    w.ignore("lm_head");
  });
  await load(
    { "bert.encoder.ln.weight": ramp([2]), "bert.pooler.weight": ramp([1]), "cls.bias": ramp([1]) },
    (w) => {
      w.ignore("pooler", "cls");
      w.rmsNorm("encoder.ln", 2, 0);
    },
  );
  // One rule holds for the whole checkpoint: no mixture of names with and without the prefix.
  await assert.rejects(
    load({ "h.0.ln.weight": ramp([2]), "model.wte.weight": ramp([2, 2]) }, (w) => {
      layer(w);
      w.embedding("wte", { vocabulary: 2, hidden: 2 });
    }),
    /tensor "wte.weight" is missing/,
  );
});

Deno.test("layerNorm() reads gamma and beta of old checkpoints", async () => {
  const { uploads } = await load(
    { "n.gamma": ramp([2], 2), "n.beta": ramp([2], 3) },
    (w) => w.layerNorm("n", 2, 0),
  );
  assert.deepEqual(uploads.map(({ numbers }) => numbers), [[0, 2], [0, 3]]);
});

Deno.test("experts() stacks matrices of one tensor or of many", async () => {
  let run: readonly (() => unknown)[] = [];
  const { uploads, device } = await load(
    {
      "all": ramp([2, 3, 4]), // [experts, in, out]
      "all_bias": ramp([2, 4]),
      "e.0.w.weight": ramp([1, 3]),
      "e.1.w.weight": ramp([1, 3], 2),
    },
    (w) => {
      const even = {
        experts: 2,
        in: 3,
        out: 2,
        transpose: true,
        rows: { from: 0, to: 1, every: 2 },
        bias: "all_bias",
      };
      const one = w.experts("all", even);
      const many = w.experts(["e.0.w", "e.1.w"], { experts: 2, in: 3, out: 1 });
      run = [() => one(X, {} as never), () => many(X, {} as never)];
    },
  );
  assert.deepEqual(uploads.map(({ shape, numbers }) => [shape, numbers]), [
    [[2, 2, 3], [0, 4, 8, 2, 6, 10, 12, 16, 20, 14, 18, 22]],
    [[2, 2], [0, 2, 4, 6]],
    [[2, 1, 3], [0, 1, 2, 0, 2, 4]],
  ]);
  run.forEach((call) => call());
  assert.deepEqual(device.calls, ["linear 0 1", "linear 2 -"]);
  await assert.rejects(
    load(
      { "e.0.w.weight": ramp([1, 3]) },
      (w) => w.experts(["e.0.w", "e.1.w"], { experts: 2, in: 3, out: 1 }),
    ),
    /tensor "e.1.w.weight" is missing/,
  );
});

Deno.test("experts() widens MXFP4", async () => {
  const blocks = Uint8Array.from({ length: 2 * 2 * 16 }, (_, i) => i % 16 | (15 - i % 16) << 4);
  const u8 = (shape: number[], bytes: Uint8Array) => ({ dtype: "U8", shape, bytes });
  const tensors = {
    w_blocks: u8([1, 4, 1, 16], blocks),
    w_scales: u8([1, 4, 1], Uint8Array.of(127, 128, 126, 130)),
  };
  const { uploads } = await load(
    tensors,
    (w) => w.experts("w", { experts: 1, in: 32, out: 2, rows: { from: 1, to: 2, every: 2 } }),
  );
  const values = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];
  const row = (scale: number) => values.flatMap((value, i) => [value * scale, values[15 - i]! * scale]);
  assert.deepEqual(uploads[0]!.numbers, [...row(2), ...row(8)]);
  await assert.rejects(
    load(
      { ...tensors, w_scales: u8([1, 4, 1], Uint8Array.of(127, 255, 1, 1)) },
      (w) => w.experts("w", { experts: 1, in: 32, out: 4 }),
    ),
    /tensor "w_scales" holds NaN or infinity/,
  );
  await assert.rejects(
    load(tensors, (w) => w.experts("w", { experts: 1, in: 64, out: 4 })),
    /asks for \[1, 4, 2, 16\]/,
  );
});

Deno.test("load() refuses NaN and infinity, and frees what it had loaded", async () => {
  for (const bad of [NaN, Infinity, -Infinity]) {
    const device = new RecordingDevice();
    using checkpoint = await openCheckpoint(
      tiny({ "a.weight": ramp([2]), "b.weight": f32([3], [1, bad, 2]) }),
    );
    const weights = createWeights(checkpoint, device as unknown as Device);
    weights.rmsNorm("a", 2, 0);
    weights.rmsNorm("b", 3, 0);
    await assert.rejects(weights.load(), /model.safetensors": tensor "b.weight" holds NaN or infinity/);
    assert.deepEqual(device.uploads.map(({ freed }) => freed), [true]);
  }
});

Deno.test("allFinite() sees every NaN and infinity and nothing else, at every place", () => {
  const formats = [
    { dtype: "f16", all: 0x10000, isFinite: (bits: number) => (bits & 0x7c00) !== 0x7c00 },
    { dtype: "bf16", all: 0x10000, isFinite: (bits: number) => (bits & 0x7f80) !== 0x7f80 },
  ] as const;
  for (const { dtype, all, isFinite } of formats) {
    for (let bits = 0; bits < all; bits++) {
      for (const at of [0, 1, 2]) {
        const numbers = Uint16Array.of(0xffff & ~0x4000, 0x3000, 0x8000).fill(0x1234, 1, 2);
        numbers[at] = bits;
        assert.equal(
          allFinite(new Uint8Array(numbers.buffer), dtype),
          isFinite(bits),
          `${dtype} ${bits} at ${at}`,
        );
      }
    }
  }
  fc.assert(fc.property(fc.float32Array({ maxLength: 5 }), (numbers) => {
    assert.equal(allFinite(new Uint8Array(numbers.buffer.slice(0)), "f32"), numbers.every(Number.isFinite));
  }));
});

Deno.test("load() stops when it is aborted and frees what it had loaded", async () => {
  const device = new RecordingDevice();
  using checkpoint = await openCheckpoint(tiny({ "a.weight": ramp([2]), "b.weight": ramp([2]) }));
  const weights = createWeights(checkpoint, device as unknown as Device);
  weights.rmsNorm("a", 2, 0);
  weights.rmsNorm("b", 2, 0);
  const abort = new AbortController();
  const onProgress = ({ done }: { done: number }) => done >= 8 && abort.abort();
  await assert.rejects(weights.load({ signal: abort.signal, onProgress }), { name: "AbortError" });
  assert.deepEqual(device.uploads.map(({ freed }) => freed), [true]);
});

Deno.test("load() says before it starts that memory does not suffice", async () => {
  const device = new RecordingDevice();
  device.memoryInUse = 1e9 - 100;
  using checkpoint = await openCheckpoint(tiny({ "a.weight": ramp([10, 10]) }));
  const weights = createWeights(checkpoint, device as unknown as Device);
  const apply = weights.linear("a", { in: 10, out: 10 });
  await assert.rejects(
    weights.load(),
    /"tiny": its weights take 1 MB as f32, the device has 1 MB: choose a smaller/,
  );
  assert.equal(device.uploads.length, 0);
  assert.throws(() => apply(X), /Cannot use tensor "a.weight": the weights are not loaded/);
});

Deno.test("load() sends f16 and bf16 as they are", async () => {
  const half = { dtype: "F16", shape: [3], bytes: new Uint8Array(Float16Array.of(1, -2, 0.5).buffer) };
  const brain = {
    dtype: "BF16",
    shape: [3],
    bytes: new Uint8Array(Uint16Array.of(0x3f80, 0xc000, 0x3f00).buffer),
  };
  const { uploads } = await load(
    { "a.weight": half, "b.weight": brain, "c.weight": half, "d.weight": brain },
    (w) => {
      w.rmsNorm("a", 3, 0);
      w.rmsNorm("b", 3, 0);
      w.rmsNorm("c", 3, 0, { plus: 1 });
      w.rmsNorm("d", 3, 0, { plus: 1 });
    },
  );
  assert.deepEqual(uploads.map(({ numbers }) => numbers), [[1, -2, 0.5], [1, -2, 0.5], [2, -1, 1.5], [
    2,
    -1,
    1.5,
  ]]);
});

Deno.test("streamTensor() gives any part of any matrix, in strips of any size", async () => {
  const cases = fc.record({
    groups: fc.integer({ min: 1, max: 4 }),
    every: fc.integer({ min: 1, max: 9 }),
    other: fc.integer({ min: 1, max: 40 }),
    cut: fc.tuple(fc.nat({ max: 9 }), fc.nat({ max: 9 })),
    transpose: fc.boolean(),
    stripBytes: fc.integer({ min: 1, max: 400 }),
    half: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({ groups, every, other, cut, transpose, stripBytes, half }) => {
      const [from, to] = cut.map((c) => c % (every + 1)).sort((a, b) => a - b) as [number, number];
      const picked = groups * every;
      const [rows, columns] = transpose ? [other, picked] : [picked, other];
      const numbers = Float32Array.from({ length: rows * columns }, (_, i) => i % 2048);
      const bytes = new Uint8Array(half ? new Float16Array(numbers).buffer : numbers.buffer);
      using checkpoint = await openCheckpoint(
        tiny({ a: { dtype: half ? "F16" : "F32", shape: [rows, columns], bytes } }),
      );
      const selection: Selection = {
        name: "a",
        dtype: half ? "f16" : "f32",
        offset: 0,
        rows,
        columns,
        transpose,
        pick: { from, to, every },
        plus: 0,
      };
      const { dtype, chunks } = streamTensor(checkpoint, selection, { stripBytes });
      const got: number[] = [];
      for await (const piece of chunks) got.push(...decode(piece, dtype));

      const want: number[] = [];
      for (let row = 0; row < picked; row++) {
        if (row % every < from || row % every >= to) continue;
        for (let i = 0; i < other; i++) {
          want.push(numbers[transpose ? i * columns + row : row * columns + i]!);
        }
      }
      assert.equal(want.length, pickedRows(picked, selection.pick) * other);
      assert.deepEqual(got, want);
    }),
    { numRuns: 300 },
  );
});

Deno.test("streamTensor() transposes matrices of several pieces whose rows end within a piece", async () => {
  const [rows, columns] = [1500, 1001]; // 6 MB: a piece of 4 MiB ends within row 1047
  const numbers = Float32Array.from({ length: rows * columns }, (_, i) => i);
  const header =
    `{"a":{"dtype":"F32","shape":[${rows},${columns}],"data_offsets":[0,${numbers.byteLength}]}}`;
  using checkpoint = await openCheckpoint(
    memoryFiles("big", { "model.safetensors": rawFile(header, new Uint8Array(numbers.buffer)) }),
  );
  const pick = { from: 0, to: columns, every: columns };
  const selection: Selection = {
    name: "a",
    dtype: "f32",
    offset: 0,
    rows,
    columns,
    transpose: true,
    pick,
    plus: 0,
  };
  let at = 0;
  for await (const piece of streamTensor(checkpoint, selection, { stripBytes: 4_000_000 }).chunks) {
    const got = new Float32Array(piece.slice().buffer);
    const wrong = got.findIndex((value, i) =>
      value !== (at + i) % rows * columns + Math.floor((at + i) / rows)
    );
    assert.equal(wrong, -1);
    at += got.length;
  }
  assert.equal(at, rows * columns);
});

Deno.test("createWeights() answers a config that lies with an error in words", async () => {
  const file = safetensors({ "l.0.w.weight": ramp([4, 2]), "l.0.w.bias": ramp([4]), "n.weight": ramp([4]) });
  const size = fc.oneof(fc.nat({ max: 5 }), fc.maxSafeNat(), fc.integer());
  await fc.assert(
    fc.asyncProperty(size, size, size, fc.boolean(), async (layers, input, out, transpose) => {
      using checkpoint = await openCheckpoint(memoryFiles("tiny", { "model.safetensors": file }));
      const weights = createWeights(checkpoint, new RecordingDevice() as unknown as Device);
      try {
        weights.list("l", layers, (w) => w.linear("w", { in: input, out, bias: true, transpose }));
        weights.rmsNorm("n", out, 0);
        await weights.load();
      } catch (error) {
        assert.equal((error as Error).constructor, Error);
        assert.match((error as Error).message, /^Cannot load "tiny[^"]*": ./);
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("what a model declares is the same from config.json and from a checkpoint", async () => {
  const declare = (w: Weights) => {
    w.embedding("e", { vocabulary: 4, hidden: 32 });
    w.list("l", 2, (w) => {
      w.linear("qkv", { in: 32, out: 4, bias: true, rows: { from: 0, to: 2, every: 4 }, keepFloat: true });
      w.linear("qkv", { in: 32, out: 4, bias: true, rows: { from: 2, to: 4, every: 4 }, keepFloat: true });
      w.linear("up", { in: 32, out: 3, transpose: true, plus: 1 });
      w.experts("x", { experts: 2, in: 32, out: 4, bias: "x_bias", transpose: true });
      w.experts(["y.0", "y.1"], { experts: 2, in: 32, out: 4 });
      w.layerNorm("n", 32, 0);
    });
  };
  const device = new RecordingDevice();
  const fromConfig = createConfigWeights(device as unknown as Device);
  declare(fromConfig);
  const shapes = Object.fromEntries(fromConfig.files);
  assert.deepEqual(shapes["l.0.qkv.weight"], [8, 32]);
  assert.deepEqual(shapes["l.0.qkv.bias"], [8]);
  assert.deepEqual(shapes["l.1.up.weight"], [32, 3]);
  assert.deepEqual(shapes["l.1.x"], [2, 32, 4]);
  const tensors = Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, ramp(shape)]));

  const { report } = await load(tensors, declare, { weights: "q4" });
  using checkpoint = await openCheckpoint(tiny(tensors));
  const weights = createWeights(checkpoint, device as unknown as Device);
  declare(weights);
  weights.rejectUnread();
  assert.equal(weights.declared.reduce((sum, { shape }) => sum + countOf(shape), 0), report.parameters);
  const qkv = weights.declared.filter(({ name }) => name.startsWith("l.0.qkv"));
  // A bias keeps the rows of its matrix, and no other of its options.
  assert.deepEqual(qkv.map(({ shape, keepFloat }) => keepFloat ? shape.length : -shape.length), [
    2,
    -1,
    2,
    -1,
  ]);
});
