/**
 * Reads the small JSON files beside a checkpoint's weights.
 *
 * @module
 */
import type { Files } from "../load/files.ts";

/** Any object of a JSON file. */
export type JsonObject = Record<string, unknown>;

/** The object in a JSON file; undefined when there is no such file. Throws when it holds something else. */
export async function readJsonFile(files: Files, name: string): Promise<JsonObject | undefined> {
  const text = await files.text(name);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(
      `Cannot read "${name}" of ${files.label}: it is not JSON (${(error as Error).message}): download it again`,
    );
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`Cannot read "${name}" of ${files.label}: an object is expected: download it again`);
  }
  return value as JsonObject;
}
