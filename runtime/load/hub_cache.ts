/**
 * The cache folder that Python's huggingface_hub keeps, so that files fetched by either are found by both:
 *
 * ```text
 * models--org--name/refs/main                 the commit that a revision meant when it was last looked up
 * models--org--name/blobs/<sha256 or sha1>     contents; `.incomplete` while they arrive
 * models--org--name/snapshots/<commit>/<file>  links to blobs
 * .locks/models--org--name/<blob>.lock         locked (flock) by the process that downloads it
 * ```
 *
 * @module
 */

import { inWords, type Output, writeAtomically } from "./atomic_file.ts";
import { type GgufChoice, partsOf, pickGguf } from "./gguf/names.ts";

/** A model on the hub. */
export interface ModelName {
  /** org/name */
  readonly repository: string;
  /** Branch, tag or commit. */
  readonly revision: string;
  /** Which GGUF file of the repository, where the name says one. */
  readonly gguf: GgufChoice;
}

/** org/name · /path/file.gguf · @revision · :quantization */
const NAME =
  /^([A-Za-z0-9][\w.-]*\/[A-Za-z0-9_][\w.-]*?)(?:\/([\w.-][\w./-]*\.gguf))?(?:@([\w][\w./-]*))?(?::([\w.-]+))?$/;

/** Whether a text has the form org/name, with a GGUF file, a revision or a quantization. */
export function isModelName(text: string): boolean {
  const [, repository, file, , quantization] = NAME.exec(text) ?? [];
  if (repository === undefined || text.includes("..")) return false;
  return !/\.gguf$/i.test(repository) && (file === undefined || quantization === undefined);
}

/** Takes org/name[/file.gguf][@revision][:quantization] apart; an Error when it is something else. */
export function parseModelName(text: string): ModelName {
  const [, repository, file, revision = "main", quantization] = isModelName(text) ? NAME.exec(text)! : [];
  if (repository === undefined) {
    throw new Error(
      `Cannot find the model "${text}": it is neither a folder, nor a GGUF file, nor a name like org/name, ` +
        `org/name@revision, org/name:Q4_K_M or org/name/file.gguf`,
    );
  }
  return { repository, revision, gguf: { file, quantization } };
}

/** What a snapshot holds: everything to load a model, in a folder's form or in a GGUF file of it. */
export interface Complete {
  readonly folder: string;
  /** Within the folder; undefined where the folder is the model. */
  readonly gguf: string | undefined;
}

/** An environment variable; undefined when it is unset, empty, or may not be read. */
export function environment(name: string): string | undefined {
  try {
    return Deno.env.get(name)?.trim() || undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return undefined;
    throw error;
  }
}

/** A folder or file that an environment variable names, as Python's expanduser and expandvars read it. */
function environmentPath(name: string): string | undefined {
  const path = environment(name);
  return path === undefined
    ? undefined
    : expandPath(path, { variable: environment, windows: Deno.build.os === "windows" });
}

/** `~/x`, `$HOME/x`, `${HOME}/x`, and `%USERPROFILE%\\x` on Windows. What is not known stays as it is. */
export function expandPath(
  path: string,
  { variable, windows }: {
    readonly variable: (name: string) => string | undefined;
    readonly windows: boolean;
  },
): string {
  const home = windows ? variable("USERPROFILE") ?? variable("HOME") : variable("HOME");
  const start = /^~(?=$|\/|\\)/;
  const absolute = home === undefined ? path : path.replace(start, () => home.replace(/[/\\]$/, ""));
  const names = windows ? /\$(\w+)|\$\{([^}]*)\}|%([^%]+)%/g : /\$(\w+)|\$\{([^}]*)\}/g;
  return absolute.replace(names, (whole, ...groups) => {
    const name = groups.slice(0, windows ? 3 : 2).find((group) => group !== undefined);
    return name === undefined ? whole : variable(name) ?? whole;
  });
}

/** HF_HOME, or where huggingface_hub has it by default. */
export function huggingFaceHome(): string {
  const given = environmentPath("HF_HOME");
  if (given) return given;
  const xdg = environmentPath("XDG_CACHE_HOME");
  if (xdg) return `${xdg}/huggingface`;
  const home = environment("HOME") ?? environment("USERPROFILE");
  if (!home) {
    throw new Error(
      "Cannot find the cache folder for models: HOME is not set, or Deno may not read it: set HF_HOME to a folder, and " +
        "give --allow-env",
    );
  }
  return `${home}/.cache/huggingface`;
}

/** HF_HUB_CACHE, or `hub` in HF_HOME. */
export function hubCacheFolder(): string {
  return environmentPath("HF_HUB_CACHE") ?? environmentPath("HUGGINGFACE_HUB_CACHE") ??
    `${huggingFaceHome()}/hub`;
}

/** HF_TOKEN, or the one that `hf auth login` left. */
export async function findToken(): Promise<string | undefined> {
  const given = environment("HF_TOKEN") ?? environment("HUGGING_FACE_HUB_TOKEN");
  if (given) return given;
  try {
    const path = environmentPath("HF_TOKEN_PATH") ?? `${huggingFaceHome()}/token`;
    return (await Deno.readTextFile(path)).trim() || undefined;
  } catch {
    return undefined; // most people have none, and need none
  }
}

/** A commit is named by 40 hexadecimal digits and never changes. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/** The part of a cache that belongs to one model. */
export class ModelCache {
  readonly folder: string;
  readonly #locks: string;

  constructor(cacheDir: string, repository: string) {
    const name = `models--${repository.replaceAll("/", "--")}`;
    this.folder = `${cacheDir}/${name}`;
    this.#locks = `${cacheDir}/.locks/${name}`;
  }

  snapshot(commit: string): string {
    return `${this.folder}/snapshots/${commit}`;
  }

  blob(id: string): string {
    return `${this.folder}/blobs/${id}`;
  }

  lock(id: string): string {
    return `${this.#locks}/${id}.lock`;
  }

  /** The commit that a revision meant when it was last looked up. */
  async commit(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision;
    const text = await readText(`${this.folder}/refs/${revision}`);
    return text !== undefined && isCommit(text.trim()) ? text.trim() : undefined;
  }

  /** Remembers what a revision means now. A cache that may only be read is as good without. */
  async setCommit(revision: string, commit: string): Promise<void> {
    if (isCommit(revision) || await this.commit(revision).catch(() => undefined) === commit) return;
    const path = `${this.folder}/refs/${revision}`;
    await inCache(path, async () => {
      await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
      const write = (output: Output) => output.write(new TextEncoder().encode(commit));
      // Whatever lies in refs is a revision to Python.
      await writeAtomically(path, write, { parts: this.folder });
    });
  }

  /**
   * The snapshot's folder when everything to load a model is in it, else what is missing. Revisions that were
   * fetched in part, by a tool that wanted only a tokenizer, say, are not complete.
   */
  async complete(commit: string, choice: GgufChoice): Promise<Complete | { readonly missing: string }> {
    const folder = this.snapshot(commit), gguf = undefined;
    const has = async (name: string) => await fileSize(`${folder}/${name}`) !== undefined;
    const packed = pickGguf(await filesWithin(folder), choice);
    if (typeof packed === "string") {
      for (const part of partsOf(packed)) if (!await has(part)) return { missing: part };
      return { folder, gguf: packed };
    }
    if (choice.file ?? choice.quantization) {
      return { missing: choice.file ?? `a ${choice.quantization} file` };
    }
    for (const name of ["config.json", "tokenizer.json"]) if (!await has(name)) return { missing: name };
    if (await has("model.safetensors")) return { folder, gguf };
    const index = await readText(`${folder}/model.safetensors.index.json`);
    if (index === undefined) return { missing: "model.safetensors" };
    for (const shard of shardsOf(index)) {
      if (!isShardName(shard) || !await has(shard)) return { missing: shard };
    }
    return { folder, gguf };
  }
}

/** The shards that an index lists; none when it is damaged, which loading then says in words. */
export function shardsOf(index: string): string[] {
  try {
    const { weight_map: map } = JSON.parse(index) as { weight_map?: Record<string, unknown> };
    const names = new Set(Object.values(map ?? {}));
    return [...names].filter((name): name is string => typeof name === "string").sort();
  } catch {
    return [];
  }
}

/** Whether an index may name it as a shard: a file beside it. */
export function isShardName(name: string): boolean {
  return name.endsWith(".safetensors") && !name.includes("/") && isSafePath(name);
}

/**
 * Whether a path of a repository stays within the folder that it is put into, on every system: no "..", no
 * root, no backslash, no drive or stream ("C:"), no device of Windows, no control character.
 */
export function isSafePath(path: string): boolean {
  // deno-lint-ignore no-control-regex -- these are what it looks for
  if (path.length > 1000 || /[\x00-\x1f\x7f\\:*?"<>|]/.test(path)) return false;
  return path.split("/").every((part) =>
    part !== "" && part !== "." && part !== ".." && !/[. ]$/.test(part) &&
    !/^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i.test(part)
  );
}

/** The system refuses to change the cache: what is in it may still be used. */
export class CacheError extends Error {}

/** Runs what changes the cache; an Error in words when the system refuses it. */
export async function inCache<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const words = inWords(error);
    if (!words) throw error;
    throw new CacheError(
      `Cannot write "${path}" in the cache of models: ${words.message}, or set HF_HUB_CACHE to a folder of your own`,
      { cause: error },
    );
  }
}

/** Size of a file, through links; undefined when there is none. */
export async function fileSize(path: string): Promise<number | undefined> {
  try {
    const { isFile, size } = await Deno.stat(path);
    return isFile ? size : undefined;
  } catch (error) {
    return absent(path, error);
  }
}

/** Paths of the files in a folder and those below it; none where there is no folder. */
async function filesWithin(folder: string, below = ""): Promise<string[]> {
  const paths: string[] = [];
  try {
    for await (const { name, isDirectory } of Deno.readDir(`${folder}/${below}`)) {
      if (isDirectory) paths.push(...await filesWithin(folder, `${below}${name}/`));
      else paths.push(below + name);
    }
  } catch (error) {
    return absent(folder, error) ?? [];
  }
  return paths.sort();
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    return absent(path, error);
  }
}

/** Undefined where there is no file; an Error in words where it may not be looked at. */
function absent(path: string, error: unknown): undefined {
  const { code } = error as { code?: unknown };
  if (["ENOENT", "ENOTDIR", "EISDIR", "ELOOP"].includes(String(code))) return undefined;
  const why = error instanceof Deno.errors.PermissionDenied ? "no permission" : (error as Error).message;
  throw new Error(
    `Cannot read "${path}" in the cache of models: ${why}: set HF_HUB_CACHE to a folder of your own`,
    { cause: error },
  );
}
