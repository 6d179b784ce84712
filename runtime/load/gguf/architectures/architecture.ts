/**
 * How the keys and tensors of one architecture of llama.cpp become the config.json and the tensor names of
 * the Hugging Face checkpoint that the file was made from.
 *
 * @module
 */
import type { Metadata } from "../metadata.ts";
import type { Placed } from "../placed.ts";
import { reorder, type Rows, slice, stack } from "../rows.ts";

/** An object of config.json. */
export type Json = Readonly<Record<string, unknown>>;

/** One architecture. */
export interface Architecture {
  /**
   * The config, without what all have (see {@linkcode commonConfig}). `key` names a key of this architecture.
   */
  config(source: ConfigSource): Json | Promise<Json>;
  /**
   * Names in the file, without ".weight" and ".bias" where these stay, → names in the checkpoint, or what
   * places the tensor. N stands for the number of a layer, E for that of an expert. Null: not needed.
   */
  readonly names: Names;
}

export type Names = Readonly<Record<string, string | null | Place>>;

/** Gives the tensors of a checkpoint that one of the file holds. */
export type Place = (tensor: FileTensor) => Iterable<readonly [name: string, placed: Placed]>;

/** A tensor of the file, for a {@linkcode Place}. */
export interface FileTensor extends Placed {
  /**
   * A name in the checkpoint: N becomes this layer's number, and ".weight" or ".bias" is added as the file
   * has it.
   */
  name(pattern: string): string;
  /** A name of this layer in the file → its tensor; undefined where there is none. */
  find(pattern: string): Placed | undefined;
  readonly sizes: HeadSizes;
}

/** What some places need to know. */
export interface HeadSizes {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** What a config is made from. */
export interface ConfigSource {
  readonly metadata: Metadata;
  /** "general.architecture", which keys begin with. */
  readonly architecture: string;
  readonly sizes: HeadSizes;
  /** Whether the file has a tensor, by its full name. */
  has(tensor: string): boolean;
  /** The shape of a tensor; an error when there is none. */
  shape(tensor: string): readonly number[];
  /** All numbers of a tensor. */
  numbers(tensor: string): Promise<number[]>;
  /** Keys of this architecture: key("block_count") → "llama.block_count". */
  key(name: string): string;
}

/** A tensor under another name. */
export function renamed(pattern: string, change: Partial<Placed> = {}): Place {
  return (tensor) => [[tensor.name(pattern), { ...tensor, ...change }]];
}

/** A matrix [out, in] that the checkpoint holds as [in, out]; a bias stays. */
export function transposed(pattern: string): Place {
  return (tensor) => {
    const { shape } = tensor;
    const change = shape.length === 2 ? { shape: shape.toReversed(), transposed: true } : {};
    return [[tensor.name(pattern), { ...tensor, ...change }]];
  };
}

/**
 * Queries or keys whose rows llama.cpp pairs as (0, 1), (2, 3), …, where the checkpoint pairs feature i of a
 * head with feature i + headDim / 2.
 */
export function unpaired(pattern: string): Place {
  return (tensor) => {
    if (tensor.sizes.headDim % 2 !== 0) throw misfit(tensor, "an odd number of features in a head");
    expectRows(tensor, Math.ceil(tensor.rows.count / tensor.sizes.headDim) * tensor.sizes.headDim);
    const half = tensor.sizes.headDim / 2;
    const order = Array.from({ length: 2 * half }, (_, i) => i < half ? 2 * i : 2 * (i - half) + 1);
    return [[tensor.name(pattern), { ...tensor, rows: reorder(tensor.rows, order) }]];
  };
}

/** All q, all k, all v → for each head of keys the q of its group, then its k, then its v. */
export function regrouped(pattern: string): Place {
  return (tensor) => {
    const { heads, kvHeads, headDim } = tensor.sizes;
    const { rows } = tensor;
    expectRows(tensor, (heads + 2 * kvHeads) * headDim);
    const inGroup = heads / kvHeads * headDim;
    const parts: Rows[] = [];
    for (let head = 0; head < kvHeads; head++) {
      parts.push(
        slice(rows, head * inGroup, inGroup),
        slice(rows, heads * headDim + head * headDim, headDim),
        slice(rows, (heads + kvHeads + head) * headDim, headDim),
      );
    }
    return [[tensor.name(pattern), { ...tensor, rows: stack(parts) }]];
  };
}

/** All q, all k, all v → three tensors. */
export function parted(q: string, k: string, v: string): Place {
  return (tensor) => {
    const { heads, kvHeads, headDim } = tensor.sizes;
    expectRows(tensor, (heads + 2 * kvHeads) * headDim);
    const counts = [heads * headDim, kvHeads * headDim, kvHeads * headDim];
    let from = 0;
    return [q, k, v].map((pattern, i) => {
      const count = counts[i]!, rows = slice(tensor.rows, from, count);
      from += count;
      return [tensor.name(pattern), { ...tensor, rows, shape: [count, ...tensor.shape.slice(1)] }] as const;
    });
  };
}

/** Throws unless a tensor has so many rows: heads and their sizes come from keys, which may say anything. */
function expectRows(tensor: FileTensor, rows: number): void {
  if (tensor.rows.count !== rows) throw misfit(tensor, `${tensor.rows.count} rows, ${rows} by its keys`);
}

function misfit(tensor: FileTensor, what: string): Error {
  const name = tensor.name("");
  return new Error(`Cannot load tensor [${tensor.shape}]${name && ` (${name.slice(1)})`}: it has ${what}`);
}

/** [experts, out, in] → one matrix an expert; E in the pattern becomes its number. */
export function eachExpert(pattern: string): Place {
  return function* (tensor) {
    const [experts = 0, out = 0, columns = 0] = tensor.shape;
    for (let i = 0; i < experts; i++) {
      const name = tensor.name(pattern).replace("E", String(i));
      yield [name, { ...tensor, rows: slice(tensor.rows, i * out, out), shape: [out, columns] }];
    }
  };
}

/** Sizes, context and output layer under the names that Llama brought. */
export function commonConfig(source: ConfigSource): Json {
  const { metadata: m, key, sizes } = source;
  return {
    hidden_size: m.int(key("embedding_length")),
    num_hidden_layers: layersOf(source),
    num_attention_heads: sizes.heads,
    num_key_value_heads: sizes.kvHeads,
    head_dim: sizes.headDim,
    intermediate_size: m.same(key("feed_forward_length")),
    max_position_embeddings: m.int(key("context_length")),
    vocab_size: vocabularyOf(source),
    tie_word_embeddings: !source.has("output.weight"),
  };
}

/** No model has more layers. */
const MOST_LAYERS = 10_000;

/** Layers; an Error when they are more than a model can have. */
export function layersOf({ metadata: m, key }: ConfigSource): number {
  const layers = m.int(key("block_count"));
  if (layers < 1 || layers > MOST_LAYERS) throw m.error(key("block_count"), `is ${layers}`);
  return layers;
}

/** Rows of the embedding. */
export function vocabularyOf({ shape }: ConfigSource): number {
  return shape("token_embd.weight")[0]!;
}

export function rmsEps({ metadata, key }: ConfigSource): number {
  return shortest(metadata.float(key("attention.layer_norm_rms_epsilon")));
}

export function layerEps({ metadata, key }: ConfigSource): number {
  return shortest(metadata.float(key("attention.layer_norm_epsilon")));
}

/** The shortest decimal that gives the same f32: 1e-5 was meant where 9.999999747378752e-06 is read. */
export function shortest(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const near = Number(value.toPrecision(digits));
    if (Math.fround(near) === value) return near;
  }
  return value;
}

/** The share of each head that turns. */
export function rotatedShare({ metadata, key, sizes: { headDim } }: ConfigSource): number {
  return metadata.int(key("rope.dimension_count"), headDim) / headDim;
}

/**
 * `rope_theta` and `rope_scaling`. Factors of single frequencies, as Llama 3.1 has, come as a tensor; they
 * become the lists of longrope, with nothing else of it.
 */
export async function ropeConfig(source: ConfigSource): Promise<Json> {
  const { metadata: m, key, has } = source;
  const theta = shortest(m.float(key("rope.freq_base"), 10_000));
  const type = m.text(key("rope.scaling.type"), m.has(key("rope.scale_linear")) ? "linear" : "none");
  if (type === "linear") {
    const factor = m.float(key("rope.scaling.factor"), m.float(key("rope.scale_linear"), 1));
    return { rope_theta: theta, rope_scaling: { rope_type: "linear", factor: shortest(factor) } };
  }
  if (type === "yarn") return { rope_theta: theta, rope_scaling: yarn(source) };
  if (has("rope_factors_long.weight")) return { rope_theta: theta, ...await longrope(source) };
  if (type !== "none" && type !== "longrope") {
    throw m.error(key("rope.scaling.type"), `is "${type}": supported are none, linear, yarn and longrope`);
  }
  if (!has("rope_freqs.weight")) return { rope_theta: theta, rope_scaling: null };
  const factors = await source.numbers("rope_freqs.weight");
  return {
    rope_theta: theta,
    rope_scaling: { rope_type: "longrope", short_factor: factors, long_factor: factors, attention_factor: 1 },
  };
}

function yarn({ metadata: m, key }: ConfigSource): Json {
  const optional = (name: string, theirs: string) =>
    m.has(key(theirs)) ? { [name]: shortest(m.float(key(theirs))) } : {};
  const factor = shortest(m.float(key("rope.scaling.factor")));
  // Both keys hold the checkpoint's own attention_factor; 1 is also written where it has none.
  const attention = shortest(
    m.float(key("rope.scaling.yarn_attn_factor"), m.float(key("rope.scaling.attn_factor"), 1)),
  );
  return {
    rope_type: "yarn",
    factor,
    original_max_position_embeddings: m.int(key("rope.scaling.original_context_length")),
    ...(attention !== 1 && { attention_factor: attention }),
    ...optional("beta_fast", "rope.scaling.yarn_beta_fast"),
    ...optional("beta_slow", "rope.scaling.yarn_beta_slow"),
  };
}

async function longrope({ metadata: m, key, numbers }: ConfigSource): Promise<Json> {
  const factor = m.has(key("rope.scaling.attn_factor"))
    ? { attention_factor: m.float(key("rope.scaling.attn_factor")) }
    : {};
  return {
    original_max_position_embeddings: m.int(key("rope.scaling.original_context_length")),
    rope_scaling: {
      rope_type: "longrope",
      short_factor: await numbers("rope_factors_short.weight"),
      long_factor: await numbers("rope_factors_long.weight"),
      ...factor,
    },
  };
}
