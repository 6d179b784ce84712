/**
 * Rotary position embeddings as a config describes them: https://arxiv.org/abs/2104.09864 and what stretches
 * them.
 *
 * Feature pair i of a rotated head of `dim` features turns by position · base^(−2i/dim). The scalings change
 * these frequencies: linear, dynamic (NTK), yarn (https://arxiv.org/abs/2309.00071), llama3, and longrope
 * (https://arxiv.org/abs/2402.13753). Dynamic and longrope depend on how long the sequence is.
 *
 * @module
 */
import type { Device, RopeSpec, Segment, Tensor } from "../device/device.ts";
import type { Config } from "./model.ts";

/** The rotations of one model. */
export interface Rope {
  /** The kind of scaling, for people: "default", "llama3", … */
  readonly type: string;
  /** See `ModelFacts.rereadBeyond`. */
  readonly rereadBeyond: number | undefined;
  /** See `ModelFacts.changesBeyond`. */
  readonly changesBeyond: number | undefined;
  /** What the segments of one pass are turned by: those with the same frequencies together. */
  at(segments: readonly Segment[]): readonly Rotation[];
}

/** Segments whose texts have the same frequencies. */
export interface Rotation {
  /** With positions as RoPE counts them. */
  readonly segments: readonly Segment[];
  /** The same objects from pass to pass as long as the frequencies stay. */
  readonly queries: RopeSpec;
  readonly keys: RopeSpec;
}

/** Rotates queries [rows, heads · headDim] and keys [rows, kvHeads · headDim] of one pass. */
export function rotate(
  device: Device,
  rope: Rope,
  { queries, keys, segments }: {
    readonly queries: Tensor;
    readonly keys: Tensor;
    readonly segments: readonly Segment[];
  },
): { readonly queries: Tensor; readonly keys: Tensor } {
  for (const rotation of rope.at(segments)) {
    queries = device.rope(queries, rotation.segments, rotation.queries);
    keys = device.rope(keys, rotation.segments, rotation.keys);
  }
  return { queries, keys };
}

/** Which heads turn, and what the config does not say under its usual names. */
export interface RopeOptions {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Default "half". */
  readonly pairing?: RopeSpec["pairing"];
  /** The base when the config names it differently; default its `rope_theta`. */
  readonly theta?: number;
  /** Rotated part of each head where the config has no `partial_rotary_factor`; default 1. */
  readonly partial?: number;
  /** False where the config's scaling is for other layers. */
  readonly scaled?: boolean;
  /** Entry of a `rope_parameters` that differs by kind of layer ("full_attention", "sliding_attention"). */
  readonly layerType?: string;
}

/** Frequencies for one sequence length, [dim / 2]. */
interface Frequencies {
  readonly inverse: Float32Array;
  /** Factor of the rotated features. */
  readonly scale: number;
}

/** What a scaling starts from. */
interface Base {
  readonly theta: number;
  readonly dim: number;
  /** The whole config: some scalings look at its trained lengths. */
  readonly config: Config;
  /** `rope_scaling` or `rope_parameters`. */
  readonly params: Config;
}

/** Frequencies as a function of the sequence length; `regime` is equal for lengths that share them. */
interface Scaling {
  regime(length: number): number;
  frequencies(length: number): Frequencies;
  readonly rereadBeyond?: number;
  readonly changesBeyond?: number;
}

const SCALINGS = {
  default: (base: Base) => fixed(plain(base.theta, base.dim)),
  linear,
  dynamic,
  yarn,
  longrope,
  su: longrope, // the name in the first Phi-3 checkpoints
  llama3,
} satisfies Record<string, (base: Base) => Scaling>;

/**
 * Reads `rope_theta`, `partial_rotary_factor` and `rope_scaling` (or the newer `rope_parameters`).
 *
 * Frequencies that depend on the length are those of each sequence by itself, whatever else is in the pass.
 * Tokens of a prompt are turned by the frequencies of its whole length, each token written later by those of
 * its own.
 *
 * @throws RangeError for an unknown scaling, which it names
 * @example
 * ```ts
 * const rope = ropeFromConfig(config, { heads: 32, kvHeads: 8, headDim: 128 });
 * const turned = rotate(device, rope, { queries, keys, segments });
 * ```
 */
export function ropeFromConfig(config: Config, options: RopeOptions): Rope {
  const { heads, kvHeads, headDim, pairing = "half", scaled = true, layerType } = options;
  const params = parameters(config, layerType);
  const theta = options.theta ?? params.float("rope_theta", config.float("rope_theta", 10_000));
  const partial = params.float(
    "partial_rotary_factor",
    config.float("partial_rotary_factor", options.partial ?? 1),
  );
  if (!(partial > 0 && partial <= 1)) {
    throw new RangeError(
      `Cannot rotate ${partial} of each head: partial_rotary_factor (or rotary_pct) is above 0 and at most 1`,
    );
  }
  const dim = Math.floor(headDim * partial);
  const type = scaled ? params.text("rope_type", params.text("type", "default")) : "default";
  if (!Object.hasOwn(SCALINGS, type)) {
    const known = Object.keys(SCALINGS).join(", ");
    throw new RangeError(`Cannot use rope_type "${type}": supported are ${known}`);
  }
  const scaling = SCALINGS[type as keyof typeof SCALINGS]({ theta, dim, config, params });

  const made = (length: number): Omit<Rotation, "segments"> => {
    const { inverse, scale } = scaling.frequencies(length);
    const common = { dim, pairing, inverseFrequencies: inverse, scale };
    return { queries: { heads, ...common }, keys: { heads: kvHeads, ...common } };
  };
  /** Of the last pass, by regime. */
  let specs = new Map<number, Omit<Rotation, "segments">>();
  /** All layers of a pass ask for the same segments. */
  const rotations = new WeakMap<readonly Segment[], readonly Rotation[]>();
  return {
    type,
    rereadBeyond: scaling.rereadBeyond,
    changesBeyond: scaling.changesBeyond,
    at(segments) {
      let found = rotations.get(segments);
      if (found) return found;
      const groups = Map.groupBy(segments, (segment) => scaling.regime(textLength(segment)));
      const before = specs;
      specs = new Map();
      found = [...groups].map(([regime, members]) => {
        const spec = before.get(regime) ?? made(textLength(members[0]!));
        specs.set(regime, spec);
        return { segments: members.map(asTurned), ...spec };
      });
      rotations.set(segments, found);
      return found;
    },
  };
}

/** Tokens of the text that a segment belongs to, once its prompt is read. */
function textLength({ from, to, start, promptLength = 0 }: Segment): number {
  return Math.max(start + to - from, promptLength);
}

/** With the position that RoPE gives the first row. */
function asTurned(segment: Segment): Segment {
  const { rotationOffset = 0 } = segment;
  return rotationOffset === 0 ? segment : { ...segment, start: segment.start + rotationOffset };
}

function parameters(config: Config, layerType: string | undefined): Config {
  if (!config.has("rope_parameters")) return config.object("rope_scaling");
  const params = config.object("rope_parameters");
  return layerType !== undefined && params.has(layerType) ? params.object(layerType) : params;
}

/** base^(−2i/dim) */
function plain(theta: number, dim: number): number[] {
  return Array.from({ length: dim / 2 }, (_, i) => theta ** (-2 * i / dim));
}

function fixed(inverse: readonly number[], scale = 1): Scaling {
  const frequencies = { inverse: Float32Array.from(inverse), scale };
  return { regime: () => 0, frequencies: () => frequencies };
}

function linear({ theta, dim, params }: Base): Scaling {
  const factor = params.float("factor");
  return fixed(plain(theta, dim).map((f) => f / factor));
}

/** The base grows with the sequence, so that its last wavelengths stretch and the first stay. */
function dynamic({ theta, dim, config, params }: Base): Scaling {
  const factor = params.float("factor");
  const trained = config.int("max_position_embeddings");
  const regime = (length: number) => Math.max(length, trained);
  return {
    regime,
    changesBeyond: trained,
    frequencies(length) {
      const stretch = factor * regime(length) / trained - (factor - 1);
      return { inverse: Float32Array.from(plain(theta * stretch ** (dim / (dim - 2)), dim)), scale: 1 };
    },
  };
}

/** Fast pairs keep their frequency, slow ones are interpolated, a ramp lies between. */
function yarn({ theta, dim, config, params }: Base): Scaling {
  const factor = params.float("factor");
  const trained = params.int("original_max_position_embeddings", config.int("max_position_embeddings"));
  const pairOf = (rotations: number) =>
    dim * Math.log(trained / (rotations * 2 * Math.PI)) / (2 * Math.log(theta));
  const whole = params.flag("truncate", true);
  const fast = pairOf(params.float("beta_fast", 32)), slow = pairOf(params.float("beta_slow", 1));
  const low = Math.max(whole ? Math.floor(fast) : fast, 0);
  let high = Math.min(whole ? Math.ceil(slow) : slow, dim - 1);
  if (low === high) high += 0.001; // a step, not a division by zero
  const inverse = plain(theta, dim).map((f, i) => {
    const ramp = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return f / factor * ramp + f * (1 - ramp);
  });
  return fixed(inverse, yarnScale(params, factor));
}

/** YaRN's temperature, 0.1 ln(factor) + 1 unless the config says more. */
function yarnScale(params: Config, factor: number): number {
  if (params.has("attention_factor")) return params.float("attention_factor");
  const by = (weight: number) => factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1;
  const one = params.float("mscale", 0), all = params.float("mscale_all_dim", 0);
  return one && all ? by(one) / by(all) : by(1);
}

/** Each pair has a factor of its own: one list up to the trained length, one beyond. */
function longrope({ theta, dim, config, params }: Base): Scaling {
  const most = config.int("max_position_embeddings");
  const hasTrained = config.has("original_max_position_embeddings") ||
    params.has("original_max_position_embeddings");
  const trained = config.int(
    "original_max_position_embeddings",
    params.int("original_max_position_embeddings", most),
  );
  const factor = hasTrained ? most / trained : params.float("factor", 1);
  const scale = params.has("attention_factor")
    ? params.float("attention_factor")
    : factor <= 1
    ? 1
    : Math.sqrt(1 + Math.log(factor) / Math.log(trained));
  const frequencies = ["short_factor", "long_factor"].map((key) => {
    const factors = params.numbers(key);
    if (factors.length !== dim / 2) {
      const wanted = `${dim / 2} numbers, one for each pair of features`;
      throw new RangeError(
        `Cannot use ${key} of rope_scaling: it has ${factors.length} numbers, not ${wanted}`,
      );
    }
    const inverse = plain(theta, dim).map((f, i) => f / factors[i]!);
    return { inverse: Float32Array.from(inverse), scale };
  });
  const regime = (length: number) => length > trained ? 1 : 0;
  return { regime, frequencies: (length) => frequencies[regime(length)]!, rereadBeyond: trained };
}

/** Long wavelengths are interpolated, short ones kept, a ramp over the wavelength lies between. */
function llama3({ theta, dim, config, params }: Base): Scaling {
  const factor = params.float("factor");
  const low = params.float("low_freq_factor"), high = params.float("high_freq_factor");
  const trained = params.int("original_max_position_embeddings", config.int("max_position_embeddings"));
  return fixed(
    plain(theta, dim).map((f) => {
      const rotations = trained * f / (2 * Math.PI); // over the trained length
      const keep = Math.min(Math.max((rotations - low) / (high - low), 0), 1);
      return (1 - keep) * f / factor + keep * f;
    }),
  );
}
