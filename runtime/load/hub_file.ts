/**
 * One file from the hub into the cache: resumed where it broke off, checked, then given its name in one move.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { fileSize, inCache, type ModelCache, parseModelName } from "./hub_cache.ts";
import { type Connection, get, persist, sleep, Transient } from "./hub_http.ts";

/** A file of a model at a commit. */
export interface HubFile {
  /** Within the repository. */
  readonly path: string;
  readonly size: number;
  /** SHA-256 of the contents (64 digits), or git's SHA-1 of "blob <size>\0" and the contents (40). */
  readonly id: string;
}

/** How often to look whether another process has finished. */
const LOCK_POLL_MS = 100;
/** After so long a wait a person wants to know what for. */
const LOCK_SILENCE_MS = 3000;

/** Bytes read at once to hash what an earlier run left. */
const HASH_PIECE_BYTES = 1 << 20;

/** Attempts at a file from a server that always begins at its first byte. */
const MOST_RESTARTS = 3;

/**
 * Downloads a file unless the cache has it, and links it into the snapshot. `onBytes` hears of bytes that are
 * there, and with a negative number of bytes that have to be fetched again.
 */
export async function downloadFile(
  connection: Connection,
  file: HubFile,
  to: { readonly cache: ModelCache; readonly commit: string; readonly onBytes: (count: number) => void },
): Promise<void> {
  const { cache, commit, onBytes } = to;
  const target = `${cache.snapshot(commit)}/${file.path}`;
  const blob = cache.blob(file.id);
  if (await fileSize(target) === file.size) return onBytes(file.size);
  const blobs = cache.blob("").slice(0, -1);
  await inCache(blobs, () => Deno.mkdir(blobs, { recursive: true }));
  using _lock = await takeLock(connection, file, cache.lock(file.id));
  if (await fileSize(blob) !== file.size) await fetchBlob(connection, file, { ...to, blob });
  else onBytes(file.size);
  await inCache(target, () => link(blob, target, file));
}

/** Two processes that want the same file: the second waits, then finds it. */
async function takeLock(connection: Connection, { path: name }: HubFile, path: string): Promise<Disposable> {
  const lock = await inCache(path, async () => {
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    return await Deno.open(path, { create: true, write: true });
  });
  try {
    for (let waited = 0; !await lock.tryLock(true); waited += LOCK_POLL_MS) {
      if (waited === LOCK_SILENCE_MS) {
        connection.onWarning(
          `another process downloads ${name} of "${connection.model}": waiting for it (if none runs, remove "${path}")`,
        );
      }
      await sleep(LOCK_POLL_MS, connection.signal);
    }
  } catch (error) {
    lock.close();
    throw error;
  }
  return { [Symbol.dispose]: () => lock.close() }; // which unlocks it
}

async function fetchBlob(
  connection: Connection,
  file: HubFile,
  to: { readonly blob: string; readonly commit: string; readonly onBytes: (count: number) => void },
): Promise<void> {
  const incomplete = `${to.blob}.incomplete`;
  const fail = (why: string) => new Error(`Cannot download "${connection.model}": ${why}`);
  let damaged = 0, restarts = 0, counted = 0, furthest = 0;
  // What the last attempt counted may have to come again.
  const count = (total: number) => {
    to.onBytes(total - counted);
    counted = total;
  };
  await persist(connection, async (progressed) => {
    const output = await inCache(incomplete, () => openForAppending(incomplete));
    try {
      let { size: have } = await output.stat();
      if (have > file.size) {
        await output.truncate();
        have = 0;
      }
      let hash = newHash(file);
      if (have > 0) await hashStart(incomplete, have, hash);
      count(have);
      furthest = Math.max(furthest, have);
      if (have < file.size || file.size === 0) {
        const path = `/${parseModelName(connection.model).repository}/resolve/${to.commit}/${
          encodePath(file.path)
        }`;
        const range = have > 0 ? `bytes=${have}-` : undefined;
        await get(connection, { path, range }, async (response, pieces) => {
          const resumed = response.status === 206 &&
            response.headers.get("content-range")?.startsWith(`bytes ${have}-`);
          if (have > 0 && !resumed) {
            // The server does not continue: from the start.
            await output.truncate();
            have = 0;
            hash = newHash(file);
            count(0);
            if (++restarts >= MOST_RESTARTS) {
              await response.body?.cancel();
              throw fail(
                `${connection.endpoint} does not go on where ${file.path} broke off, and breaks off each time: use a ` +
                  `steadier network or another HF_ENDPOINT, or put the file into a folder by hand`,
              );
            }
            if (response.status !== 200) {
              await response.body?.cancel();
              throw new Transient(`${connection.endpoint} does not continue "${file.path}"`);
            }
          }
          const total = totalOf(response);
          if (total !== undefined && total !== file.size) {
            await response.body?.cancel();
            throw fail(
              `${file.path} has ${total} bytes at ${connection.endpoint}, which lists ${file.size}: try again later, or ` +
                `another HF_ENDPOINT`,
            );
          }
          for await (const piece of pieces) {
            have += piece.length;
            if (have > file.size) break;
            await writeAll(output, piece);
            hash.update(piece);
            count(have);
            // Bytes that came before, or a few more, are no progress: a line that is cut each time would
            // never be given up.
            if (have >= furthest + Math.min(file.size / 64, 65536)) {
              furthest = have;
              progressed();
            }
          }
        });
      }
      if (have < file.size) throw new Transient(`the connection to ${connection.endpoint} broke off`);
      if (have > file.size || hash.digest("hex") !== file.id) {
        await output.truncate();
        count(0);
        // Once may be an old piece of an interrupted run, twice is the server's.
        if (++damaged > 1) {
          throw fail(
            `the contents of ${file.path} do not have the checksum ${file.id}, twice: try again later, or another ` +
              `HF_ENDPOINT`,
          );
        }
        throw new Transient(`the contents of ${file.path} were damaged on the way`);
      }
      await output.sync();
    } catch (error) {
      throw diskFull(error, { connection, path: incomplete, size: file.size }) ?? error;
    } finally {
      output.close();
    }
  });
  await inCache(to.blob, () => Deno.rename(incomplete, to.blob));
}

/** Bytes of the whole file, as an answer tells them. */
function totalOf({ status, headers }: Response): number | undefined {
  const told = status === 206
    ? /\/(\d+)$/.exec(headers.get("content-range") ?? "")?.[1]
    : status === 416
    ? /^bytes \*\/(\d+)$/.exec(headers.get("content-range") ?? "")?.[1]
    : headers.get("content-length");
  return told === null || told === undefined ? undefined : Number(told);
}

async function openForAppending(path: string): Promise<Deno.FsFile> {
  return await Deno.open(path, { create: true, append: true });
}

/** An Error in words when the reason is a full disk. */
function diskFull(
  error: unknown,
  at: { readonly connection: Connection; readonly path: string; readonly size: number },
): Error | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  if (code !== "ENOSPC" && code !== "EDQUOT") return undefined;
  return new Error(
    `Cannot download "${at.connection.model}": the disk is full, "${at.path}" needs ${at.size} bytes: free some ` +
      `space and run the same command again (what has arrived is kept), or set HF_HUB_CACHE to a larger disk`,
    { cause: error },
  );
}

async function writeAll(output: Deno.FsFile, piece: Uint8Array): Promise<void> {
  for (let at = 0; at < piece.length;) at += await output.write(piece.subarray(at));
}

function newHash({ id, size }: HubFile): Hash {
  return id.length === 64 ? createHash("sha256") : createHash("sha1").update(`blob ${size}\0`);
}

async function hashStart(path: string, length: number, hash: Hash): Promise<void> {
  using input = await Deno.open(path, { read: true });
  const buffer = new Uint8Array(HASH_PIECE_BYTES);
  for (let done = 0; done < length;) {
    const count = await input.read(buffer.subarray(0, Math.min(buffer.length, length - done)));
    if (count === null) {
      throw new Error(`Cannot read "${path}": it became shorter: is another program changing it?`);
    }
    hash.update(buffer.subarray(0, count));
    done += count;
  }
}

/** A relative link, as Python makes it; where links are not allowed (Windows) the file itself moves. */
async function link(blob: string, target: string, file: HubFile): Promise<void> {
  const folder = target.slice(0, target.lastIndexOf("/"));
  await Deno.mkdir(folder, { recursive: true });
  const up = "../".repeat(file.path.split("/").length + 1);
  const part = `${folder}/.${crypto.randomUUID().slice(0, 8)}.link`;
  try {
    await Deno.symlink(`${up}blobs/${file.id}`, part, { type: "file" });
  } catch (error) {
    if (Deno.build.os !== "windows") throw error;
    await Deno.rename(blob, target);
    return;
  }
  try {
    await Deno.rename(part, target);
  } catch (error) {
    await Deno.remove(part).catch(() => {});
    throw error;
  }
}

/** A path of a repository as it stands in an address. */
export function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}
