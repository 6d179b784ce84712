/**
 * Texts that users name: files and stdin, with errors in words.
 *
 * @module
 */

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

/** Writes a file, over an older one. */
export async function writeText(path: string, text: string): Promise<void> {
  try {
    await Deno.writeTextFile(path, text);
  } catch (error) {
    const why = error instanceof Deno.errors.NotFound ? "there is no such folder" : (error as Error).message;
    throw new Error(`Cannot write "${path}": ${why}`, { cause: error });
  }
}
