/**
 * Named shapes of real models, as their config.json, and checkpoints of random weights in these shapes.
 *
 * @module
 */
import type { Files, RandomAccessFile } from "../runtime/load/files.ts";

type Json = Readonly<Record<string, unknown>>;

/** Config of each named shape. */
export const SHAPES = {
  "smollm2-135m": llama({ hidden: 576, layers: 30, heads: 9, kvHeads: 3, mlp: 1536, vocabulary: 49152 }),
  "llama-1b": llama({ hidden: 2048, layers: 16, heads: 32, kvHeads: 8, mlp: 8192, vocabulary: 128256 }),
  "mpt-7b": mpt({ hidden: 4096, layers: 32, heads: 32, vocabulary: 50432 }),
  /** For trying the bench itself. */
  tiny: llama({ hidden: 64, layers: 2, heads: 4, kvHeads: 2, mlp: 160, vocabulary: 512 }),
} as const satisfies Record<string, Json>;
export type ShapeName = keyof typeof SHAPES;

interface Sizes {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly vocabulary: number;
}

function llama(
  { hidden, layers, heads, kvHeads, mlp, vocabulary }: Sizes & { kvHeads: number; mlp: number },
) {
  return {
    model_type: "llama",
    hidden_size: hidden,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: hidden / heads,
    intermediate_size: mlp,
    vocab_size: vocabulary,
    max_position_embeddings: 131072,
    rms_norm_eps: 1e-5,
    rope_theta: 100000,
    hidden_act: "silu",
    tie_word_embeddings: true,
  };
}

function mpt({ hidden, layers, heads, vocabulary }: Sizes) {
  return {
    model_type: "mpt",
    d_model: hidden,
    n_layers: layers,
    n_heads: heads,
    expansion_ratio: 4,
    max_seq_len: 65536,
    vocab_size: vocabulary,
    no_bias: true,
    tie_word_embeddings: true,
    attn_config: { alibi: true, alibi_bias_max: 8, attn_type: "multihead_attention" },
  };
}

/** Names and shapes of the tensors of a config. */
function tensorsOf(config: Json): [name: string, shape: number[]][] {
  const at = (key: string) => config[key] as number;
  if (config.model_type === "mpt") {
    const d = at("d_model"), wide = d * at("expansion_ratio");
    const layer = (i: number): [string, number[]][] => [
      [`transformer.blocks.${i}.norm_1.weight`, [d]],
      [`transformer.blocks.${i}.attn.Wqkv.weight`, [3 * d, d]],
      [`transformer.blocks.${i}.attn.out_proj.weight`, [d, d]],
      [`transformer.blocks.${i}.norm_2.weight`, [d]],
      [`transformer.blocks.${i}.ffn.up_proj.weight`, [wide, d]],
      [`transformer.blocks.${i}.ffn.down_proj.weight`, [d, wide]],
    ];
    return [
      ["transformer.wte.weight", [at("vocab_size"), d]],
      ...Array.from({ length: at("n_layers") }, (_, i) => layer(i)).flat(),
      ["transformer.norm_f.weight", [d]],
    ];
  }
  const d = at("hidden_size"), kv = at("num_key_value_heads") * at("head_dim"), mlp = at("intermediate_size");
  const layer = (i: number): [string, number[]][] => [
    [`model.layers.${i}.input_layernorm.weight`, [d]],
    [`model.layers.${i}.self_attn.q_proj.weight`, [at("num_attention_heads") * at("head_dim"), d]],
    [`model.layers.${i}.self_attn.k_proj.weight`, [kv, d]],
    [`model.layers.${i}.self_attn.v_proj.weight`, [kv, d]],
    [`model.layers.${i}.self_attn.o_proj.weight`, [d, at("num_attention_heads") * at("head_dim")]],
    [`model.layers.${i}.post_attention_layernorm.weight`, [d]],
    [`model.layers.${i}.mlp.gate_proj.weight`, [mlp, d]],
    [`model.layers.${i}.mlp.up_proj.weight`, [mlp, d]],
    [`model.layers.${i}.mlp.down_proj.weight`, [d, mlp]],
  ];
  return [
    ["model.embed_tokens.weight", [at("vocab_size"), d]],
    ...Array.from({ length: at("num_hidden_layers") }, (_, i) => layer(i)).flat(),
    ["model.norm.weight", [d]],
  ];
}

/**
 * A checkpoint of a shape that takes no memory: config.json and a model.safetensors whose bf16 numbers are made as they
 * are read (uniform, standard deviation 0.02, always the same).
 */
export function randomCheckpoint(name: ShapeName): Files {
  const config: Json = SHAPES[name];
  let end = 0;
  const header: Record<string, unknown> = {};
  for (const [tensor, shape] of tensorsOf(config)) {
    const begin = end;
    end += 2 * shape.reduce((a, b) => a * b, 1);
    header[tensor] = { dtype: "BF16", shape, data_offsets: [begin, end] };
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const head = new Uint8Array(8 + text.length);
  new DataView(head.buffer).setBigUint64(0, BigInt(text.length), true);
  head.set(text, 8);

  const file: RandomAccessFile = {
    size: head.length + end,
    read(offset, into) {
      for (let at = 0; at < into.length;) {
        const from = offset + at;
        const source = from < head.length
          ? head.subarray(from)
          : PATTERN.subarray((from - head.length) % PATTERN.length);
        const part = source.subarray(0, into.length - at);
        into.set(part, at);
        at += part.length;
      }
      return Promise.resolve();
    },
    close() {},
  };
  return {
    label: name,
    list: () => Promise.resolve(["config.json", "model.safetensors"]),
    text: (file) => Promise.resolve(file === "config.json" ? JSON.stringify(config) : undefined),
    open: () => Promise.resolve(file),
  };
}

/** bf16 numbers; a prime count, so that rows of a matrix differ. */
const PATTERN = (() => {
  const bits = new Uint32Array(new Float32Array(1).buffer), float = new Float32Array(bits.buffer);
  const numbers = new Uint16Array(1_000_003);
  let state = 1;
  for (let i = 0; i < numbers.length; i++) {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    float[0] = (state / 2 ** 31) * 0.02 * Math.sqrt(3);
    numbers[i] = bits[0]! >>> 16;
  }
  return new Uint8Array(numbers.buffer);
})();
