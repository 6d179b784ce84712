/**
 * Tells checkpoints apart, also two that were trained from the same one: by config.json, the tensors' names, formats and
 * places, and the first numbers of some tensors.
 *
 * @module
 */
import { loadHash } from "../deps.ts";
import type { Files } from "./files.ts";
import { openCheckpoint } from "./safetensors.ts";

/** Tensors that are looked into, and bytes of each. */
const SAMPLES = 64, SAMPLE_BYTES = 1024;

/** 16 hexadecimal digits, equal for equal checkpoints. */
export async function fingerprintOf(files: Files): Promise<string> {
  const hash = await loadHash();
  hash.update(await files.text("config.json") ?? "");
  using checkpoint = await openCheckpoint(files);
  const tensors = [...checkpoint.tensors].sort(([a], [b]) => a < b ? -1 : 1);
  for (const [name, { dtype, shape, begin, end }] of tensors) {
    hash.update(JSON.stringify([name, dtype, shape, begin, end]));
  }
  const step = Math.max(1, Math.floor(tensors.length / SAMPLES));
  for (const [name, { begin, end }] of tensors.filter((_, i) => i % step === 0)) {
    const to = Math.min(end - begin, SAMPLE_BYTES);
    for await (const piece of checkpoint.read(name, { from: 0, to })) hash.update(piece);
  }
  return hash.digest("hex");
}
