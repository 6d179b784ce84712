/**
 * What kernels are told, by the names that they declare themselves (`arguments!` and `record!` in wasm/src):
 * arguments and rows of tables are written by name, so that no position is counted on this side.
 *
 * @module
 */
import type { DeviceTensor } from "../tensor.ts";

/** Numbers in shared memory. */
export interface Range {
  readonly address: number;
  readonly bytes: number;
}

/** What an argument can be: a number, a tensor, a flag, or the name of a choice that the kernel declares. */
export type Argument = number | boolean | string | DeviceTensor;
export type Arguments = Readonly<Record<string, Argument>>;

/** "rope(x,rows,layout:half|interleaved)" as the module exports it. */
export class Signature {
  readonly name: string;
  readonly #fields: readonly string[];
  /** By field: the codes of its choices. */
  readonly #codes: readonly (ReadonlyMap<string, number> | undefined)[];

  constructor(text: string) {
    const [, name, list] = /^(\w+)\((.*)\)$/.exec(text)!;
    const fields = list!.split(",").map((field) => field.split(":"));
    this.name = name!;
    this.#fields = fields.map(([field]) => camelCase(field!));
    this.#codes = fields.map(([, choices]) =>
      choices === undefined ? undefined : new Map(choices.split("|").map((choice, code) => [choice, code]))
    );
  }

  /** Words of one command or row. */
  get length(): number {
    return this.#fields.length;
  }

  /**
   * Writes the values to `words` from `at` on, in the order of the declaration. Throws a TypeError where a
   * name is missing or unknown. Objects whose names stand in that order are written faster: V8 reads their
   * values in one pass.
   */
  write(values: Arguments, words: Float64Array | Uint32Array, at: number): void {
    const fields = this.#fields;
    let i = 0;
    for (const name in values) {
      if (name !== fields[i]) return this.#writeByName(values, words, at);
      const value = values[name]!;
      words[at + i] = typeof value === "number"
        ? value
        : typeof value === "object"
        ? (value.buffer as Range).address
        : typeof value === "string"
        ? this.#codes[i]?.get(value) ?? this.#wordOf(value, i)
        : this.#wordOf(value, i);
      i++;
    }
    if (i < fields.length) this.#wordOf(undefined, i);
  }

  #writeByName(values: Arguments, words: Float64Array | Uint32Array, at: number): void {
    const unknown = Object.keys(values).filter((name) => !this.#fields.includes(name));
    if (unknown.length > 0) {
      throw new TypeError(
        `Cannot record ${this.name}: it has no argument ${unknown.join(", ")}: it takes ${
          this.#fields.join(", ")
        }`,
      );
    }
    this.#fields.forEach((name, i) => {
      const value = values[name];
      words[at + i] = typeof value === "object" ? addressOf(value) : this.#wordOf(value, i);
    });
  }

  /** Rows of a table for kernels to read. */
  table(rows: readonly Arguments[]): Uint32Array {
    const words = new Uint32Array(rows.length * this.length);
    rows.forEach((row, i) => this.write(row, words, i * this.length));
    return words;
  }

  #wordOf(value: number | boolean | string | undefined, field: number): number {
    switch (typeof value) {
      case "number":
        return value;
      case "boolean":
        return value ? 1 : 0;
      case "string": {
        const code = this.#codes[field]?.get(value);
        if (code !== undefined) return code;
      }
    }
    const choices = [...this.#codes[field]?.keys() ?? []].join(", ");
    throw new TypeError(
      `Cannot record ${this.name}: its argument ${this.#fields[field]} is ${
        value === undefined ? "missing" : `"${value}"`
      }: give ${choices ? `one of ${choices}` : "a number, a flag or a tensor"}`,
    );
  }
}

/** Where a tensor's numbers begin. */
export function addressOf(x: DeviceTensor): number {
  return (x.buffer as Range).address;
}

/** head_dim → headDim */
function camelCase(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}
