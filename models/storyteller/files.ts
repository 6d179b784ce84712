/**
 * The storyteller's files, in the module graph. embed.ts writes them. Import this only on demand: it is 9 MB.
 *
 * @module
 */
import config from "./config.json" with { type: "text" };
import generationConfig from "./generation_config.json" with { type: "text" };
import weights from "./model.safetensors.base64.txt" with { type: "text" };
import tokenizer from "./tokenizer.json" with { type: "text" };
import tokenizerConfig from "./tokenizer_config.json" with { type: "text" };

/** By their names in a checkpoint's folder. */
export const files: Readonly<Record<string, string | Uint8Array>> = {
  "config.json": config,
  "generation_config.json": generationConfig,
  "tokenizer.json": tokenizer,
  "tokenizer_config.json": tokenizerConfig,
  "model.safetensors": Uint8Array.fromBase64(weights),
};
