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
