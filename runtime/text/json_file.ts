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

/**
 * Reads JSON for a chat template with its numbers as they are written: 1.0 stays a float, and long integers
 * keep their digits, where JSON.parse gives 1 and rounds. Such a number is what `JSON.rawJSON` makes, which
 * JSON.stringify writes as it was. Throws a SyntaxError as JSON.parse does.
 */
export function parseExactly(text: string): unknown {
  return parse(
    text,
    (_, value, { source }) =>
      typeof value === "number" && source !== undefined && String(value) !== source ? rawJSON(source) : value,
  );
}

// TypeScript's library does not know these two yet.
type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown;
const parse = JSON.parse as unknown as (text: string, reviver: Reviver) => unknown;
/** A number as it is written, for JSON.stringify. */
export const { rawJSON } = JSON as unknown as { readonly rawJSON: (text: string) => unknown };
