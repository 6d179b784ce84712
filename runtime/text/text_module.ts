/**
 * The WASM module of tokenizers and chat templates: Hugging Face's crate `tokenizers`, and minijinja with
 * Python's meaning (wasm/text).
 *
 * Templates and tokenizers come with downloads, so what they may cost is bounded: an instance gets a memory
 * with a maximum, and each call an amount of work. The build counts work in every loop and function of the
 * module, also inside of regular expressions and filters, so a call that is too long traps after the same
 * steps on every machine, without a worker and a clock. A trapped instance is thrown away.
 *
 * @module
 */
import base64 from "../../wasm/text/pkg/text.wasm.base64" with { type: "text" };

const pageBytes = 65536;
/** The module's own data and stack; wasm/text/build.sh has the same number. */
const initialPages = 128;

interface Exports {
  readonly work: WebAssembly.Global;
  allocate(length: number): number;
  result_address(): number;
  result_length(): number;
}

/** Functions that take bytes (and one more number), or a number alone. */
type Call = (...args: number[]) => number;

let compiled: WebAssembly.Module | undefined;

function compile(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(Uint8Array.fromBase64(base64));
  return compiled;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The words of an error that the module gave, as opposed to a limit that was passed. */
export class TextError extends Error {}

/** What an instance may use. */
export interface TextLimits {
  /** Bytes of memory at most, a multiple of 64 KiB. */
  readonly memoryBytes: number;
}

/** One instance, which holds one tokenizer or one template. */
export class TextModule {
  readonly #exports: Exports;
  readonly #memory: WebAssembly.Memory;
  readonly #maximumPages: number;

  constructor({ memoryBytes }: TextLimits) {
    this.#maximumPages = memoryBytes / pageBytes;
    try {
      this.#memory = new WebAssembly.Memory({ initial: initialPages, maximum: this.#maximumPages });
    } catch {
      throw new Error(
        `Cannot start the text module: the system does not give ${
          memoryBytes / 2 ** 20
        } MiB of address space: ` +
          "raise its limit (ulimit -v)",
      );
    }
    const instance = new WebAssembly.Instance(compile(), { env: { memory: this.#memory } });
    this.#exports = instance.exports as unknown as Exports;
  }

  /**
   * Calls a function of the module with bytes or a text, within `work` steps. The result is a view that the
   * next call makes invalid. Throws a {@linkcode TextError} with the module's words, or an Error that says
   * which limit was passed; after the latter the instance is of no more use.
   */
  call(name: string, input: Uint8Array | string | undefined, work: number, ...more: number[]): Uint8Array {
    this.#exports.work.value = BigInt(Math.round(work));
    const place = this.#memory;
    try {
      const given = input === undefined ? [] : this.#write(input);
      const run = (this.#exports as unknown as Record<string, Call>)[name]!;
      const failed = run(...given, ...more);
      const result = new Uint8Array(
        place.buffer,
        this.#exports.result_address() >>> 0,
        this.#exports.result_length() >>> 0,
      );
      if (failed) throw new TextError(decoder.decode(result));
      return result;
    } catch (error) {
      if (error instanceof TextError) throw error;
      throw new Error(this.#limitOf(error as Error, work));
    }
  }

  #write(input: Uint8Array | string): [address: number, length: number] {
    if (typeof input === "string") input = encoder.encode(input);
    const address = this.#exports.allocate(input.length) >>> 0;
    new Uint8Array(this.#memory.buffer, address, input.length).set(input);
    return [address, input.length];
  }

  /** Which limit a trap tells of. */
  #limitOf(trap: Error, work: number): string {
    if ((this.#exports.work.value as bigint) < 0n) {
      return `it does not end within ${Math.round(work / 1e6).toLocaleString("en")} million steps`;
    }
    const pages = this.#memory.buffer.byteLength / pageBytes;
    // Memory doubles when it grows, so the last request was for more than what is left.
    if (trap.message.includes("unreachable") && pages * 3 > this.#maximumPages) {
      return `it needs more than ${this.#maximumPages * pageBytes / 2 ** 20} MiB of memory`;
    }
    if (trap instanceof RangeError || trap.message.includes("out of bounds")) return "it nests too deeply";
    return `the text module failed (${trap.message})`;
  }
}

/** The result of a call as text. */
export function textOf(result: Uint8Array): string {
  return decoder.decode(result);
}

/** The result of a call as a copy of its ids. */
export function idsOf(result: Uint8Array): Uint32Array {
  return new Uint32Array(result.slice().buffer);
}
