/**
 * Reads the small JSON files beside a checkpoint's weights.
 *
 * @module
 */
import { parseJsonObject } from "../load/config.ts";
import type { Files } from "../load/files.ts";

/** Any object of a JSON file. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** The object in a JSON file; undefined when there is no such file. Throws when it holds something else. */
export async function readJsonFile(files: Files, name: string): Promise<JsonObject | undefined> {
  const text = await files.text(name);
  return text === undefined ? undefined : parseJsonObject(`${files.label}/${name}`, text);
}
