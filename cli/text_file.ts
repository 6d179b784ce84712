/**
 * Reads and writes texts that users name: files and stdin, with errors in words.
 *
 * @module
 */

import { checkWritable, writeAtomically } from "../runtime/load/atomic_file.ts";

/** The text of a file, or of stdin for `-`. */
export async function readText(path: string): Promise<string> {
  const bytes = await readBytes(path);
  try {
    return decode(bytes);
  } catch (error) {
    throw new Error(`Cannot read ${path === "-" ? "stdin" : `"${path}"`}: ${whyUnread(error)}`, {
      cause: error,
    });
  }
}

/** The bytes of a file, or of stdin for `-`. */
export async function readBytes(path: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return path === "-" ? await new Response(Deno.stdin.readable).bytes() : await Deno.readFile(path);
  } catch (error) {
    throw new Error(`Cannot read ${path === "-" ? "stdin" : `"${path}"`}: ${whyUnread(error)}`, {
      cause: error,
    });
  }
}

/**
 * UTF-8, or UTF-16 with its mark. Throws an Error for what is no text: read all the same, it would be another
 * text than the one that is meant.
 */
export function decode(bytes: Uint8Array): string {
  const starts = (...first: readonly number[]) => first.every((byte, i) => bytes[i] === byte);
  if (starts(0x25, 0x50, 0x44, 0x46)) {
    throw new Error("it is a PDF: take its text out first, e.g. with pdftotext");
  }
  if (starts(0x50, 0x4b, 3, 4)) {
    throw new Error("it is an archive (zip, docx, epub): take its text out first");
  }
  if (starts(0xff, 0xfe)) return new TextDecoder("utf-16le").decode(bytes);
  if (starts(0xfe, 0xff)) return new TextDecoder("utf-16be").decode(bytes);
  if (bytes.subarray(0, 8192).includes(0)) throw new Error("it is no text: it holds bytes of value 0");
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error("it is no text in UTF-8: convert it first, e.g. iconv -f latin1 -t utf-8");
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
