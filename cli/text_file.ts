/**
 * Reads and writes texts that users name: files and stdin, with errors in words.
 *
 * @module
 */

import { checkWritable, writeAtomically } from "../runtime/load/atomic_file.ts";

/** The text of a file, or of stdin for `-`. */
export async function readText(path: string): Promise<string> {
  if (path === "-") return await readStdin();
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    throw new Error(`Cannot read "${path}": ${whyUnread(error)}`, { cause: error });
  }
}

/** All of stdin as text. */
async function readStdin(): Promise<string> {
  try {
    return await new Response(Deno.stdin.readable).text();
  } catch (error) {
    throw new Error(`Cannot read stdin: ${whyUnread(error)}`, { cause: error });
  }
}

/** Why a file or stdin cannot be read. */
export function whyUnread(error: unknown): string {
  const { code } = error as { code?: unknown };
  if (code === "ENOENT") return "there is no such file: check the path";
  if (code === "EISDIR") return "it is a folder: give a file";
  if (code === "EACCES" || code === "EPERM") return "no permission to read it";
  if (error instanceof Deno.errors.NotCapable) {
    return "Deno was not allowed to: give --allow-read for this place";
  }
  return (error as Error).message;
}

/** Writes a file, in place of an older one. */
export async function writeText(path: string, text: string): Promise<void> {
  try {
    if (await isStream(path)) return await Deno.writeTextFile(path, text);
    await writeAtomically(path, (output) => output.write(new TextEncoder().encode(text)));
  } catch (error) {
    throw new Error(`Cannot write "${path}": ${(error as Error).message}`, { cause: error });
  }
}

/** "/dev/stdout", say, or a named pipe. */
async function isStream(path: string): Promise<boolean> {
  const { isFile, isDirectory } = await Deno.stat(path).catch(() => ({ isFile: true, isDirectory: false }));
  return !isFile && !isDirectory;
}

/** Throws an Error in words when a file cannot be written there: call it before long work. */
export async function checkPlace(path: string, bytes = 0): Promise<void> {
  try {
    if (!await isStream(path)) await checkWritable(path, bytes);
  } catch (error) {
    throw new Error(`Cannot write "${path}": ${(error as Error).message}`, { cause: error });
  }
}
