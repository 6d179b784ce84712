/**
 * What a folder of sentence-transformers says beside the checkpoint: how token vectors become one vector of a
 * text.
 *
 * modules.json lists what a text goes through: a Transformer (the checkpoint itself), Pooling, sometimes
 * Normalize. A checkpoint without modules.json takes the mean, as that library does.
 *
 * @module
 */
import type { Files } from "./load/files.ts";
import { type JsonObject, readJsonFile } from "./text/json_file.ts";

/** How the vectors of a text's tokens become one: their mean, or that of the first token. */
export type Pooling = "mean" | "cls";

/** What is used where the caller says nothing. */
export interface SentenceConfig {
  /** How a text's vector is made of its tokens'. */
  readonly pooling: Pooling;
  /** Whether vectors get length 1, so that their product is the cosine. */
  readonly normalize: boolean;
  /** Stands before each text ("query: "). */
  readonly prompt: string;
  /** Whether the text becomes lower case before the tokenizer sees it. */
  readonly lowerCase: boolean;
  /** Tokens of a text at most. */
  readonly contextLength: number | undefined;
}

/** Reads it. Throws an Error that names a module or a kind of pooling that is not supported. */
export async function readSentenceConfig(files: Files): Promise<SentenceConfig> {
  const text = await files.text("modules.json");
  const modules = text === undefined ? [] : parseModules(text, files.label);
  let pooling: Pooling = "mean", normalize = false;
  for (const { type, path } of modules) {
    const name = type.split(".").at(-1);
    if (name === "Transformer" && path === "") continue;
    if (name === "Transformer") {
      throw new Error(
        `Cannot load ${files.label}: its modules.json has the transformer in a folder of its own, "${path}": ` +
          "save it with a current version of sentence-transformers, which puts it beside modules.json",
      );
    }
    if (name === "Pooling") {
      pooling = poolingOf(await readJsonFile(files, `${path}/config.json`), files.label);
    } else if (name === "Normalize") normalize = true;
    else {
      throw new Error(
        `Cannot load ${files.label}: its modules.json has "${type}": supported are Transformer, Pooling and Normalize`,
      );
    }
  }
  const sentences = await readJsonFile(files, "sentence_bert_config.json") ?? {};
  const length = sentences.max_seq_length;
  return {
    pooling,
    normalize,
    prompt: promptOf(await readJsonFile(files, "config_sentence_transformers.json") ?? {}),
    lowerCase: sentences.do_lower_case === true,
    contextLength: typeof length === "number" ? length : undefined,
  };
}

function parseModules(text: string, label: string): { readonly type: string; readonly path: string }[] {
  let modules: unknown;
  try {
    modules = JSON.parse(text);
  } catch (error) {
    throw new Error(`Cannot load ${label}: its modules.json is not JSON: ${(error as Error).message}`);
  }
  const isModule = (entry: unknown): entry is { type: string; path: string } =>
    typeof entry === "object" && entry !== null && typeof (entry as JsonObject).type === "string" &&
    typeof (entry as JsonObject).path === "string";
  if (!Array.isArray(modules) || !modules.every(isModule)) {
    throw new Error(`Cannot load ${label}: its modules.json is not a list of modules with type and path`);
  }
  return modules;
}

const POOLINGS: Readonly<Record<string, Pooling>> = {
  pooling_mode_cls_token: "cls",
  pooling_mode_mean_tokens: "mean",
};

/** 1_Pooling/config.json: one key `pooling_mode_…` is true, or newer, `pooling_mode` names it. */
function poolingOf(config: JsonObject | undefined, label: string): Pooling {
  if (!config) throw new Error(`Cannot load ${label}: the config.json of its Pooling module is missing`);
  const named = typeof config.pooling_mode === "string" ? [config.pooling_mode] : [];
  const modes = Object.keys(config).filter((key) => key.startsWith("pooling_mode_") && config[key] === true);
  const [mode, ...more] = [...named, ...modes.map((key) => POOLINGS[key] ?? key)];
  if (config.include_prompt === false) {
    throw new Error(`Cannot load ${label}: its pooling leaves the prompt out, which is not supported`);
  }
  if (more.length > 0 || (mode !== "mean" && mode !== "cls")) {
    const found = mode === undefined ? "none" : [mode, ...more].join(", ");
    throw new Error(`Cannot load ${label}: its pooling is ${found}: supported are mean and cls, one of them`);
  }
  return mode;
}

function promptOf({ prompts, default_prompt_name: name }: JsonObject): string {
  if (typeof name !== "string" || typeof prompts !== "object" || prompts === null) return "";
  const prompt = (prompts as JsonObject)[name];
  return typeof prompt === "string" ? prompt : "";
}
