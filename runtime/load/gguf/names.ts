/**
 * Names of GGUF files: which are models, which are parts of one, and which quantization they hold.
 *
 * @module
 */

/** Parts of a model that is split: stem, number, count. */
const PART = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/;
const MAX_PARTS = 4096;

/** Files for llama.cpp that hold no model of text: eyes, adapters, importance matrices. */
const OTHERS = /^(mmproj|imatrix)|[-_.](mmproj|imatrix|lora)[-_.]/i;

/** Whether a path names a GGUF file. */
export function isGguf(path: string): boolean {
  return /\.gguf$/i.test(path);
}

/** The models among the files of a folder: of those that are split the first part. */
export function ggufModels(names: readonly string[]): string[] {
  return names.filter((name) => {
    const base = name.slice(name.lastIndexOf("/") + 1);
    const part = PART.exec(base)?.[2];
    return isGguf(base) && !OTHERS.test(base) && (part === undefined || part === "00001");
  });
}

/** Names of all parts of a model, of which `name` is one; only `name` when it is no part. */
export function partsOf(name: string): string[] {
  const [, stem, , count] = PART.exec(name) ?? [];
  if (stem === undefined) return [name];
  const parts = Number(count);
  if (parts < 1 || parts > MAX_PARTS) {
    throw new Error(
      `Cannot open "${name}": it would be one of ${parts} parts, at most ${MAX_PARTS} are allowed`,
    );
  }
  return Array.from(
    { length: parts },
    (_, i) => `${stem}-${String(i + 1).padStart(5, "0")}-of-${count}.gguf`,
  );
}

/**
 * Whether a folder or repository is a checkpoint in Hugging Face form, which goes before GGUF files beside
 * it.
 */
export function hasCheckpoint(paths: readonly string[]): boolean {
  const weights = ["model.safetensors", "model.safetensors.index.json"];
  return paths.includes("config.json") && weights.some((name) => paths.includes(name));
}

/** Which GGUF file of several is meant: one by its path, or by its quantization. */
export interface GgufChoice {
  readonly file?: string | undefined;
  readonly quantization?: string | undefined;
}

/**
 * The path of the model that is meant, of those in a folder or repository: of one that is split, its first
 * part. Without a choice the only one, where there is no checkpoint, which goes first. Else the models there
 * are.
 */
export function pickGguf(
  paths: readonly string[],
  { file, quantization }: GgufChoice,
): string | readonly string[] {
  const models = ggufModels(paths);
  if (file !== undefined) {
    const [first] = partsOf(file);
    return models.includes(first!) ? first! : models;
  }
  if (quantization === undefined) {
    return models.length === 1 && !hasCheckpoint(paths) ? models[0]! : models;
  }
  const found = models.filter((path) => quantizationOf(path)?.toLowerCase() === quantization.toLowerCase());
  return found.length === 1 ? found[0]! : models;
}

/** The quantization that a file's name ends with, or that of its folder: "…-Q4_K_M.gguf" → "Q4_K_M". */
export function quantizationOf(path: string): string | undefined {
  const stem = path.replace(/(-\d{5}-of-\d{5})?\.gguf$/i, "");
  const end = /(?:^|[-._])((?:UD-)?(?:I?Q\d\w*|TQ\d_\d|MXFP4\w*|BF16|F16|F32|FP16|FP32))$/i;
  return stem.split("/").toReversed().map((part) => end.exec(part)?.[1]).find((found) => found !== undefined);
}

/** What to type instead, where a choice leaves more than one model or none. */
export function ggufChoices(name: string, models: readonly string[]): string {
  const quantizations = [...new Set(models.map((path) => quantizationOf(path) ?? ""))];
  const byName = models.length === quantizations.length && !quantizations.includes("");
  const shown = byName ? quantizations.map((q) => `${name}:${q}`) : models.map((path) => `${name}/${path}`);
  return shown.slice(0, 12).join(", ") + (shown.length > 12 ? `, and ${shown.length - 12} more` : "");
}
