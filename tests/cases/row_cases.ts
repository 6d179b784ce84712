/** Operations that treat every number, row or group of features by itself. */
import type { Activation, RopeSpec, Segment, Tensor } from "../../runtime/device/device.ts";
import { compute, concat, type DeviceCase, type Random, withWeights } from "./case.ts";

/** One or two operations in f32. */
const F32_ONCE = 1e-6;
/** Sums over a row in f32, a square root, a division. */
const F32_NORM = 2e-5;
/** exp, tanh and erf by polynomials good for f32, relative to |x|. */
const F32_FUNCTION = 2e-6;
/** Fifty rounds of logsumexp in f32. */
const F32_SOFT_TOP_K = 1e-4;

/** [rows, features] around vectors of 4, tiles of 4 rows and 64 tokens, primes. */
const SIZES = [[0, 8], [1, 1], [1, 64], [3, 7], [4, 32], [5, 129], [63, 16], [65, 36], [127, 101]] as const;

function simple(
  operation: string,
  { seed, size: [rows, features], note = "", bound, record }: {
    readonly seed: number;
    readonly size: readonly [number, number];
    readonly note?: string;
    readonly bound?: number;
    readonly record: (
      device: Parameters<typeof compute>[0],
      x: Tensor,
      other: (shape: readonly number[]) => Tensor,
    ) => Tensor;
  },
): DeviceCase {
  return {
    operation,
    name: `[${rows}, ${features}]${note}`,
    seed,
    prepare(random) {
      const x = random.normals(rows * features, 3), more = random.normals(rows * features + features);
      return {
        run: (device) =>
          compute(device, () =>
            record(device, device.constant([rows, features], x), (shape) => {
              return device.constant(shape, more.slice(0, shape.reduce((a, b) => a * b, 1)));
            })),
        bound: (expected) => (bound ?? F32_ONCE) * (1 + Math.abs(expected)),
      };
    },
  };
}

function elementCases(): DeviceCase[] {
  return SIZES.flatMap((size, seed) => {
    const [rows, features] = size;
    const like = { seed, size };
    return [
      simple("add", { ...like, record: (d, x, other) => d.add(x, other([rows, features])) }),
      simple("add", { ...like, note: " + [features]", record: (d, x, other) => d.add(x, other([features])) }),
      simple("multiply", { ...like, record: (d, x, other) => d.multiply(x, other([rows, features])) }),
      simple("multiply", {
        ...like,
        note: " · [features]",
        record: (d, x, other) => d.multiply(x, other([features])),
      }),
      simple("multiply", {
        ...like,
        note: " · [rows, 1]",
        record: (d, x, other) => d.multiply(x, other([rows, 1])),
      }),
      simple("scale", { ...like, record: (d, x) => d.scale(x, -0.37) }),
      simple("clamp", { ...like, record: (d, x) => d.clamp(x, -1.5, 2) }),
      simple("slice", { ...like, note: " all rows", record: (d, x) => d.slice(x, 0, 0, rows) }),
      simple("slice", {
        ...like,
        note: " some rows",
        record: (d, x) => d.slice(x, 0, Math.floor(rows / 3), Math.ceil(rows / 2)),
      }),
      simple("slice", {
        ...like,
        note: " some features",
        record: (d, x) => d.slice(x, 1, Math.floor(features / 3), Math.ceil(features / 2)),
      }),
      simple("slice", {
        ...like,
        note: " the last feature",
        record: (d, x) => d.slice(x, 1, features - 1, features),
      }),
    ];
  });
}

function activateCases(): DeviceCase[] {
  const kinds: readonly Activation[] = [
    "silu",
    "gelu",
    "gelu_tanh",
    "quick_gelu",
    "relu",
    "relu2",
    "tanh",
    "sigmoid",
  ];
  return kinds.flatMap((kind) =>
    [false, true].flatMap((gated) =>
      [[0, 4], [1, 1], [3, 67], [64, 36]].map(([rows, features]): DeviceCase => ({
        operation: "activate",
        name: `${kind} of [${rows}, ${features}]${gated ? ", gated" : ""}`,
        seed: 7,
        prepare(random) {
          const x = random.normals(rows! * features!, 4), gate = random.normals(x.length);
          [0, -100, 100, -9.5, 9.5, 1e-5, -1e-5].forEach((v, i) => i < x.length && (x[3 * i % x.length] = v));
          const shape = [rows!, features!];
          return {
            run: (device) =>
              compute(device, () => {
                const multiplier = gated ? device.constant(shape, gate) : undefined;
                return device.activate(device.constant(shape, x), kind, multiplier);
              }),
            bound(expected, i) {
              const size = 1 + Math.abs(x[i]!);
              return F32_FUNCTION * (gated ? Math.abs(gate[i]!) : 1) * size + F32_ONCE * Math.abs(expected);
            },
          };
        },
      }))
    )
  );
}

function normCases(): DeviceCase[] {
  // [rows, features, features in a group]
  const sizes = [[0, 64, 64], [1, 1, 1], [3, 7, 7], [5, 64, 64], [65, 96, 96], [2, 1000, 1000], [4, 64, 16], [
    66,
    24,
    8,
  ]];
  return sizes.flatMap(([rows, features, group], i) =>
    (["rmsNorm", "layerNorm", "layerNorm without bias", "layerNorm far from zero"] as const).map(
      (kind): DeviceCase => ({
        operation: kind.split(" ")[0]!,
        name: `[${rows}, ${features}] in groups of ${group}${kind.replace(/^\w+/, "")}`,
        seed: 500 + i,
        prepare(random) {
          const x = random.normals(rows! * features!),
            weight = random.normals(group!),
            bias = random.normals(group!);
          x.fill(0, 0, Math.min(group!, x.length)); // eps keeps a row of zeros finite
          // A mean far from zero: sum of squares minus squared mean would lose all digits.
          if (kind.endsWith("zero")) x.forEach((v, j) => x[j] = v + 200);
          const vectors = [weight, bias].map((data) => ({ dtype: "f32" as const, shape: [group!], data }));
          return {
            run: (device) =>
              withWeights(device, vectors, ([w, b]) =>
                compute(device, () => {
                  const input = device.constant([rows!, features!], x);
                  if (kind === "rmsNorm") return device.rmsNorm(input, w!, 1e-5);
                  return device.layerNorm(input, w!, kind.includes("without") ? undefined : b, 1e-5);
                })),
            bound: (expected, j) => {
              const far = kind.endsWith("zero") ? 20 : 1;
              return far * F32_NORM * (Math.abs(expected) + Math.abs(weight[j % group!]!) + 0.01);
            },
          };
        },
      }),
    )
  );
}

function ropeCases(): DeviceCase[] {
  const shapes = [
    { heads: 1, headDim: 4, dim: 4 },
    { heads: 3, headDim: 16, dim: 16 },
    { heads: 2, headDim: 80, dim: 32 },
    { heads: 4, headDim: 64, dim: 64 },
    { heads: 5, headDim: 12, dim: 6 },
  ];
  const segments: readonly Segment[] = [
    { from: 0, to: 5, start: 0 },
    { from: 5, to: 70, start: 4000 },
    { from: 70, to: 71, start: 17 },
    { from: 71, to: 73, start: 65_535 },
    { from: 73, to: 75, start: 131_070 },
  ];
  const rows = 75;
  return shapes.flatMap(({ heads, headDim, dim }, i) =>
    (["half", "interleaved"] as const).map((pairing): DeviceCase => ({
      operation: "rope",
      name: `${dim} of ${headDim} features, ${heads} heads, ${pairing}, positions up to 131,071`,
      seed: 600 + i,
      prepare(random) {
        const theta = i % 2 === 0 ? 1e6 : 10_000;
        const features = heads * headDim, x = random.normals(rows * features);
        const inverseFrequencies = Float32Array.from({ length: dim / 2 }, (_, j) => theta ** (-2 * j / dim));
        const spec: RopeSpec = { heads, dim, pairing, inverseFrequencies, scale: i === 2 ? 1.25 : 1 };
        return {
          run: (device) =>
            compute(device, () => device.rope(device.constant([rows, features], x), segments, spec)),
          // The angles are the host's, the same for every device: the bound does not grow with the position.
          bound: () => 6 * F32_ONCE,
        };
      },
    }))
  );
}

function rowChoiceCases(): DeviceCase[] {
  const sizes = [[5, 8, 0], [1, 1, 1], [9, 7, 4], [70, 36, 65], [130, 64, 3]] as const;
  const draw = (random: Random, rows: number, chosen: number) => {
    const order = Array.from({ length: rows }, (_, i) => ({ i, key: random.uniform() }));
    return Uint32Array.from(order.sort((a, b) => a.key - b.key).slice(0, chosen), ({ i }) => i);
  };
  return sizes.flatMap(([rows, features, chosen], i): DeviceCase[] => [
    {
      operation: "gather",
      name: `${chosen} of [${rows}, ${features}], some twice`,
      seed: 700 + i,
      prepare(random) {
        const x = random.normals(rows * features);
        const which = Uint32Array.from({ length: chosen }, () => random.int(rows));
        return {
          run: (device) =>
            compute(device, () => {
              return device.gather(device.constant([rows, features], x), device.constant([chosen], which));
            }),
          bound: () => 0,
        };
      },
    },
    {
      operation: "scatterAdd",
      name: `${chosen} of [${rows}, ${features}]`,
      seed: 720 + i,
      prepare(random) {
        const x = random.normals(rows * features), update = random.normals(chosen * features);
        const which = draw(random, rows, chosen), weights = random.normals(chosen);
        return {
          run: (device) =>
            device.step(async () => {
              const before = device.constant([rows, features], x);
              const after = device.scatterAdd(
                before,
                device.constant([chosen], which),
                device.constant([chosen, 1], weights),
                device.constant([chosen, features], update),
              );
              // The input stays as it was.
              return concat([await device.read(after), await device.read(before)]);
            }),
          bound: (expected) => 3 * F32_ONCE * (1 + Math.abs(expected)),
        };
      },
    },
  ]);
}

function routeCases(): DeviceCase[] {
  const lists = [[1], [7], [16], [17], [64], [65, 3], [100, 31, 1], [1000]];
  return lists.flatMap((lengths, i) =>
    [8, 16].map((divisor): DeviceCase => ({
      operation: "route",
      name: `one in ${divisor} of ${lengths.join(" and ")} rows${i === 4 ? " in equal pairs" : ""}`,
      seed: 800 + i,
      prepare(random) {
        const rows = lengths.reduce((a, b) => a + b, 0), features = 24;
        const x = random.normals(rows * features), router = random.normals(features, 0.3);
        if (i === 4) {
          for (let row = 1; row < rows; row += 2) {
            x.copyWithin(
              row * features,
              (row - 1) * features,
              row * features,
            );
          }
        }
        let from = 0;
        const segments = lengths.map((length) => ({ from, to: from += length, start: 0 }));
        const numbers = Float32Array.from({ length: rows }, (_, row) => row);
        const chosen = segments.reduce(
          (sum, s) => sum + Math.max(1, Math.floor((s.to - s.from) / divisor)),
          0,
        );
        return {
          run: (device) =>
            withWeights(device, [{ dtype: "f32", shape: [features], data: router }], ([u]) =>
              device.step(async () => {
                const routed = device.route(device.constant([rows, features], x), u!, divisor, segments);
                const which = device.gather(device.constant([rows, 1], numbers), routed.rows);
                return concat([await device.read(which), await device.read(routed.weights)]);
              })),
          bound: (expected, index) =>
            index < chosen ? 0 : F32_SOFT_TOP_K * expected,
        };
      },
    }))
  );
}

export const rowCaseList: readonly DeviceCase[] = [
  ...elementCases(),
  ...activateCases(),
  ...normCases(),
  ...ropeCases(),
  ...rowChoiceCases(),
  ...routeCases(),
];
