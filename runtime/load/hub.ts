/**
 * Models by name, from the Hugging Face hub through its documented HTTP API, into the cache that Python
 * shares.
 *
 * @module
 */
import type { OnProgress } from "../progress.ts";
import type { Files } from "./files.ts";
import { folderFiles, openFolder } from "./folder.ts";
import { ggufChoices, hasCheckpoint, partsOf, pickGguf } from "./gguf/names.ts";
import {
  CacheError,
  type Complete,
  environment,
  findToken,
  hubCacheFolder,
  isCommit,
  isSafePath,
  isShardName,
  ModelCache,
  type ModelName,
  parseModelName,
  shardsOf,
} from "./hub_cache.ts";
import { downloadFile, type HubFile } from "./hub_file.ts";
import {
  type Connection,
  get,
  IMPATIENT,
  PATIENT,
  persist,
  readAll,
  type Retry,
  Transient,
} from "./hub_http.ts";

export { isModelName } from "./hub_cache.ts";

const DEFAULT_ENDPOINT = "https://huggingface.co";
const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

/** A repository of ten thousand files takes three million. */
const MOST_LISTING_BYTES = 64 << 20;

/** What a model needs besides its weights, if the repository has it. */
const SMALL_FILES = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "chat_template.json",
  "modules.json",
  "sentence_bert_config.json",
  "config_sentence_transformers.json",
  "1_Pooling/config.json",
];

/** Where a model comes from and goes to. */
export interface DownloadOptions {
  /** Use no network: what is not in the cache is an error. Default: HF_HUB_OFFLINE. */
  readonly offline?: boolean;
  /** Default: HF_TOKEN, or the one that `hf auth login` left. */
  readonly token?: string;
  /** Default: HF_ENDPOINT, or the hub itself. */
  readonly endpoint?: string;
  /** Default: HF_HUB_CACHE, or where Python's huggingface_hub keeps it. */
  readonly cacheDir?: string;
  /** Bytes of all files together. */
  readonly onProgress?: OnProgress;
  /** Stops the download, which a later call resumes. */
  readonly signal?: AbortSignal;
  /**
   * Hears, in words, what is waited for, and that a cached copy is used in place of the hub. Default:
   * console.warn.
   */
  readonly onWarning?: (message: string) => void;
  readonly retry?: Retry;
}

/**
 * Finds a model `org/name[@revision]`, `org/name:Q4_K_M` or `org/name/file.gguf` in the cache or downloads
 * what is missing, and gives its files. Throws an Error in words when there is no such model, when access to
 * it is restricted, when the network or the disk fails.
 *
 * @example
 * ```ts
 * const files = await downloadModel("HuggingFaceTB/SmolLM2-135M-Instruct", {
 *   onProgress: ({ done, total }) => console.log(`${(100 * done / total).toFixed()} %`),
 * });
 * ```
 */
export async function downloadModel(name: string, options: DownloadOptions = {}): Promise<Files> {
  const model = parseModelName(name);
  const cache = new ModelCache(options.cacheDir ?? hubCacheFolder(), model.repository);
  const offline = options.offline ?? isTrue(environment("HF_HUB_OFFLINE"));
  const found = offline
    ? await cachedModel(name, model, cache)
    : await refresh(name, { model, cache, options });
  return await openComplete(found, name);
}

/** The files of what is complete in the cache. */
export async function openComplete({ folder, gguf }: Complete, name: string): Promise<Files> {
  if (gguf === undefined) return { ...await openFolder(folder), label: name };
  const { ggufFiles } = await import("./gguf/files.ts");
  return await ggufFiles(await folderFiles(folder), gguf, name);
}

/** Whom to ask for a model. */
export async function connect(name: string, options: DownloadOptions): Promise<Connection> {
  return {
    ...checkEndpoint(options.endpoint ?? environment("HF_ENDPOINT") ?? DEFAULT_ENDPOINT),
    model: name,
    token: checkToken(options.token ?? await findToken()),
    retry: options.retry ?? PATIENT,
    signal: options.signal,
    onWarning: options.onWarning ?? ((text) => console.warn(text)),
  };
}

async function cachedModel(name: string, model: ModelName, cache: ModelCache): Promise<Complete> {
  const commit = await cache.commit(model.revision);
  const found = commit === undefined ? undefined : await cache.complete(commit, model.gguf);
  if (found && "folder" in found) return found;
  const what = found
    ? `its copy in "${cache.folder}" lacks ${found.missing}`
    : `it is not in "${cache.folder}"`;
  throw new Error(`Cannot load "${name}" offline: ${what}: download it once without --offline`);
}

/** The model of the revision as the hub has it now. */
async function refresh(
  name: string,
  { model, cache, options }: { model: ModelName; cache: ModelCache; options: DownloadOptions },
): Promise<Complete> {
  if (isCommit(model.revision)) {
    const found = await cache.complete(model.revision, model.gguf);
    if ("folder" in found) return found; // a commit never changes
  }
  const { onProgress } = options;
  const connection = await connect(name, options);
  const { onWarning } = connection;
  const known = await cache.commit(model.revision);
  const found = known === undefined ? undefined : await cache.complete(known, model.gguf);
  const copy = found && "folder" in found ? found : undefined;

  let commit: string, listed: readonly HubFile[];
  try {
    // A model that is in the cache works without a network, and at once.
    const patience = copy === undefined || options.retry ? connection : { ...connection, retry: IMPATIENT };
    ({ commit, files: listed } = await listModel(patience, model));
  } catch (error) {
    if (!(error instanceof Error && error.cause instanceof Transient) || copy === undefined) throw error;
    onWarning(`${error.cause.message}: using the copy of "${name}" in the cache`);
    return copy;
  }

  try {
    const fetched = await download(name, { model, cache, commit, listed, connection, onProgress });
    // Last, so that an interrupted download leaves the revision with the copy that is complete.
    await cache.setCommit(model.revision, commit).catch((error) => {
      if (!(error instanceof CacheError)) throw error;
      // The files are there: only a run without a network would look for others.
      onWarning(`${error.message} (the model is used all the same)`);
    });
    return fetched;
  } catch (error) {
    if (!(error instanceof CacheError) || copy === undefined) throw error;
    onWarning(`${error.message}: using the older copy of "${name}" that is there`);
    return copy;
  }
}

/** Fetches what is missing of a commit. */
async function download(
  name: string,
  { model, cache, commit, listed, connection, onProgress }: {
    readonly model: ModelName;
    readonly cache: ModelCache;
    readonly commit: string;
    readonly listed: readonly HubFile[];
    readonly connection: Connection;
    readonly onProgress: OnProgress | undefined;
  },
): Promise<Complete> {
  const byPath = new Map(listed.map((file) => [file.path, file]));
  const pick = (names: readonly string[]) => names.flatMap((path) => byPath.get(path) ?? []);
  const gguf = ggufIn(name, { model, paths: [...byPath.keys()] });
  if (gguf !== undefined) {
    const parts = partsOf(gguf);
    const missing = parts.find((part) => !byPath.has(part));
    if (missing !== undefined) throw unusable(name, listed, missing);
    const total = pick(parts).reduce((sum, file) => sum + file.size, 0);
    let done = 0;
    for (const file of pick(parts)) {
      const onBytes = (count: number) =>
        onProgress?.({ phase: "download", done: done += count, total, unit: "bytes" });
      await downloadFile(connection, file, { cache, commit, onBytes });
    }
    return { folder: cache.snapshot(commit), gguf };
  }
  if (!byPath.has("config.json")) throw unusable(name, listed, "config.json");
  if (!byPath.has(SINGLE) && !byPath.has(INDEX)) throw unusable(name, listed, SINGLE);

  const single = byPath.has(SINGLE);
  const fetchAll = async (files: readonly HubFile[], onBytes: (count: number) => void) => {
    for (const file of files) await downloadFile(connection, file, { cache, commit, onBytes });
  };
  const small = pick([...SMALL_FILES, ...(single ? [] : [INDEX])]);
  let weights = pick([SINGLE]);
  let done = 0;
  if (!single) {
    // The index first: it tells the shards, and so the total. Its bytes are counted below, where it is found
    // cached.
    await fetchAll(pick([INDEX]), () => {});
    const shards = shardsOf(await Deno.readTextFile(`${cache.snapshot(commit)}/${INDEX}`));
    const strange = shards.find((shard) => !isShardName(shard));
    if (strange !== undefined) {
      throw new Error(
        `Cannot download "${name}": ${INDEX} lists ${
          JSON.stringify(strange.slice(0, 200))
        } as weights, which is not the ` +
          `name of a .safetensors file beside it: the repository is damaged or means harm, choose another`,
      );
    }
    const missing = shards.find((shard) => !byPath.has(shard));
    if (missing !== undefined) throw unusable(name, listed, missing);
    weights = pick(shards);
  }
  const all = [...small, ...weights];
  const total = all.reduce((sum, file) => sum + file.size, 0);
  await fetchAll(
    all,
    (count) => onProgress?.({ phase: "download", done: done += count, total, unit: "bytes" }),
  );
  return { folder: cache.snapshot(commit), gguf };
}

/**
 * The GGUF file of a repository that a name means; undefined where it means a checkpoint in a folder's form.
 * An Error says what there is when the choice leaves none, or more than one.
 */
export function ggufIn(
  name: string,
  { model: { repository, gguf: choice }, paths }: {
    readonly model: ModelName;
    readonly paths: readonly string[];
  },
): string | undefined {
  const found = pickGguf(paths, choice);
  if (typeof found === "string") return found;
  const wanted = choice.file ?? choice.quantization;
  if (wanted === undefined && (found.length === 0 || hasCheckpoint(paths))) return undefined;
  const what = wanted === undefined
    ? `it has ${found.length} GGUF models`
    : found.length === 0
    ? "it has no GGUF models"
    : `it has no one GGUF model "${wanted}"`;
  const instead = found.length === 0
    ? `take "${repository}"`
    : `choose one: ${ggufChoices(repository, found)}`;
  throw new Error(`Cannot download "${name}": ${what}: ${instead}`);
}

/** The commit of a revision and its files. */
export async function listModel(
  connection: Connection,
  { repository, revision }: ModelName,
): Promise<{ commit: string; files: readonly HubFile[] }> {
  const path = `/api/models/${repository}/revision/${encodeURIComponent(revision)}?blobs=true`;
  const answer = await persist(
    connection,
    () =>
      get(connection, { path }, async (_, pieces) => {
        const what =
          `Cannot download "${connection.model}": the listing of ${connection.endpoint} is too long`;
        return new TextDecoder().decode(await readAll(pieces, MOST_LISTING_BYTES, what));
      }),
  );
  try {
    const { sha, siblings } = JSON.parse(answer) as { sha: unknown; siblings: readonly Sibling[] };
    if (typeof sha !== "string" || !isCommit(sha)) throw new TypeError(`sha is ${JSON.stringify(sha)}`);
    if (!Array.isArray(siblings)) throw new TypeError("there is no list of files");
    return { commit: sha, files: siblings.map(hubFile).filter(({ path }) => isSafePath(path)) };
  } catch (error) {
    throw new Error(
      `Cannot download "${connection.model}": ${connection.endpoint} does not answer as the hub does ` +
        `(${(error as Error).message.slice(0, 200)}): check HF_ENDPOINT`,
      { cause: error },
    );
  }
}

interface Sibling {
  readonly rfilename: string;
  readonly size?: number;
  readonly blobId?: string;
  readonly lfs?: { readonly sha256: string; readonly size: number } | null;
}

function hubFile({ rfilename: path, size, blobId, lfs }: Sibling): HubFile {
  const file = { path, size: lfs?.size ?? size, id: lfs?.sha256 ?? blobId };
  const valid = typeof path === "string" && Number.isSafeInteger(file.size) && file.size! >= 0 &&
    /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(file.id ?? "") && !/^[/\\]/.test(path) &&
    !path.split(/[/\\]/).includes("..");
  if (!valid) throw new TypeError(`a file is listed as ${JSON.stringify(file)}`);
  return file as HubFile;
}

function unusable(name: string, listed: readonly HubFile[], missing: string): Error {
  const others = listed.map(({ path }) => path).filter((path) =>
    /\.(bin|pt|pth|gguf|onnx|h5|msgpack)$/.test(path)
  );
  const held = others.length > 0 ? `, only ${others.slice(0, 3).join(", ")}` : "";
  return new Error(
    `Cannot download "${name}": the repository has no ${missing}${held}: choose a repository with safetensors weights, ` +
      `or convert it with transformers: save_pretrained(…, safe_serialization=True)`,
  );
}

function checkToken(token: string | undefined): string | undefined {
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token)) {
    throw new Error(
      "Cannot use the token: it holds spaces or other characters that no token has: check HF_TOKEN",
    );
  }
  return token;
}

/** An address and what it says before the "@", which no message may show. */
function checkEndpoint(endpoint: string): Pick<Connection, "endpoint" | "credentials"> {
  const url = URL.parse(endpoint);
  if (!url || !/^https?:$/.test(url.protocol)) {
    const shown = endpoint.replace(/\/\/.*@/, "//…@");
    throw new Error(`Cannot use the endpoint "${shown}": it is no http address: check HF_ENDPOINT`);
  }
  const credentials = url.username === "" ? undefined : `${url.username}:${url.password}`;
  const plain = credentials === undefined ? endpoint : `${url.origin}${url.pathname}`;
  return { endpoint: plain.replace(/\/+$/, ""), credentials };
}

/** A switch of the environment. */
export function isTrue(value: string | undefined): boolean {
  return ["1", "true", "yes", "on"].includes(value?.toLowerCase() ?? "");
}
