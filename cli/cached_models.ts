/**
 * What the hub's cache holds.
 *
 * @module
 */
import { hubCacheFolder } from "../runtime/load/hub_cache.ts";

/** A model in the cache. */
export interface CachedModel {
  /** org/name */
  readonly name: string;
  /** Of all revisions together. */
  readonly bytes: number;
  readonly folder: string;
}

/** The models in the cache by name; none where there is no cache. */
export async function cachedModels(): Promise<CachedModel[]> {
  const cache = hubCacheFolder(), models: CachedModel[] = [];
  for (const { name, isDirectory } of await entries(cache)) {
    const [, organization, model] = /^models--(.+?)--(.+)$/.exec(name) ?? [];
    if (!isDirectory || organization === undefined) continue;
    const folder = `${cache}/${name}`;
    models.push({ name: `${organization}/${model}`, bytes: await bytesIn(folder), folder });
  }
  return models.sort((a, b) => a.name < b.name ? -1 : 1);
}

/** Bytes of the files below a folder; links to them, which snapshots hold, do not count again. */
async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const { name, isDirectory, isFile } of await entries(folder)) {
    if (isDirectory) bytes += await bytesIn(`${folder}/${name}`);
    else if (isFile) bytes += (await Deno.stat(`${folder}/${name}`)).size;
  }
  return bytes;
}

async function entries(folder: string): Promise<Deno.DirEntry[]> {
  try {
    return await Array.fromAsync(Deno.readDir(folder));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw new Error(`Cannot list "${folder}": ${(error as Error).message}`, { cause: error });
  }
}
