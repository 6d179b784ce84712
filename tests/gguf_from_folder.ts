/**
 * A checkpoint in Hugging Face form as the GGUF file that llama.cpp's converter makes of it, in f32. It
 * states that conversion, which runtime/load/gguf undoes, on its own: names, order of rows, sums and keys.
 *
 * @module
 */
import { parseJsonObject } from "../runtime/load/config.ts";
import type { Files } from "../runtime/load/files.ts";
import { type Checkpoint, openCheckpoint } from "../runtime/load/safetensors.ts";
import { f32Tensor, type Value, writeGguf, type WrittenTensor } from "./gguf_writer.ts";

/** A tensor in memory. */
export interface Numbers {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

type Tensors = Map<string, Numbers>;
type Json = Readonly<Record<string, unknown>>;
type Keys = Readonly<Record<string, Value>>;

/** One family. Patterns are tried in order; "*" is a number. */
interface Family {
  readonly architecture: string;
  readonly names: readonly (readonly [from: string, to: string])[];
  /** Done to the tensors before they are renamed. */
  readonly change?: (tensors: Tensors, config: Json) => void;
  readonly keys?: (config: Json, tensors: Tensors) => Keys;
}

/** How a tensor is written; default f32. */
export type Encode = (name: string, numbers: Numbers) => WrittenTensor;

/**
 * Bytes of the file. `keys` are added, and `encode` packs tensors.
 *
 * @throws RangeError for a family that is not written here
 */
export async function ggufOf(
  files: Files,
  { keys = {}, encode = (_, { shape, data }) => f32Tensor(shape, data) }: {
    readonly keys?: Keys;
    readonly encode?: Encode;
  } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const config = parseJsonObject("config.json", await files.text("config.json") ?? "");
  const type = String(config.model_type);
  const family = FAMILIES[type];
  if (!family) throw new RangeError(`Cannot write model_type "${type}" as GGUF: no family of that name`);
  const tensors = await readAll(files);
  if (config.tie_word_embeddings === true) tensors.delete("lm_head.weight");
  family.change?.(tensors, config);
  const written = await mxfp4Experts(files);
  for (const [name, numbers] of tensors) written[rename(name, family)] = encode(name, numbers);
  const tokenizer = parseJsonObject("tokenizer.json", await files.text("tokenizer.json") ?? '{"model":{}}');
  return writeGguf({
    keys: {
      "general.architecture": family.architecture,
      ...usualKeys(family.architecture, config),
      ...family.keys?.(config, tensors),
      ...tokenizerKeys(tokenizer),
      ...keys,
    },
    tensors: written,
  });
}

/** Model types that are written here. */
export function canWrite(type: string): boolean {
  return Object.hasOwn(FAMILIES, type);
}

async function readAll(files: Files): Promise<Tensors> {
  using checkpoint = await openCheckpoint(files);
  const tensors: Tensors = new Map();
  for (const [name, { shape, dtype }] of checkpoint.tensors) {
    if (MXFP4.test(name)) continue;
    const data = new Float32Array(shape.reduce((product, n) => product * n, 1));
    let at = 0;
    for await (const piece of checkpoint.read(name)) {
      if (dtype === "F32") {
        const numbers = new Float32Array(piece.buffer, piece.byteOffset, piece.length / 4);
        data.set(numbers, at);
        at += numbers.length;
      } else if (dtype === "BF16") {
        const halves = new Uint16Array(piece.buffer, piece.byteOffset, piece.length / 2);
        const words = new Uint32Array(data.buffer, at * 4, halves.length);
        halves.forEach((half, i) => words[i] = half << 16);
        at += halves.length;
      } else if (dtype === "F16") {
        const numbers = new Float16Array(piece.buffer, piece.byteOffset, piece.length / 2);
        data.set(numbers, at);
        at += numbers.length;
      } else throw new Error(`Cannot write ${dtype} as GGUF`);
    }
    tensors.set(name, { shape, data });
  }
  return tensors;
}

/** Experts of GPT-OSS as it is published: [experts, rows, blocks, 16] and a scale for each block. */
const MXFP4 = /^model\.layers\.(\d+)\.mlp\.experts\.(gate_up|down)_proj_(blocks|scales)$/;
const MXFP4_TYPE = 39;

/** These in GGUF's blocks: the scale, then 16 bytes of which each holds numbers i and 16 + i. */
async function mxfp4Experts(files: Files): Promise<Record<string, WrittenTensor>> {
  using checkpoint = await openCheckpoint(files);
  const written: Record<string, WrittenTensor> = {};
  for (const [name, { shape }] of checkpoint.tensors) {
    const [, layer, kind, what] = MXFP4.exec(name) ?? [];
    if (what !== "blocks") continue;
    const blocks = await bytesOf(checkpoint, name);
    const scales = await bytesOf(checkpoint, name.replace(/blocks$/, "scales"));
    const [experts, rows, inRow] = shape as [number, number, number, number];
    const parts = kind === "down" ? ["down"] : ["gate", "up"];
    for (const [first, part] of parts.entries()) {
      const outRows = rows / parts.length, bytes = new Uint8Array(experts * outRows * inRow * 17);
      for (let block = 0; block < bytes.length / 17; block++) {
        const row = Math.floor(block / inRow), expert = Math.floor(row / outRows);
        const from = (expert * rows + first + row % outRows * parts.length) * inRow + block % inRow;
        const number = (i: number) => blocks[from * 16 + (i >> 1)]! >> (i & 1) * 4 & 15;
        bytes[block * 17] = scales[from]!;
        for (let i = 0; i < 16; i++) bytes[block * 17 + 1 + i] = number(i) | number(16 + i) << 4;
      }
      const tensor = { shape: [experts, outRows, inRow * 32], type: MXFP4_TYPE, bytes };
      written[`blk.${layer}.ffn_${part}_exps.weight`] = tensor;
    }
  }
  return written;
}

async function bytesOf(checkpoint: Checkpoint, name: string): Promise<Uint8Array> {
  const { begin, end } = checkpoint.tensors.get(name)!, bytes = new Uint8Array(end - begin);
  let at = 0;
  for await (const piece of checkpoint.read(name)) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

function rename(name: string, { names, architecture }: Family): string {
  for (const [from, to] of names) {
    const pattern = new RegExp(
      `^${from.replaceAll(".", "\\.").replaceAll("*", "(\\d+)")}(\\.weight|\\.bias|)$`,
    );
    const match = pattern.exec(name);
    if (match) return to.replaceAll("*", match[1] ?? "") + match.at(-1);
  }
  throw new Error(`Cannot write "${name}" as a GGUF of "${architecture}": no name is known for it`);
}

const number = (config: Json, ...keys: readonly string[]): number | undefined =>
  keys.map((key) => config[key]).find((value): value is number => typeof value === "number");

function usualKeys(architecture: string, config: Json): Keys {
  const heads = number(config, "num_attention_heads", "n_head", "n_heads", "num_heads")!;
  const width = number(config, "hidden_size", "n_embd", "d_model")!;
  const int = (name: string, value: number | undefined) =>
    value === undefined ? {} : { [name]: { u32: value } };
  const float = (name: string, value: number | undefined) => value === undefined ? {} : { [name]: value };
  const at = (name: string) => `${architecture}.${name}`;
  const headDim = number(config, "head_dim", "d_kv");
  return {
    ...int(at("block_count"), number(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers")),
    ...int(
      at("context_length"),
      number(config, "max_position_embeddings", "n_positions", "max_seq_len") ?? 512,
    ),
    ...int(at("embedding_length"), width),
    ...int(
      at("feed_forward_length"),
      number(config, "intermediate_size", "ffn_hidden_size", "n_inner", "d_ff") ?? 4 * width,
    ),
    ...int(at("attention.head_count"), heads),
    ...int(at("attention.head_count_kv"), number(config, "num_key_value_heads")),
    ...int(at("attention.key_length"), headDim),
    ...int(at("attention.value_length"), headDim),
    ...float(at("rope.freq_base"), number(config, "rope_theta")),
    ...float(at("attention.layer_norm_rms_epsilon"), number(config, "rms_norm_eps")),
    ...float(
      at("attention.layer_norm_epsilon"),
      number(config, "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
    ),
    ...ropeKeys(at, config, headDim ?? width / heads),
  };
}

function ropeKeys(at: (name: string) => string, config: Json, headDim: number): Keys {
  const inParameters = (config.rope_parameters ?? {}) as Readonly<Record<string, unknown>>;
  const partial = number({ ...config, ...inParameters }, "partial_rotary_factor", "rotary_pct") ?? 1;
  const size = { [at("rope.dimension_count")]: { u32: Math.floor(headDim * partial) } };
  const scaling = config.rope_scaling as Json | null | undefined;
  const type = scaling?.rope_type ?? scaling?.type;
  const original = number(scaling ?? {}, "original_max_position_embeddings") ??
    number(config, "original_max_position_embeddings");
  if (type === "linear" || type === "yarn") {
    return {
      ...size,
      [at("rope.scaling.type")]: type,
      [at("rope.scaling.factor")]: scaling!.factor as number,
      ...(original !== undefined && { [at("rope.scaling.original_context_length")]: { u32: original } }),
      ...(typeof scaling!.attention_factor === "number" && {
        [at("rope.scaling.attn_factor")]: scaling!.attention_factor,
      }),
    };
  }
  return original === undefined
    ? size
    : { ...size, [at("rope.scaling.original_context_length")]: { u32: original } };
}

/** The tokenizer's keys: of byte-level BPE, WordPiece and unigram. */
export function tokenizerKeys({ model, added_tokens: added = [], post_processor: around }: Json): Keys {
  const { type, vocab, merges, unk_id: unk } = model as Json;
  const tokens: string[] = [];
  const scores: number[] = [];
  if (type === "Unigram") {
    (vocab as [string, number][]).forEach(([token, score]) => {
      tokens.push(token);
      scores.push(score);
    });
  } else {
    for (const [token, id] of Object.entries(vocab as Record<string, number> ?? {})) tokens[id] = token;
  }
  const types = tokens.map(() => 1);
  for (const { id, content, special } of added as { id: number; content: string; special: boolean }[]) {
    tokens[id] = content;
    types[id] = special ? 3 : 4;
  }
  for (let id = 0; id < tokens.length; id++) {
    tokens[id] ??= `[PAD${id}]`;
    types[id] ??= 5;
    scores[id] ??= -10_000;
  }
  const single = JSON.stringify((around as Json | null)?.single ?? []);
  const id = (role: string, ...names: readonly string[]): Keys => {
    const found = names.map((name) => tokens.indexOf(name)).find((id) => id >= 0);
    return found === undefined ? {} : { [`tokenizer.ggml.${role}_token_id`]: { u32: found } };
  };
  const common: Keys = {
    "tokenizer.ggml.tokens": { texts: tokens },
    "tokenizer.ggml.token_type": { i32s: types },
  };
  if (type === "BPE") {
    return {
      ...common,
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "gpt-2",
      "tokenizer.ggml.merges": {
        texts: (merges as (string | string[])[]).map((merge) =>
          typeof merge === "string" ? merge : merge.join(" ")
        ),
      },
    };
  }
  if (type === "Unigram") {
    return {
      ...common,
      ...id("eos", "</s>"),
      ...(typeof unk === "number" && { "tokenizer.ggml.unknown_token_id": { u32: unk } }),
      "tokenizer.ggml.model": "t5",
      "tokenizer.ggml.scores": { f32s: scores },
      "tokenizer.ggml.add_eos_token": single.includes("</s>"),
      "tokenizer.ggml.remove_extra_whitespaces": false,
    };
  }
  if (type !== "WordPiece") return {};
  return {
    ...common,
    ...id("cls", "[CLS]"),
    ...id("seperator", "[SEP]"),
    ...id("unknown", "[UNK]"),
    "tokenizer.ggml.model": "bert",
    "tokenizer.ggml.tokens": {
      texts: tokens.map((token, id) =>
        types[id] === 3 ? token : token.startsWith("##") ? token.slice(2) : `▁${token}`
      ),
    },
  };
}

// What is done to tensors.

/** Rows of each head from (first half, second half) to pairs. */
function paired(kind: "q" | "k", heads: number, { shape, data }: Numbers): Numbers {
  const columns = shape[1] ?? 1, rows = shape[0]!, dim = rows / heads;
  if (!Number.isInteger(dim)) throw new Error(`${kind}: ${rows} rows are no ${heads} heads`);
  const out = new Float32Array(data.length);
  for (let head = 0; head < heads; head++) {
    for (let half = 0; half < 2; half++) {
      for (let i = 0; i < dim / 2; i++) {
        const from = head * dim + half * dim / 2 + i, to = head * dim + 2 * i + half;
        out.set(data.subarray(from * columns, (from + 1) * columns), to * columns);
      }
    }
  }
  return { shape, data: out };
}

/** All q and k of a llama paired. */
function pairAll(tensors: Tensors, config: Json): void {
  const heads = number(config, "num_attention_heads")!,
    kvHeads = number(config, "num_key_value_heads") ?? heads;
  each(tensors, /self_attn\.q_proj\.(weight|bias)$/, (numbers) => paired("q", heads, numbers));
  each(tensors, /self_attn\.k_proj\.(weight|bias)$/, (numbers) => paired("k", kvHeads, numbers));
}

/** For each head of keys its queries, its key, its value → all queries, all keys, all values. */
function stacked(heads: number, kvHeads: number): (numbers: Numbers) => Numbers {
  return ({ shape, data }) => {
    const columns = shape[1] ?? 1, dim = shape[0]! / (heads + 2 * kvHeads), group = heads / kvHeads + 2;
    const order: number[] = [];
    for (let i = 0; i < kvHeads; i++) for (let j = 0; j < group - 2; j++) order.push(i * group + j);
    for (let i = 0; i < kvHeads; i++) order.push(i * group + group - 2);
    for (let i = 0; i < kvHeads; i++) order.push(i * group + group - 1);
    const out = new Float32Array(data.length);
    const size = dim * columns;
    order.forEach((from, to) => out.set(data.subarray(from * size, (from + 1) * size), to * size));
    return { shape, data: out };
  };
}

function turned({ shape, data }: Numbers): Numbers {
  if (shape.length !== 2) return { shape, data };
  const [rows, columns] = shape as [number, number];
  const out = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = data[r * columns + c]!;
  return { shape: [columns, rows], data: out };
}

function plusOne({ shape, data }: Numbers): Numbers {
  return { shape, data: data.map((n) => n + 1) };
}

function each(tensors: Tensors, names: RegExp, change: (numbers: Numbers) => Numbers): void {
  for (const [name, numbers] of [...tensors]) if (names.test(name)) tensors.set(name, change(numbers));
}

/** Matrices "….experts.0.up.weight", "….experts.1.up.weight", … → one "….experts.up.weight". */
function stackExperts(tensors: Tensors): void {
  const groups = new Map<string, Numbers[]>();
  for (const [name, numbers] of [...tensors]) {
    const match = /^(.*\.experts)\.(\d+)(\..*)$/.exec(name);
    if (!match) continue;
    const key = match[1]! + match[3]!, group = groups.get(key) ?? [];
    group[Number(match[2])] = numbers;
    groups.set(key, group);
    tensors.delete(name);
  }
  for (const [name, parts] of groups) {
    const size = parts[0]!.data.length, data = new Float32Array(size * parts.length);
    parts.forEach((part, i) => data.set(part.data, i * size));
    tensors.set(name, { shape: [parts.length, ...parts[0]!.shape], data });
  }
}

// Names.

const LLAMA: Family["names"] = [
  ["model.embed_tokens", "token_embd"],
  ["model.norm", "output_norm"],
  ["lm_head", "output"],
  ["model.layers.*.input_layernorm", "blk.*.attn_norm"],
  ["model.layers.*.self_attn.q_proj", "blk.*.attn_q"],
  ["model.layers.*.self_attn.k_proj", "blk.*.attn_k"],
  ["model.layers.*.self_attn.v_proj", "blk.*.attn_v"],
  ["model.layers.*.self_attn.o_proj", "blk.*.attn_output"],
  ["model.layers.*.self_attn.dense", "blk.*.attn_output"],
  ["model.layers.*.self_attn.qkv_proj", "blk.*.attn_qkv"],
  ["model.layers.*.self_attn.q_norm", "blk.*.attn_q_norm"],
  ["model.layers.*.self_attn.k_norm", "blk.*.attn_k_norm"],
  ["model.layers.*.post_attention_layernorm", "blk.*.ffn_norm"],
  ["model.layers.*.mlp.gate_proj", "blk.*.ffn_gate"],
  ["model.layers.*.mlp.up_proj", "blk.*.ffn_up"],
  ["model.layers.*.mlp.down_proj", "blk.*.ffn_down"],
  ["model.layers.*.mlp.gate_up_proj", "blk.*.ffn_up"],
  ["model.layers.*.mlp.c_fc", "blk.*.ffn_up"],
  ["model.layers.*.mlp.c_proj", "blk.*.ffn_down"],
  ["model.layers.*.mlp.fc1", "blk.*.ffn_up"],
  ["model.layers.*.mlp.fc2", "blk.*.ffn_down"],
  ["model.final_layernorm", "output_norm"],
  ["model.layers.*.mlp.gate", "blk.*.ffn_gate_inp"],
  ["model.layers.*.mlp.experts.gate_proj", "blk.*.ffn_gate_exps"],
  ["model.layers.*.mlp.experts.up_proj", "blk.*.ffn_up_exps"],
  ["model.layers.*.mlp.experts.down_proj", "blk.*.ffn_down_exps"],
  ["model.layers.*.block_sparse_moe.gate", "blk.*.ffn_gate_inp"],
  ["model.layers.*.block_sparse_moe.experts.w1", "blk.*.ffn_gate_exps"],
  ["model.layers.*.block_sparse_moe.experts.w2", "blk.*.ffn_down_exps"],
  ["model.layers.*.block_sparse_moe.experts.w3", "blk.*.ffn_up_exps"],
  ["rope_freqs", "rope_freqs"],
  ["rope_factors_short", "rope_factors_short"],
  ["rope_factors_long", "rope_factors_long"],
];

/** Norms after attention and feed-forward, where a family has them. */
const AFTER: Family["names"] = [
  ["model.layers.*.post_attention_layernorm", "blk.*.post_attention_norm"],
  ["model.layers.*.pre_feedforward_layernorm", "blk.*.ffn_norm"],
  ["model.layers.*.post_feedforward_layernorm", "blk.*.post_ffw_norm"],
  ...LLAMA,
];

const GPT2: Family["names"] = [
  ["transformer.wte", "token_embd"],
  ["transformer.wpe", "position_embd"],
  ["transformer.ln_f", "output_norm"],
  ["transformer.h.*.ln_1", "blk.*.attn_norm"],
  ["transformer.h.*.attn.c_attn", "blk.*.attn_qkv"],
  ["transformer.h.*.attn.c_proj", "blk.*.attn_output"],
  ["transformer.h.*.ln_2", "blk.*.ffn_norm"],
  ["transformer.h.*.mlp.c_fc", "blk.*.ffn_up"],
  ["transformer.h.*.mlp.c_proj", "blk.*.ffn_down"],
];

const FUSED: Family["names"] = [
  ["transformer.word_embeddings", "token_embd"],
  ["transformer.word_embeddings_layernorm", "token_embd_norm"],
  ["transformer.ln_f", "output_norm"],
  ["transformer.h.*.input_layernorm", "blk.*.attn_norm"],
  ["transformer.h.*.ln_mlp", "blk.*.attn_norm"],
  ["transformer.h.*.ln_attn", "blk.*.attn_norm_2"],
  ["transformer.h.*.self_attention.query_key_value", "blk.*.attn_qkv"],
  ["transformer.h.*.self_attention.dense", "blk.*.attn_output"],
  ["transformer.h.*.post_attention_layernorm", "blk.*.ffn_norm"],
  ["transformer.h.*.mlp.dense_h_to_4h", "blk.*.ffn_up"],
  ["transformer.h.*.mlp.dense_4h_to_h", "blk.*.ffn_down"],
];

function t5Block(side: string, short: string, feed: number): Family["names"] {
  const own = `${side}.block.*.layer.0`, last = `${side}.block.*.layer.${feed}`;
  return [
    [`${own}.layer_norm`, `${short}.blk.*.attn_norm`],
    ...["q", "k", "v", "o"].map((part) =>
      [`${own}.SelfAttention.${part}`, `${short}.blk.*.attn_${part}`] as const
    ),
    [`${own}.SelfAttention.relative_attention_bias`, `${short}.blk.*.attn_rel_b`],
    [`${last}.layer_norm`, `${short}.blk.*.ffn_norm`],
    [`${last}.DenseReluDense.wi_0`, `${short}.blk.*.ffn_gate`],
    [`${last}.DenseReluDense.wi_1`, `${short}.blk.*.ffn_up`],
    [`${last}.DenseReluDense.wi`, `${short}.blk.*.ffn_up`],
    [`${last}.DenseReluDense.wo`, `${short}.blk.*.ffn_down`],
    [`${side}.final_layer_norm`, `${short}.output_norm`],
  ];
}

const BERT: Family["names"] = [
  ["embeddings.word_embeddings", "token_embd"],
  ["embeddings.position_embeddings", "position_embd"],
  ["embeddings.token_type_embeddings", "token_types"],
  ["embeddings.LayerNorm", "token_embd_norm"],
  ["encoder.layer.*.attention.self.query", "blk.*.attn_q"],
  ["encoder.layer.*.attention.self.key", "blk.*.attn_k"],
  ["encoder.layer.*.attention.self.value", "blk.*.attn_v"],
  ["encoder.layer.*.attention.output.dense", "blk.*.attn_output"],
  ["encoder.layer.*.attention.output.LayerNorm", "blk.*.attn_output_norm"],
  ["encoder.layer.*.intermediate.dense", "blk.*.ffn_up"],
  ["encoder.layer.*.output.dense", "blk.*.ffn_down"],
  ["encoder.layer.*.output.LayerNorm", "blk.*.layer_output_norm"],
];

// Families.

/** Frequencies of llama3's scaling as divisors, which the converter writes as a tensor. */
function llama3Factors(tensors: Tensors, config: Json): void {
  const scaling = config.rope_scaling as Json | null | undefined;
  if (scaling?.rope_type !== "llama3") return;
  const dim = number(config, "head_dim")!, theta = number(config, "rope_theta")!;
  const [factor, low, high, trained] = [
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
  ]
    .map((key) => scaling[key] as number) as [number, number, number, number];
  const data = Float32Array.from({ length: dim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** (2 * i / dim);
    if (wavelength < trained / high) return 1;
    if (wavelength > trained / low) return factor;
    const smooth = (trained / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
  tensors.set("rope_freqs.weight", { shape: [dim / 2], data });
}

function llamaChange(tensors: Tensors, config: Json): void {
  pairAll(tensors, config);
  llama3Factors(tensors, config);
}

function expertKeys(architecture: string): (config: Json) => Keys {
  return (config) => ({
    [`${architecture}.expert_count`]: { u32: number(config, "num_local_experts", "num_experts")! },
    [`${architecture}.expert_used_count`]: { u32: number(config, "num_experts_per_tok")! },
    ...(config.moe_intermediate_size !== undefined && {
      [`${architecture}.expert_feed_forward_length`]: { u32: number(config, "moe_intermediate_size")! },
    }),
  });
}

function windowKey(architecture: string): (config: Json) => Keys {
  return (config) =>
    typeof config.sliding_window === "number"
      ? { [`${architecture}.attention.sliding_window`]: { u32: config.sliding_window } }
      : {};
}

const gemmaNorms = (tensors: Tensors) => each(tensors, /norm\.weight$/, plusOne);

const FAMILIES: Readonly<Record<string, Family>> = {
  llama: { architecture: "llama", names: LLAMA, change: llamaChange },
  mistral: { architecture: "llama", names: LLAMA, change: pairAll },
  mixtral: {
    architecture: "llama",
    names: LLAMA,
    change(tensors, config) {
      pairAll(tensors, config);
      stackExperts(tensors);
    },
    keys: expertKeys("llama"),
  },
  smollm3: { architecture: "smollm3", names: LLAMA, change: pairAll },
  granite: {
    architecture: "granite",
    names: LLAMA,
    change: pairAll,
    keys: (config) => ({
      "granite.attention.scale": number(config, "attention_multiplier")!,
      "granite.embedding_scale": number(config, "embedding_multiplier")!,
      "granite.residual_scale": number(config, "residual_multiplier")!,
      "granite.logit_scale": number(config, "logits_scaling")!,
    }),
  },
  cohere: {
    architecture: "command-r",
    names: LLAMA,
    keys: (config) => ({ "command-r.logit_scale": number(config, "logit_scale")! }),
  },
  cohere2: {
    architecture: "cohere2",
    names: LLAMA,
    keys: (config) => ({
      "cohere2.logit_scale": number(config, "logit_scale")!,
      ...windowKey("cohere2")(config),
    }),
  },
  stablelm: {
    architecture: "stablelm",
    names: LLAMA,
    keys: (config) => ({ "stablelm.use_parallel_residual": config.use_parallel_residual === true }),
  },
  starcoder2: { architecture: "starcoder2", names: LLAMA },
  olmo: {
    architecture: "olmo",
    names: LLAMA,
    change: pairAll,
    keys: (config) => ({
      "olmo.attention.layer_norm_epsilon": 1e-5,
      ...(typeof config.clip_qkv === "number" && { "olmo.attention.clamp_kqv": config.clip_qkv }),
    }),
  },
  olmo2: { architecture: "olmo2", names: AFTER },
  olmo3: { architecture: "olmo2", names: AFTER, keys: windowKey("olmo2") },
  olmoe: {
    architecture: "olmoe",
    names: LLAMA,
    change: stackExperts,
    keys: (config) => ({
      ...expertKeys("olmoe")(config),
      ...(typeof config.clip_qkv === "number" && { "olmoe.attention.clamp_kqv": config.clip_qkv }),
    }),
  },
  qwen2: { architecture: "qwen2", names: LLAMA },
  qwen3: { architecture: "qwen3", names: LLAMA },
  qwen3_moe: { architecture: "qwen3moe", names: LLAMA, change: stackExperts, keys: expertKeys("qwen3moe") },
  gemma: { architecture: "gemma", names: LLAMA, change: gemmaNorms },
  gemma2: {
    architecture: "gemma2",
    names: AFTER,
    change: gemmaNorms,
    keys: (config) => ({
      ...windowKey("gemma2")(config),
      "gemma2.attn_logit_softcapping": number(config, "attn_logit_softcapping")!,
      "gemma2.final_logit_softcapping": number(config, "final_logit_softcapping")!,
    }),
  },
  gemma3_text: {
    architecture: "gemma3",
    names: AFTER,
    change: gemmaNorms,
    keys: (config) => ({
      ...windowKey("gemma3")(config),
      "gemma3.attention.sliding_window_pattern": {
        flags: (config.layer_types as string[]).map((type) => type === "sliding_attention"),
      },
    }),
  },
  phi: { architecture: "phi2", names: LLAMA },
  phi3: {
    architecture: "phi3",
    names: LLAMA,
    change(tensors, config) {
      const scaling = config.rope_scaling as Json | null;
      for (const kind of ["short", "long"]) {
        const factors = scaling?.[`${kind}_factor`] as number[] | undefined;
        if (!factors) continue;
        tensors.set(`rope_factors_${kind}.weight`, {
          shape: [factors.length],
          data: Float32Array.from(factors),
        });
      }
    },
    keys: (config) => {
      const most = number(config, "max_position_embeddings")!;
      const trained = number(config, "original_max_position_embeddings") ?? most;
      const scaled = config.rope_scaling
        ? { "phi3.rope.scaling.attn_factor": Math.sqrt(1 + Math.log(most / trained) / Math.log(trained)) }
        : {};
      return { ...windowKey("phi3")(config), ...scaled };
    },
  },
  gpt2: {
    architecture: "gpt2",
    names: GPT2,
    change: (tensors) => each(tensors, /\.(c_\w+)\.weight$/, turned),
  },
  gpt_bigcode: {
    architecture: "starcoder",
    names: GPT2,
    keys: (config) => ({
      "starcoder.attention.head_count_kv": {
        u32: config.multi_query === false ? number(config, "n_head")! : 1,
      },
    }),
  },
  gpt_neox: {
    architecture: "gptneox",
    names: [
      ["gpt_neox.embed_in", "token_embd"],
      ["gpt_neox.final_layer_norm", "output_norm"],
      ["embed_out", "output"],
      ["gpt_neox.layers.*.input_layernorm", "blk.*.attn_norm"],
      ["gpt_neox.layers.*.attention.query_key_value", "blk.*.attn_qkv"],
      ["gpt_neox.layers.*.attention.dense", "blk.*.attn_output"],
      ["gpt_neox.layers.*.post_attention_layernorm", "blk.*.ffn_norm"],
      ["gpt_neox.layers.*.mlp.dense_h_to_4h", "blk.*.ffn_up"],
      ["gpt_neox.layers.*.mlp.dense_4h_to_h", "blk.*.ffn_down"],
    ],
    change(tensors, config) {
      const heads = number(config, "num_attention_heads")!;
      each(tensors, /query_key_value\.(weight|bias)$/, stacked(heads, heads));
    },
    keys: (config) => ({ "gptneox.use_parallel_residual": config.use_parallel_residual !== false }),
  },
  falcon: {
    architecture: "falcon",
    names: FUSED,
    change(tensors, config) {
      const heads = number(config, "num_attention_heads")!;
      each(tensors, /query_key_value\.(weight|bias)$/, stacked(heads, falconKv(config)));
    },
    keys: (config) => ({ "falcon.attention.head_count_kv": { u32: falconKv(config) } }),
  },
  bloom: {
    architecture: "bloom",
    names: FUSED,
    change(tensors, config) {
      const heads = number(config, "n_head")!;
      each(tensors, /query_key_value\.(weight|bias)$/, stacked(heads, heads));
    },
  },
  mpt: {
    architecture: "mpt",
    names: [
      ["transformer.wte", "token_embd"],
      ["transformer.norm_f", "output_norm"],
      ["transformer.blocks.*.norm_1", "blk.*.attn_norm"],
      ["transformer.blocks.*.attn.Wqkv", "blk.*.attn_qkv"],
      ["transformer.blocks.*.attn.out_proj", "blk.*.attn_output"],
      ["transformer.blocks.*.norm_2", "blk.*.ffn_norm"],
      ["transformer.blocks.*.ffn.up_proj", "blk.*.ffn_up"],
      ["transformer.blocks.*.ffn.down_proj", "blk.*.ffn_down"],
    ],
    keys: (config) => {
      const clip = (config.attn_config as Json).clip_qkv;
      return {
        "mpt.attention.max_alibi_bias": 8,
        ...(typeof clip === "number" && { "mpt.attention.clamp_kqv": clip }),
      };
    },
  },
  gpt_oss: {
    architecture: "gpt-oss",
    names: [
      ["model.layers.*.post_attention_layernorm", "blk.*.post_attention_norm"],
      ["model.layers.*.self_attn.sinks", "blk.*.attn_sinks.weight"],
      ["model.layers.*.mlp.router", "blk.*.ffn_gate_inp"],
      ["model.layers.*.mlp.gate", "blk.*.ffn_gate_exps"],
      ["model.layers.*.mlp.up", "blk.*.ffn_up_exps"],
      ["model.layers.*.mlp.down", "blk.*.ffn_down_exps"],
      ...LLAMA,
    ],
    change: gptOssExperts,
    keys: (config) => ({
      ...expertKeys("gpt-oss")(config),
      ...windowKey("gpt-oss")(config),
      "gpt-oss.expert_feed_forward_length": { u32: number(config, "intermediate_size")! },
    }),
  },
  bert: {
    architecture: "bert",
    names: BERT,
    change(tensors) {
      for (const name of [...tensors.keys()]) if (/^(pooler|cls)\./.test(name)) tensors.delete(name);
    },
    keys: () => ({ "bert.attention.causal": false, "bert.pooling_type": { u32: 2 } }),
  },
  t5: {
    architecture: "t5",
    names: [
      ["shared", "token_embd"],
      ["lm_head", "output"],
      ...t5Block("encoder", "enc", 1),
      ...t5Block("decoder", "dec", 2),
      ["decoder.block.*.layer.1.layer_norm", "dec.blk.*.cross_attn_norm"],
      ...["q", "k", "v", "o"].map((part) =>
        [`decoder.block.*.layer.1.EncDecAttention.${part}`, `dec.blk.*.cross_attn_${part}`] as const
      ),
    ],
    keys: (config) => ({
      "t5.attention.layer_norm_rms_epsilon": number(config, "layer_norm_epsilon")!,
      "t5.attention.relative_buckets_count": { u32: number(config, "relative_attention_num_buckets")! },
      "t5.decoder_start_token_id": { u32: number(config, "decoder_start_token_id") ?? 0 },
      "t5.decoder_block_count": {
        u32: number(config, "num_decoder_layers") ?? number(config, "num_layers")!,
      },
    }),
  },
};

function falconKv(config: Json): number {
  if (config.new_decoder_architecture === true) return number(config, "num_kv_heads")!;
  return config.multi_query === true ? 1 : number(config, "num_attention_heads")!;
}

/** [experts, in, 2 · out], gate and up in turns → gate and up [experts, out, in]; down turned likewise. */
function gptOssExperts(tensors: Tensors): void {
  for (const [name, { shape, data }] of [...tensors]) {
    const match = /^(.*\.mlp)\.experts\.(gate_up|down)_proj(_bias)?$/.exec(name);
    if (!match) continue;
    const [, base, kind, bias] = match;
    tensors.delete(name);
    const experts = shape[0]!, suffix = bias ? "bias" : "weight";
    const rows = bias ? 1 : shape[1]!, columns = shape.at(-1)!;
    const take = (first: number, step: number): Numbers => {
      const out = columns / step, picked = new Float32Array(experts * rows * out);
      for (let e = 0; e < experts; e++) {
        for (let o = 0; o < out; o++) {
          for (let r = 0; r < rows; r++) {
            picked[(e * out + o) * rows + r] = data[(e * rows + r) * columns + first + o * step]!;
          }
        }
      }
      return { shape: bias ? [experts, out] : [experts, out, rows], data: picked };
    };
    if (kind === "down") tensors.set(`${base}.down.${suffix}`, take(0, 1));
    else {
      tensors.set(`${base}.gate.${suffix}`, take(0, 2));
      tensors.set(`${base}.up.${suffix}`, take(1, 2));
    }
  }
}
