/**
 * A GGUF file as the folder that it was made from: config.json, tokenizer.json and their like are written
 * from its keys when they are asked for, and its tensors have the names of the checkpoint.
 *
 * @module
 */
import type { Files } from "../files.ts";
import type { Json } from "./architectures/architecture.ts";
import { GgufModel } from "./model.ts";
import { generationConfigJson, tokenizerConfigJson, tokenizerJson } from "./tokenizer/index.ts";

/** What the folder itself may have beside the file: outputs to compare with. */
const REFERENCE = /^reference\.(safetensors|json)$/;

/**
 * Opens the GGUF file `name` of `files`, and the parts beside it where it is split. `label` is what it is
 * called in messages. Throws an Error in words when it is damaged or not supported.
 *
 * @example
 * ```ts
 * const files = await ggufFiles(await folderFiles("./models"), "SmolLM2-135M-Instruct.Q4_1.gguf");
 * const config = await readConfig(files);
 * ```
 */
export async function ggufFiles(
  files: Files,
  name: string,
  label = `${files.label}/${name}`,
): Promise<Files> {
  const model = await GgufModel.open(files, name, label);
  const { metadata, architecture } = model;
  const made: Readonly<Record<string, () => Json | readonly Json[] | Promise<Json>>> = {
    "config.json": () => model.config(),
    "generation_config.json": () => generationConfigJson(metadata),
    "tokenizer.json": () => tokenizerJson(metadata, architecture),
    "tokenizer_config.json": () => tokenizerConfigJson(metadata),
    ...poolingFiles(model),
  };
  return {
    label,
    async list() {
      const beside = (await files.list()).filter((name) => REFERENCE.test(name));
      return [...Object.keys(made).filter((name) => !name.includes("/")), ...beside].sort();
    },
    async text(name) {
      if (Object.hasOwn(made, name)) return JSON.stringify(await made[name]!());
      return REFERENCE.test(name) ? await files.text(name) : undefined;
    },
    open(name) {
      if (REFERENCE.test(name)) return files.open(name);
      return Promise.reject(new Error(`Cannot open "${name}": there is no such file in "${label}"`));
    },
    openWeights: () => model.openCheckpoint(),
  };
}

/** How the vectors of an encoder become one, as sentence-transformers writes it. */
function poolingFiles(
  { metadata: m, architecture }: GgufModel,
): Record<string, () => Json | readonly Json[]> {
  const key = `${architecture}.pooling_type`;
  if (architecture !== "bert" || !m.has(key)) return {};
  const type = m.int(key);
  const mode = ["", "pooling_mode_mean_tokens", "pooling_mode_cls_token"][type];
  if (type === 0) return {};
  if (mode === undefined) {
    throw m.error(key, `is ${type}: supported are 0 (none), 1 (mean) and 2 (first token)`);
  }
  return {
    "modules.json": () => [
      { idx: 0, name: "0", path: "", type: "sentence_transformers.models.Transformer" },
      { idx: 1, name: "1", path: "1_Pooling", type: "sentence_transformers.models.Pooling" },
    ],
    "1_Pooling/config.json": () => ({
      word_embedding_dimension: m.int(`${architecture}.embedding_length`),
      [mode]: true,
    }),
  };
}
