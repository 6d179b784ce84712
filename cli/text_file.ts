/**
 * Texts that users name: files and stdin, with errors in words.
 *
 * @module
 */

import { writeAtomically } from "../runtime/load/atomic_file.ts";

/** The text of a file, or of stdin for `-`. */
export async function readText(path: string): Promise<string> {
  if (path === "-") return await new Response(Deno.stdin.readable).text();
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    const why = error instanceof Deno.errors.NotFound ? "there is no such file" : (error as Error).message;
    throw new Error(`Cannot read "${path}": ${why}`, { cause: error });
  }
}

/** Writes a file, in place of an older one. */
export async function writeText(path: string, text: string): Promise<void> {
  try {
    await writeAtomically(path, (output) => output.write(new TextEncoder().encode(text)));
  } catch (error) {
    throw new Error(`Cannot write "${path}": ${(error as Error).message}`, { cause: error });
  }
}
