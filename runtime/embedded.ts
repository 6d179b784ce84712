/**
 * The model that is there without any file: the storyteller (models/storyteller), in the module graph.
 *
 * @module
 */
import type { Files } from "./load/files.ts";
import { memoryFiles } from "./load/memory_files.ts";

/**
 * Tokens of its context unless told otherwise. It was trained on up to 1024, but with ALiBi, and predicts as well four
 * times beyond; this is room for a book.
 */
export const embeddedContextLength = 131_072;

/** Its files. Loaded on demand, so that a program that imports lakh from a URL downloads them only when it uses them. */
export async function openEmbedded(): Promise<Files> {
  const { files } = await import("../models/storyteller/files.ts");
  return memoryFiles("storyteller", files);
}
