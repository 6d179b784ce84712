/**
 * Models by name, read where they are: a config, the headers of weights. Nothing is kept.
 *
 * @module
 */
import type { Files, RandomAccessFile } from "./files.ts";
import { MOST_TEXT_BYTES, openFolder } from "./folder.ts";
import { connect, type DownloadOptions, ggufIn, isTrue, listModel, openComplete } from "./hub.ts";
import { environment, hubCacheFolder, ModelCache, parseModelName } from "./hub_cache.ts";
import { encodePath, type HubFile } from "./hub_file.ts";
import { type Connection, get, persist, readAll, Transient } from "./hub_http.ts";

/**
 * The files of a model `org/name[@revision]`: those of the cache where it is complete, else the hub's own, of
 * which only what is read comes over the network. Throws as {@linkcode downloadModel} does.
 *
 * @example
 * ```ts
 * const { parameters } = await inspectCheckpoint(await browseModel("HuggingFaceTB/SmolLM2-135M-Instruct"));
 * ```
 */
export async function browseModel(name: string, options: DownloadOptions = {}): Promise<Files> {
  const model = parseModelName(name);
  const cache = new ModelCache(options.cacheDir ?? hubCacheFolder(), model.repository);
  const commit = await cache.commit(model.revision);
  const offline = options.offline ?? isTrue(environment("HF_HUB_OFFLINE"));
  if (commit !== undefined) {
    const found = await cache.complete(commit, model.gguf);
    if ("folder" in found) return await openComplete(found, name);
    try {
      if (offline) return { ...await openFolder(cache.snapshot(commit)), label: name };
    } catch {
      // told below
    }
  }
  if (offline) {
    throw new Error(
      `Cannot load "${name}" offline: its config.json is not in "${cache.folder}": run once without --offline`,
    );
  }
  const connection = await connect(name, options);
  const { commit: newest, files } = await listModel(connection, model);
  const remote = new RemoteFiles(connection, `/${model.repository}/resolve/${newest}`, files);
  const gguf = ggufIn(name, { model, paths: files.map(({ path }) => path) });
  if (gguf === undefined) return remote;
  const { ggufFiles } = await import("./gguf/files.ts");
  return await ggufFiles(remote, gguf, name);
}

class RemoteFiles implements Files {
  readonly label: string;
  readonly #connection: Connection;
  readonly #folder: string;
  readonly #files: readonly HubFile[];

  constructor(connection: Connection, folder: string, files: readonly HubFile[]) {
    this.label = connection.model;
    this.#connection = connection;
    this.#folder = folder;
    this.#files = files;
  }

  list(): Promise<readonly string[]> {
    return Promise.resolve(this.#files.map(({ path }) => path).filter((path) => !path.includes("/")).sort());
  }

  async text(name: string): Promise<string | undefined> {
    const file = this.#find(name);
    if (!file) return undefined;
    if (file.size > MOST_TEXT_BYTES) {
      throw new Error(
        `Cannot read "${name}" of "${this.label}": it is listed with ${file.size} bytes, at most ${MOST_TEXT_BYTES} are ` +
          `read: check the name, or HF_ENDPOINT`,
      );
    }
    const bytes = new Uint8Array(file.size);
    await this.#read(file, 0, bytes);
    return new TextDecoder().decode(bytes);
  }

  open(name: string): Promise<RandomAccessFile> {
    const file = this.#find(name);
    if (!file) {
      return Promise.reject(new Error(`Cannot open "${name}": there is no such file in "${this.label}"`));
    }
    return Promise.resolve({
      size: file.size,
      read: (offset, into) => this.#read(file, offset, into),
      close() {},
    });
  }

  #find(name: string): HubFile | undefined {
    return this.#files.find(({ path }) => path === name);
  }

  async #read({ path, size }: HubFile, offset: number, into: Uint8Array): Promise<void> {
    const end = offset + into.length;
    if (end > size) {
      throw new Error(`Cannot read "${path}": it has ${size} bytes, asked were ${offset} to ${end}`);
    }
    if (into.length === 0) return;
    const request = { path: `${this.#folder}/${encodePath(path)}`, range: `bytes=${offset}-${end - 1}` };
    await persist(this.#connection, () =>
      get(this.#connection, request, async (response, pieces) => {
        const partial = response.status === 206 &&
          response.headers.get("content-range")?.startsWith(`bytes ${offset}-${end - 1}/`);
        if (!partial && (response.status !== 200 || into.length < size)) {
          await response.body?.cancel();
          throw new Error(
            `Cannot read "${path}" of "${this.label}": ${this.#connection.endpoint} sends whole files only: ` +
              `download the model first: lakh run --model ${this.label} "Hello"`,
          );
        }
        const bytes = await readAll(pieces, into.length, `Cannot read "${path}" of "${this.label}"`);
        if (bytes.length !== into.length) {
          throw new Transient(`${bytes.length} bytes of "${path}" came, asked were ${into.length}`);
        }
        into.set(bytes);
      }));
  }
}
