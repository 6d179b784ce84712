/**
 * The same checkpoint as a GGUF file of f32 numbers, from which llama.cpp's own tool makes q8_0 and q4_0.
 *
 * GGUF 3, little-endian: "GGUF" · u32 version · u64 tensors · u64 keys · keys · tensor infos · data, each
 * tensor at a multiple of 32 bytes. A key: text name · u32 type · value. An info: text name · u32 dimensions
 * · u64 each, inner first · u32 dtype · u64 offset in the data. Text: u64 length · UTF-8. An array: u32 type
 * · u64 length · values.
 *
 * @module
 */
import { openCheckpoint } from "../../runtime/load/safetensors.ts";
import { randomCheckpoint } from "../../runtime/judge/bench/random_model.ts";
import { CONFIG, END, SHAPE, vocabulary, writeAll } from "./checkpoint.ts";

const TYPE = { u32: 4, i32: 5, f32: 6, text: 8, array: 9 } as const;
const F32_TENSOR = 0;
const ALIGNMENT = 32;
const NORMAL_TOKEN = 1;

/** Names of tensors within `model.`, and within a layer. */
const NAMES: Readonly<Record<string, string>> = {
  "embed_tokens.weight": "token_embd.weight",
  "norm.weight": "output_norm.weight",
  "input_layernorm.weight": "attn_norm.weight",
  "self_attn.q_proj.weight": "attn_q.weight",
  "self_attn.k_proj.weight": "attn_k.weight",
  "self_attn.v_proj.weight": "attn_v.weight",
  "self_attn.o_proj.weight": "attn_output.weight",
  "post_attention_layernorm.weight": "ffn_norm.weight",
  "mlp.gate_proj.weight": "ffn_gate.weight",
  "mlp.up_proj.weight": "ffn_up.weight",
  "mlp.down_proj.weight": "ffn_down.weight",
};

/**
 * Writes the file. Rows of q and k keep their order: llama.cpp pairs other features in RoPE, at the same
 * cost.
 */
export async function writeGguf(path: string): Promise<void> {
  using checkpoint = await openCheckpoint(randomCheckpoint(CONFIG));
  const tensors = [...checkpoint.tensors].map(([name, { shape }]) => {
    const count = shape.reduce((a, b) => a * b, 1);
    return { name, shape, count, bytes: aligned(4 * count) };
  });
  const keys = describe();
  const header = new Writer().raw("GGUF").u32(3).u64(tensors.length).u64(keys.length);
  for (const [name, write] of keys) write(header.text(name));
  let offset = 0;
  for (const { name, shape, bytes } of tensors) {
    header.text(ggufName(name)).u32(shape.length);
    for (const size of shape.toReversed()) header.u64(size);
    header.u32(F32_TENSOR).u64(offset);
    offset += bytes;
  }

  using output = await Deno.create(path);
  await writeAll(output, header.finish());
  for (const { name, bytes } of tensors) {
    const wide = new Uint32Array(bytes / 4);
    let at = 0;
    for await (const piece of checkpoint.read(name)) {
      const halves = new DataView(piece.buffer, piece.byteOffset, piece.byteLength);
      for (let i = 0; i < piece.length; i += 2) wide[at++] = halves.getUint16(i, true) << 16;
    }
    await writeAll(output, new Uint8Array(wide.buffer));
  }
}

function ggufName(name: string): string {
  const [, layer, inside] = /^model\.(?:layers\.(\d+)\.)?(.*)$/.exec(name) ?? [];
  const known = inside === undefined ? undefined : NAMES[inside];
  if (known === undefined) throw new Error(`Cannot write "${name}" as GGUF: no name is known for it`);
  return layer === undefined ? known : `blk.${layer}.${known}`;
}

/** Keys with what writes their type and value. */
function describe(): [name: string, write: (writer: Writer) => unknown][] {
  const u32 = (value: number) => (writer: Writer) => writer.u32(TYPE.u32).u32(value);
  const f32 = (value: number) => (writer: Writer) => writer.u32(TYPE.f32).f32(value);
  const text = (value: string) => (writer: Writer) => writer.u32(TYPE.text).text(value);
  const tokens = vocabulary();
  return [
    ["general.architecture", text("llama")],
    ["general.name", text(SHAPE)],
    ["general.file_type", u32(0)],
    ["llama.vocab_size", u32(CONFIG.vocab_size)],
    ["llama.context_length", u32(CONFIG.max_position_embeddings)],
    ["llama.embedding_length", u32(CONFIG.hidden_size)],
    ["llama.block_count", u32(CONFIG.num_hidden_layers)],
    ["llama.feed_forward_length", u32(CONFIG.intermediate_size)],
    ["llama.attention.head_count", u32(CONFIG.num_attention_heads)],
    ["llama.attention.head_count_kv", u32(CONFIG.num_key_value_heads)],
    ["llama.attention.layer_norm_rms_epsilon", f32(CONFIG.rms_norm_eps)],
    ["llama.rope.dimension_count", u32(CONFIG.head_dim)],
    ["llama.rope.freq_base", f32(CONFIG.rope_theta)],
    ["tokenizer.ggml.model", text("gpt2")],
    ["tokenizer.ggml.pre", text("gpt-2")],
    ["tokenizer.ggml.bos_token_id", u32(END)],
    ["tokenizer.ggml.eos_token_id", u32(END)],
    ["tokenizer.ggml.tokens", (writer) => {
      writer.u32(TYPE.array).u32(TYPE.text).u64(tokens.length);
      for (const token of tokens) writer.text(token);
    }],
    ["tokenizer.ggml.token_type", (writer) => {
      writer.u32(TYPE.array).u32(TYPE.i32).u64(tokens.length);
      for (let id = 0; id < tokens.length; id++) writer.u32(NORMAL_TOKEN);
    }],
    ["tokenizer.ggml.merges", (writer) => writer.u32(TYPE.array).u32(TYPE.text).u64(0)],
  ];
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

class Writer {
  #bytes = new Uint8Array(1 << 16);
  #length = 0;

  u32(value: number): this {
    this.#grow(4).setUint32(this.#length - 4, value, true);
    return this;
  }

  u64(value: number): this {
    this.#grow(8).setBigUint64(this.#length - 8, BigInt(value), true);
    return this;
  }

  f32(value: number): this {
    this.#grow(4).setFloat32(this.#length - 4, value, true);
    return this;
  }

  text(value: string): this {
    return this.u64(new TextEncoder().encode(value).length).raw(value);
  }

  raw(value: string): this {
    const bytes = new TextEncoder().encode(value);
    this.#grow(bytes.length);
    this.#bytes.set(bytes, this.#length - bytes.length);
    return this;
  }

  /** All bytes so far, padded to where data may begin. */
  finish(): Uint8Array {
    this.#grow(aligned(this.#length) - this.#length);
    return this.#bytes.subarray(0, this.#length);
  }

  #grow(by: number): DataView {
    this.#length += by;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#length);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    return new DataView(this.#bytes.buffer);
  }
}
