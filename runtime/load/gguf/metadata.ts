/**
 * Keys of a GGUF file with types: every read names its key, and an error names file, key, value and what was
 * expected.
 *
 * @module
 */
import { short } from "../safetensors_header.ts";
import type { GgufValue } from "./header.ts";

/**
 * Keys of one file. Remembers which were asked for, so that those that change a model's mathematics are not
 * passed over.
 */
export class Metadata {
  /** For messages. */
  readonly path: string;
  readonly #values: ReadonlyMap<string, GgufValue>;
  readonly #asked = new Set<string>();

  constructor(path: string, values: ReadonlyMap<string, GgufValue>) {
    this.path = path;
    this.#values = values;
  }

  has(key: string): boolean {
    this.#asked.add(key);
    return this.#values.has(key);
  }

  int(key: string, fallback?: number): number {
    return this.#get(key, fallback, "an integer", (v): v is number => Number.isSafeInteger(v));
  }

  float(key: string, fallback?: number): number {
    return this.#get(
      key,
      fallback,
      "a number",
      (v): v is number => typeof v === "number" && Number.isFinite(v),
    );
  }

  flag(key: string, fallback?: boolean): boolean {
    return this.#get(key, fallback, "true or false", (v): v is boolean => typeof v === "boolean");
  }

  text(key: string, fallback?: string): string {
    return this.#get(key, fallback, "a text", (v): v is string => typeof v === "string");
  }

  texts(key: string, fallback?: readonly string[]): readonly string[] {
    return this.#get(
      key,
      fallback,
      "a list of texts",
      (v): v is readonly string[] => Array.isArray(v) && v.every((entry) => typeof entry === "string"),
    );
  }

  numbers(key: string, fallback?: ArrayLike<number>): ArrayLike<number> {
    return this.#get(
      key,
      fallback,
      "a list of numbers",
      (v): v is Float32Array => ArrayBuffer.isView(v) && !(v instanceof DataView),
    );
  }

  /** The elements of a list; undefined when the value is none. */
  list(key: string): unknown[] | undefined {
    this.#asked.add(key);
    const value = this.#values.get(key);
    return typeof value === "object" ? Array.from<unknown>(value) : undefined;
  }

  bytes(key: string): Uint8Array {
    return this.#get(key, undefined, "a list of bytes", (v): v is Uint8Array => v instanceof Uint8Array);
  }

  /** A number that llama.cpp writes once, or once for each layer: an error when layers differ. */
  same(key: string, fallback?: number): number {
    const value = this.#values.get(key);
    if (typeof value !== "object") return this.int(key, fallback);
    const values = Array.from(this.numbers(key));
    const [first] = values;
    if (first === undefined || values.some((other) => other !== first)) {
      throw this.error(key, `is [${short(values.join(", "))}]: layers that differ are not supported`);
    }
    return first;
  }

  /** Keys under `prefix` that were never read. */
  unasked(prefix: string): string[] {
    return [...this.#values.keys()].filter((key) => key.startsWith(prefix) && !this.#asked.has(key));
  }

  /** Whether a value is 0, false, none or empty. */
  isNothing(key: string): boolean {
    const value = this.#values.get(key);
    return !value || value === "none" || (typeof value === "object" && value.length === 0);
  }

  /** An error about a key. */
  error(key: string, what: string): Error {
    return new Error(`Cannot load "${this.path}": ${key} ${what}`);
  }

  #get<T>(key: string, fallback: T | undefined, expected: string, is: (value: unknown) => value is T): T {
    this.#asked.add(key);
    const value = this.#values.get(key);
    if (value === undefined) {
      if (fallback !== undefined) return fallback;
      throw this.error(key, `is missing: expected ${expected}`);
    }
    if (!is(value)) {
      const shown = typeof value === "object" ? `a list of ${value.length}` : short(String(value));
      throw this.error(key, `is ${shown}: expected ${expected}`);
    }
    return value;
  }
}
