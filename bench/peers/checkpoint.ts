/**
 * The random checkpoint that lakh benches, written out for the peers as a Hugging Face folder.
 *
 * The tokenizer has one token for each character of ASCII and no merges, so that a text has as many tokens as
 * characters; the remaining ids are words that no text contains.
 *
 * @module
 */
import { randomCheckpoint } from "../../runtime/judge/bench/random_model.ts";
import { SHAPES } from "../../runtime/judge/bench/shapes.ts";

export const SHAPE = "smollm2-135m";
export const CONFIG = SHAPES[SHAPE];

/** Writes config.json, model.safetensors (bf16) and a tokenizer. */
export async function writeHuggingFaceFolder(folder: string): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  await writeWeights(`${folder}/model.safetensors`);
  const config = {
    ...CONFIG,
    architectures: ["LlamaForCausalLM"],
    torch_dtype: "bfloat16",
    bos_token_id: END,
    eos_token_id: END,
  };
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: true };
  const ids = Object.fromEntries(vocabulary().map((token, id) => [token, id]));
  const tokenizer = {
    version: "1.0",
    added_tokens: [],
    pre_tokenizer: byteLevel,
    decoder: byteLevel,
    model: { type: "BPE", vocab: ids, merges: [] },
  };
  const end = vocabulary()[END];
  const kind = { tokenizer_class: "PreTrainedTokenizerFast", bos_token: end, eos_token: end };
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
  await Deno.writeTextFile(`${folder}/tokenizer.json`, JSON.stringify(tokenizer));
  await Deno.writeTextFile(`${folder}/tokenizer_config.json`, JSON.stringify(kind));
}

/** Copies the weights; the header is padded, because PyTorch wants its numbers at even addresses. */
async function writeWeights(path: string): Promise<void> {
  const weights = await randomCheckpoint(CONFIG).open("model.safetensors");
  const length = new BigUint64Array(1);
  await weights.read(0, new Uint8Array(length.buffer));
  const header = new Uint8Array(Number(length[0]));
  await weights.read(8, header);
  const padded = new Uint8Array(Math.ceil(header.length / 64) * 64).fill(32);
  padded.set(header);
  length[0] = BigInt(padded.length);

  using output = await Deno.create(path);
  await writeAll(output, new Uint8Array(length.buffer));
  await writeAll(output, padded);
  const buffer = new Uint8Array(16 << 20);
  for (let at = 8 + header.length; at < weights.size; at += buffer.length) {
    const part = buffer.subarray(0, Math.min(buffer.length, weights.size - at));
    await weights.read(at, part);
    await writeAll(output, part);
  }
}

/** Id that ends a text. */
export const END = 0;

/** Byte-level BPE spells a space Ġ and a new line Ċ. */
export function vocabulary(): string[] {
  const characters = ["Ġ", "Ċ", ...Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i))];
  return Array.from({ length: CONFIG.vocab_size }, (_, id) => characters[id - 1] ?? `word${id}`);
}

/** Letters and spaces, one token each. */
export function randomText(tokens: number, seed: number): string {
  let state = seed + 1, text = "";
  for (let i = 0; i < tokens; i++) {
    state = Math.imul(state, 1664525) + 1013904223 >>> 0;
    text += i % 6 === 5 ? " " : String.fromCharCode(97 + (state >>> 8) % 26);
  }
  return text;
}

/** Writes all bytes at the end of a file. */
export async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
}
