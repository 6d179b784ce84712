/**
 * The model that is there without any file: the storyteller (models/storyteller), in the module graph.
 *
 * @module
 */
import type { Files } from "./load/files.ts";
import { memoryFiles } from "./load/memory_files.ts";

/**
 * Tokens of its context unless told otherwise. It was trained on up to 1024, but with ALiBi, and predicts as
 * well four times beyond; this is room for a book.
 */
export const embeddedContextLength = 131_072;

/**
 * Its files, imported on demand. The name is split so that Deno does not fetch the module ahead:
 * a program that imports lakh from a URL downloads the 9 MB only when it uses them. `deno bundle` and
 * `deno compile` join the parts and include the module.
 */
export async function openEmbedded(): Promise<Files> {
  const { files }: typeof import("../models/storyteller/files.ts") = await import(
    "../models/storyteller/" + "files.ts"
  );
  return memoryFiles("storyteller", files);
}
