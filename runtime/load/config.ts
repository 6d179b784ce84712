/**
 * config.json with types: every read names its key, and an error names file, key, value and what was
 * expected.
 *
 * @module
 */
import type { Config } from "../models/model.ts";
import type { Files } from "./files.ts";
import type { Checkpoint } from "./safetensors.ts";

type Json = Readonly<Record<string, unknown>>;

/**
 * Reads `config.json`. Throws an Error when it is absent or not a JSON object.
 *
 * @example
 * ```ts
 * const config = await readConfig(files);
 * config.int("num_key_value_heads", config.int("num_attention_heads"));
 * config.only("hidden_act", "silu");
 * config.object("rope_scaling").text("rope_type", "default");
 * ```
 */
export async function readConfig(files: Files): Promise<Config> {
  const path = `${files.label}/config.json`;
  const text = await files.text("config.json");
  if (text === undefined) throw new Error(`Cannot load "${path}": there is no such file`);
  return parseConfig(path, text);
}

/**
 * The same config, whose counts of layers and experts are compared with the tensors that are there: before a
 * model makes lists as long as a damaged or hostile file says.
 */
export function fitting(config: Config, { tensors }: Pick<Checkpoint, "tensors">): Config {
  if (!(config instanceof JsonConfig)) return config;
  // Experts may be stacked in one tensor.
  const stacked = [...tensors.values()].reduce((most, { shape }) => Math.max(most, shape[0] ?? 0), 0);
  return config.fitting({ layers: tensors.size, experts: Math.max(tensors.size, stacked) });
}

/** Longest string that names a kind of something; messages repeat it. */
const MOST_LETTERS = 1000;

/** Upper bounds of counts: far above real models, and tighter where the tensors are known. */
interface Bounds {
  readonly layers: number;
  readonly experts: number;
}
const LAYERS = /^(n|num|encoder|decoder)_(hidden_|encoder_|decoder_)?layers?$/;
const EXPERTS = /^(moe_)?n(um)?_(local_|routed_|shared_)?experts$/;
const MOST: Bounds = { layers: 16_384, experts: 16_384 };

/**
 * Most that an integer may be, by what its key is about; lists are made of that length. The first that
 * matches.
 */
const SIZES: readonly (readonly [key: RegExp, most: number])[] = [
  [/vocab|token_id|_ids?$|position|length|window|context|max_|seed/, Infinity],
  [/bucket/, 2 ** 20],
  [/head|group|kernel|block/, 2 ** 18],
  [/^/, 2 ** 26],
];

/** As {@linkcode readConfig}, of a text; `path` is for messages. */
export function parseConfig(path: string, text: string): Config {
  return new JsonConfig(path, "", { values: parseJsonObject(path, text) });
}

/** What `git clone` leaves in place of large files. */
export const LFS_POINTER = "it is a Git LFS pointer in place of the file: run git lfs pull in its folder";

/** A JSON text whose outermost value is an object; anything else is an error that names `path`. */
export function parseJsonObject(path: string, text: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (text.startsWith("version https://git-lfs")) throw new Error(`Cannot load "${path}": ${LFS_POINTER}`);
    throw new Error(
      `Cannot load "${path}": it is not JSON (${(error as Error).message}): download it again`,
      {
        cause: error,
      },
    );
  }
  if (!isObject(value)) {
    throw new Error(`Cannot load "${path}": it holds ${kindOf(value)}, a JSON object was expected`);
  }
  return value;
}

class JsonConfig implements Config {
  readonly #path: string;
  readonly #prefix: string;
  readonly #values: Json;
  /** Counts of the tensors that are there, where they are known. */
  readonly #bounds: Bounds | undefined;

  constructor(
    path: string,
    prefix: string,
    { values, bounds }: { readonly values: Json; readonly bounds?: Bounds | undefined },
  ) {
    this.#path = path;
    this.#prefix = prefix;
    this.#values = values;
    this.#bounds = bounds;
  }

  fitting(bounds: Bounds): Config {
    return new JsonConfig(this.#path, this.#prefix, { values: this.#values, bounds });
  }

  int(key: string, fallback?: number): number {
    const value = this.#get(key, fallback, "an integer", (v): v is number => Number.isSafeInteger(v));
    const counts = EXPERTS.test(key) ? "experts" : LAYERS.test(key) ? "layers" : undefined;
    const most = counts ? MOST[counts] : SIZES.find(([about]) => about.test(key))![1];
    if (counts && value < 0) throw this.#error(key, `is ${value}: expected a count of ${counts}, 0 or more`);
    if (Math.abs(value) > most) throw this.#error(key, `is ${value}: at most ${most} are supported`);
    const there = counts && this.#bounds?.[counts];
    if (there !== undefined && value > Math.max(there, 1)) {
      throw this.#error(
        key,
        `is ${value}, and the weights have ${there} tensors: config.json does not fit the weights, or the files are ` +
          "incomplete",
      );
    }
    return value;
  }

  float(key: string, fallback?: number): number {
    return this.#get(key, fallback, "a number", isNumber);
  }

  flag(key: string, fallback?: boolean): boolean {
    return this.#get(key, fallback, "true or false", (v): v is boolean => typeof v === "boolean");
  }

  text(key: string, fallback?: string): string {
    const value = this.#get(key, fallback, "a string", isString);
    if (value.length > MOST_LETTERS) throw this.#error(key, `is ${show(value)}: expected a short string`);
    return value;
  }

  numbers(key: string, fallback?: readonly number[]): readonly number[] {
    return this.#get(
      key,
      fallback,
      "a list of numbers",
      (v): v is readonly number[] => Array.isArray(v) && v.every(isNumber),
    );
  }

  texts(key: string, fallback?: readonly string[]): readonly string[] {
    return this.#get(
      key,
      fallback,
      "a list of strings",
      (v): v is readonly string[] => Array.isArray(v) && v.every(isString),
    );
  }

  has(key: string): boolean {
    const value = this.#value(key);
    return value !== undefined && value !== null;
  }

  object(key: string): Config {
    const values = this.#get(key, {}, "an object", isObject);
    return new JsonConfig(this.#path, `${this.#prefix}${key}.`, { values, bounds: this.#bounds });
  }

  only(key: string, ...values: readonly (string | number | boolean)[]): void {
    const value = this.#value(key);
    if (value === undefined || value === null || values.includes(value as string)) return;
    const expected = values.map((v) => JSON.stringify(v)).join(" or ");
    throw this.#error(
      key,
      `is ${show(value)}, which is not supported${expected && `: expected ${expected}`}`,
    );
  }

  // Own properties only: a key like "constructor" must not find what every object has.
  #value(key: string): unknown {
    return Object.hasOwn(this.#values, key) ? this.#values[key] : undefined;
  }

  #get<T>(key: string, fallback: T | undefined, expected: string, is: (value: unknown) => value is T): T {
    const value = this.#value(key);
    if (value === undefined || value === null) {
      if (fallback !== undefined) return fallback;
      throw this.#error(key, `is missing: expected ${expected}`);
    }
    if (!is(value)) throw this.#error(key, `is ${show(value)}: expected ${expected}`);
    return value;
  }

  #error(key: string, what: string): Error {
    return new Error(`Cannot load "${this.#path}": ${this.#prefix}${key} ${what}`);
  }
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

function isString(value: unknown): value is string {
  return typeof value === "string";
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "a list" : `a ${typeof value}`;
}

function show(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
