/**
 * What a shader declares of its arguments, read from its text: parameters, bindings, structs, override
 * constants.
 *
 * The WGSL text is the only declaration. A kernel is called by the names that stand in it, and a number is
 * packed by the type that stands beside its name, so that nothing is listed twice:
 *
 *     struct Params { rows: u32, eps: f32 } → parameters: { rows: 3, eps: 1e-5 }
 *     @group(0) @binding(1) var<storage, read> x: array<f32>;                → buffers: { x }
 *     override GATED: bool = false;                                         → constants: { GATED: true }
 *
 * Structs that the host packs have fields of 32 bits (u32, i32, f32) alone, so that a field is one word,
 * without gaps.
 *
 * @module
 */

/** A number for a field: true is 1, false is 0. */
export type Values = Readonly<Record<string, number | boolean>>;

type FieldType = "u32" | "i32" | "f32";
const FIELD_TYPES: readonly string[] = ["u32", "i32", "f32"] satisfies FieldType[];

/** A buffer of a kernel. */
export interface Binding {
  readonly name: string;
  readonly access: "read" | "write";
}

/** Everything that a shader declares of its arguments. */
export interface Declarations {
  /** Of `struct Params`, bound at 0. */
  readonly parameters: Struct;
  /** Bound from 1 on. */
  readonly bindings: readonly Binding[];
  readonly overrides: ReadonlySet<string>;
}

/** A struct of words that the host packs. */
export class Struct {
  readonly #names: readonly string[];
  readonly #floats: readonly boolean[];

  constructor(readonly name: string, readonly fields: readonly { name: string; type: FieldType }[]) {
    this.#names = fields.map((field) => field.name);
    this.#floats = fields.map(({ type }) => type === "f32");
  }

  /**
   * Writes `values` from word `at` on; `words` and `floats` are views of one buffer. Throws unless the names
   * are the fields.
   */
  write(values: Values, words: Uint32Array, floats: Float32Array, at: number): void {
    const names = this.#names;
    let i = 0;
    // Callers name the fields in the order of the struct, mostly, so that nothing has to be looked up.
    for (const name in values) {
      const field = names[i] === name ? i : names.indexOf(name);
      const value = values[name];
      if (field < 0 || value === undefined) this.#refuse(values);
      if (this.#floats[field]) floats[at + field] = value as number;
      else words[at + field] = value as number;
      i++;
    }
    if (i !== names.length) this.#refuse(values);
  }

  /** The items of a list, one behind the other. */
  pack(items: readonly Values[]): Uint32Array {
    const words = new Uint32Array(items.length * this.fields.length), floats = new Float32Array(words.buffer);
    for (let i = 0; i < items.length; i++) this.write(items[i]!, words, floats, i * this.fields.length);
    return words;
  }

  /**
   * WGSL that reads item `index` of a list in `words: array<u32>`: `fn itemAt(first: u32, index: u32) ->
   * Item`.
   */
  reader(words: string): string {
    const { name, fields } = this;
    const values = fields.map(({ type }, i) => {
      return type === "u32" ? `${words}[at + ${i}u]` : `bitcast<${type}>(${words}[at + ${i}u])`;
    });
    return `fn ${name.toLowerCase()}At(first: u32, index: u32) -> ${name} {
  let at = first + index * ${fields.length}u;
  return ${name}(${values.join(", ")});
}`;
  }

  #refuse(values: Values): never {
    throw new TypeError(
      `Cannot pack ${this.name} of ${JSON.stringify(values)}: its fields are ${this.#names.join(", ")}`,
    );
  }
}

const COMMENT = /\/\/.*/g;
const BINDING =
  /@group\(0\)\s*@binding\((\d+)\)\s*var<(uniform|storage)(?:,\s*(read|read_write))?>\s*(\w+)\s*:/g;
const OVERRIDE = /\boverride\s+(\w+)\s*:/g;

/** The struct of this name in WGSL text. Throws an Error if it is not there or its fields are not words. */
export function structIn(code: string, name: string): Struct {
  const body = code.replace(COMMENT, "").match(new RegExp(`\\bstruct\\s+${name}\\s*\\{([^}]*)\\}`))?.[1];
  if (body === undefined) throw new Error(`Cannot read a shader: it has no struct ${name}`);
  const fields = body.split(",").map((field) => field.trim()).filter(Boolean).map((field) => {
    const [name = "", type = ""] = field.split(":").map((part) => part.trim());
    if (!FIELD_TYPES.includes(type)) {
      throw new Error(
        `Cannot read a shader: "${name}" is of type "${type}": take one of ${FIELD_TYPES.join(", ")}`,
      );
    }
    return { name, type: type as FieldType };
  });
  return new Struct(name, fields);
}

/**
 * Reads what a whole shader declares. Throws an Error if binding 0 is not `Params` or a binding is missing.
 */
export function declarationsIn(code: string): Declarations {
  const plain = code.replace(COMMENT, "");
  const bindings: Binding[] = [];
  for (const [, index, space, access, name] of plain.matchAll(BINDING)) {
    if ((space === "uniform") !== (index === "0")) {
      throw new Error(`Cannot read a shader: "${name}" is ${space}: bind Params at 0, storage from 1 on`);
    }
    if (index !== "0") {
      bindings[Number(index) - 1] = { name: name!, access: access === "read" ? "read" : "write" };
    }
  }
  for (let i = 0; i < bindings.length; i++) {
    if (!bindings[i]) throw new Error(`Cannot read a shader: nothing is bound at ${i + 1}`);
  }
  const overrides = new Set([...plain.matchAll(OVERRIDE)].map(([, name]) => name!));
  return { parameters: structIn(code, "Params"), bindings, overrides };
}
