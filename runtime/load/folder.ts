/**
 * A checkpoint in a folder on disk.
 *
 * @module
 */
import type { Files, RandomAccessFile } from "./files.ts";
import { ggufModels, hasCheckpoint, isGguf } from "./gguf/names.ts";

/** No config and no tokenizer is longer. */
export const MOST_TEXT_BYTES = 256 << 20;

/**
 * Opens a folder in Hugging Face form, a GGUF file, or a folder that holds one. Throws an Error in words when
 * there is no such folder, when the path is another file, or when the folder holds neither config.json nor
 * one GGUF model.
 *
 * @example
 * ```ts
 * const files = await openFolder("./SmolLM2-135M-Instruct");
 * const config = await readConfig(files);
 * ```
 */
export async function openFolder(path: string): Promise<Files> {
  if (isGguf(path) && await isFile(path)) {
    const end = Math.max(path.lastIndexOf("/"), Deno.build.os === "windows" ? path.lastIndexOf("\\") : -1);
    const folder = await folderFiles(end < 0 ? "." : path.slice(0, end) || "/");
    const { ggufFiles } = await import("./gguf/files.ts");
    return await ggufFiles(folder, path.slice(end + 1), path);
  }
  const files = await folderFiles(path);
  const names = await files.list();
  const models = hasCheckpoint(names) ? [] : ggufModels(names);
  if (models.length === 1) {
    const { ggufFiles } = await import("./gguf/files.ts");
    return await ggufFiles(files, models[0]!, path);
  }
  if (models.length > 1) {
    const more = models.length > 8 ? `, and ${models.length - 8} more` : "";
    throw new Error(
      `Cannot open "${path}": it has ${models.length} GGUF models: give the path of one: ` +
        models.slice(0, 8).join(", ") + more,
    );
  }
  if (!names.includes("config.json")) {
    if (names.includes("adapter_config.json")) {
      throw new Error(
        `Cannot open "${path}": it is an adapter (LoRA), not a model: merge it into its base model with peft, ` +
          "merge_and_unload(), and give the folder that save_pretrained() writes then",
      );
    }
    const others = names.filter((name) => /\.(bin|pt|pth|onnx)$/.test(name)).slice(0, 3);
    const held = others.length > 0 ? ` (it has ${others.join(", ")})` : "";
    throw new Error(
      `Cannot open "${path}": there is no config.json in it${held}: give a folder with config.json, ` +
        `tokenizer.json and *.safetensors, as save_pretrained() writes it, or with a .gguf file`,
    );
  }
  return files;
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch {
    return false; // what is wrong is said when it is opened
  }
}

/** The folder as {@linkcode Files} without asking for a config.json. */
export async function folderFiles(path: string): Promise<Files> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(path);
  } catch (error) {
    throw unreadable(path, error, "there is no such folder: check the path; a model of the hub is org/name");
  }
  if (!info.isDirectory) {
    throw new Error(
      `Cannot open "${path}": it is a file: give a .gguf file, or the folder that holds config.json`,
    );
  }

  const inside = (name: string) => {
    if (/^([/\\]|[A-Za-z]:)/.test(name) || name.split(/[/\\]/).includes("..") || name.includes("\0")) {
      throw new Error(`Cannot open "${name}": it lies outside of the folder "${path}"`);
    }
    return `${path}/${name}`;
  };
  return {
    label: path,
    async list() {
      const names: string[] = [];
      for await (const entry of Deno.readDir(path)) if (!entry.isDirectory) names.push(entry.name);
      return names.sort();
    },
    async text(name) {
      try {
        const { isFile, size } = await Deno.stat(inside(name));
        if (!isFile) throw new Error("it is no file");
        if (size > MOST_TEXT_BYTES) {
          throw new Error(`it has ${size} bytes, at most ${MOST_TEXT_BYTES} are read: it is damaged`);
        }
        return await Deno.readTextFile(inside(name));
      } catch (error) {
        if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
          return undefined;
        }
        throw unreadable(`${path}/${name}`, error, "there is no such file");
      }
    },
    open: async (name) => await openFile(inside(name)),
  };
}

/** Opens a file on disk. Throws an Error in words when there is none. */
export async function openFile(path: string): Promise<RandomAccessFile> {
  let file: Deno.FsFile | undefined;
  try {
    // Looked at before it is opened: opening a pipe waits for a writer.
    const { isFile, isDirectory } = await Deno.stat(path);
    if (!isFile) throw new Error(isDirectory ? "it is a folder" : "it is a pipe or a device, no file");
    file = await Deno.open(path, { read: true });
    const { size, mtime } = await file.stat();
    return new DiskFile(path, file, { size, mtime });
  } catch (error) {
    file?.close();
    throw unreadable(path, error, "there is no such file");
  }
}

function unreadable(path: string, error: unknown, notFound: string): Error {
  const why = error instanceof Deno.errors.NotFound
    ? notFound
    : error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable
    ? `no permission to read it (${error.message})`
    : error instanceof Error
    ? error.message
    : String(error);
  return new Error(`Cannot open "${path}": ${why}`, { cause: error });
}

class DiskFile implements RandomAccessFile {
  readonly size: number;
  readonly #path: string;
  readonly #file: Deno.FsFile;
  /** When it was last written to, in ms. */
  readonly #written: number | undefined;
  // Seek and read are two calls: reads take turns, or two of them would move each other's position.
  #turn: Promise<void> = Promise.resolve();

  constructor(path: string, file: Deno.FsFile, { size, mtime }: Pick<Deno.FileInfo, "size" | "mtime">) {
    this.#path = path;
    this.#file = file;
    this.#written = mtime?.getTime();
    this.size = size;
  }

  async unchanged(): Promise<boolean> {
    const { size, mtime } = await this.#file.stat();
    return size === this.size && mtime?.getTime() === this.#written;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    const result = this.#turn.then(() => this.#read(offset, into));
    this.#turn = result.catch(() => {});
    return result;
  }

  async #read(offset: number, into: Uint8Array): Promise<void> {
    await this.#file.seek(offset, Deno.SeekMode.Start);
    for (let filled = 0; filled < into.length;) {
      const count = await this.#file.read(into.subarray(filled));
      if (count === null) {
        throw new Error(
          `Cannot read "${this.#path}": it ends at byte ${offset + filled}, ` +
            `${offset + into.length} are needed: download the file again`,
        );
      }
      filled += count;
    }
  }

  close(): void {
    this.#file.close();
  }
}
