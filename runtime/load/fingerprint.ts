/**
 * Tells checkpoints apart by what a model was made of: every text and every byte of the weights that was read
 * while it was loaded, hashed as it came. So it speaks of the weights in memory, whatever happens to the
 * files later.
 *
 * Texts by their names, parts of tensors by name, format, shape and range; neither the order of reading nor
 * the cut into shards matters. xxHash64 tells what differs by chance or by training; it is no proof against
 * forgery.
 *
 * @module
 */
import { loadHash } from "../deps.ts";
import type { Files, RandomAccessFile } from "./files.ts";
import type { Checkpoint } from "./safetensors.ts";

type Hash = Awaited<ReturnType<typeof loadHash>>;

/**
 * Hears what is read through the files and checkpoints that it wraps.
 *
 * @example
 * ```ts
 * const fingerprint = new Fingerprint();
 * const tokenizer = await openTokenizer(fingerprint.files(files));
 * const weights = createWeights(fingerprint.checkpoint(await openCheckpoint(files)), device);
 * await weights.load();
 * console.log(await fingerprint.digest());
 * ```
 */
export class Fingerprint {
  /** What was read → the hash of its bytes. */
  readonly #parts = new Map<string, string>();
  /** Hashers that are idle; two reads at once take one each. */
  readonly #idle: Hash[] = [];

  /** The same files; what is read of them counts. */
  files(files: Files): Files {
    return {
      label: files.label,
      list: () => files.list(),
      text: async (name) => {
        const text = await files.text(name);
        await this.#hash(["text", name], text ?? "");
        return text;
      },
      open: async (name) => this.#file(name, await files.open(name)),
    };
  }

  /** The same checkpoint; what is read of its tensors counts. */
  checkpoint(checkpoint: Checkpoint): Checkpoint {
    const read: Checkpoint["read"] = (name, bytes) => this.#read(checkpoint, name, bytes);
    const close = () => checkpoint.close();
    const checkUnchanged = () => checkpoint.checkUnchanged();
    const { label, tensors } = checkpoint;
    return { label, tensors, read, checkUnchanged, close, [Symbol.dispose]: close };
  }

  /** 16 hexadecimal digits, equal for models that were made of the same. */
  async digest(): Promise<string> {
    const hash = await this.#take();
    hash.update(JSON.stringify([...this.#parts].sort(([a], [b]) => a < b ? -1 : 1)));
    return hash.digest("hex");
  }

  #file(name: string, file: RandomAccessFile): RandomAccessFile {
    return {
      size: file.size,
      read: async (offset, into) => {
        await file.read(offset, into);
        await this.#hash(["file", name, offset, into.length], into);
      },
      close: () => file.close(),
    };
  }

  async *#read(
    checkpoint: Checkpoint,
    name: string,
    bytes: { readonly from: number; readonly to: number } | undefined,
  ): AsyncGenerator<Uint8Array> {
    const hash = await this.#take();
    for await (const piece of checkpoint.read(name, bytes)) {
      hash.update(piece);
      yield piece;
    }
    const { dtype, shape, begin, end } = checkpoint.tensors.get(name)!;
    const { from, to } = bytes ?? { from: 0, to: end - begin };
    this.#add(["tensor", name, dtype, shape, from, to], hash);
  }

  async #hash(part: readonly unknown[], content: string | Uint8Array): Promise<void> {
    const hash = await this.#take();
    hash.update(content);
    this.#add(part, hash);
  }

  /** The same part is read twice where it does not fit a buffer, and has to be the same then. */
  #add(part: readonly unknown[], hash: Hash): void {
    const key = JSON.stringify(part), found = hash.digest("hex");
    this.#idle.push(hash);
    const before = this.#parts.get(key);
    if (before !== undefined && before !== found) {
      throw new Error(
        `Cannot load "${part[1]}": it changes while it is read: wait until it is written, load again`,
      );
    }
    this.#parts.set(key, found);
  }

  async #take(): Promise<Hash> {
    return (this.#idle.pop() ?? await loadHash()).init();
  }
}
