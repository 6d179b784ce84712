/**
 * A checkpoint held in memory: the embedded model, tests.
 *
 * @module
 */
import type { Files, RandomAccessFile } from "./files.ts";

/**
 * Named contents as {@linkcode Files}.
 *
 * @example
 * ```ts
 * const files = memoryFiles("tiny", { "config.json": '{"model_type":"mpt"}' });
 * ```
 */
export function memoryFiles(label: string, contents: Readonly<Record<string, string | Uint8Array>>): Files {
  const entries = new Map(Object.entries(contents));
  return {
    label,
    list: () => Promise.resolve([...entries.keys()].filter((name) => !name.includes("/"))),
    text(name) {
      const content = entries.get(name);
      return Promise.resolve(content instanceof Uint8Array ? new TextDecoder().decode(content) : content);
    },
    open(name) {
      const content = entries.get(name);
      if (content === undefined) {
        return Promise.reject(new Error(`Cannot open "${label}/${name}": there is no such file`));
      }
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      return Promise.resolve(memoryFile(`${label}/${name}`, bytes));
    },
  };
}

function memoryFile(path: string, bytes: Uint8Array): RandomAccessFile {
  return {
    size: bytes.length,
    // deno-lint-ignore require-await
    async read(offset, into) {
      if (offset + into.length > bytes.length) {
        throw new Error(
          `Cannot read "${path}": bytes ${offset} to ${
            offset + into.length
          } are wanted, it has ${bytes.length}`,
        );
      }
      into.set(bytes.subarray(offset, offset + into.length));
    },
    close() {},
  };
}
