/**
 * Files that are written whole or not at all: under another name, synced, renamed.
 *
 * The other name ends in ".lakh-part", and its writer holds a lock on it. So a part without a lock is
 * what a killed process has left, and the next write to its folder removes it.
 *
 * @module
 */

const SUFFIX = ".lakh-part";

/** Parts that this process writes now. */
const unfinished = new Set<string>();
let watching = false;

/** A file that grows. */
export interface Output {
  /** Appends all of the bytes. */
  write(bytes: Uint8Array): Promise<void>;
}

/**
 * Writes a file in place of an older one, which stays as it is until the new one is complete and on the disk.
 * Throws what `write` throws, or an Error that says in words why the file cannot be written. `parts`: another
 * folder on the same disk for what is not complete.
 *
 * @example
 * ```ts ignore
 * await writeAtomically("talk.json", (output) => output.write(new TextEncoder().encode("{}")));
 * ```
 */
export async function writeAtomically(
  path: string,
  write: (output: Output) => Promise<void>,
  options: { readonly parts?: string } = {},
): Promise<void> {
  const target = await finalPath(path);
  await checkName(target);
  const folder = options.parts ?? folderOf(target);
  await removeAbandoned(folder);
  const { part, file } = await openPart(folder);
  unfinished.add(part);
  try {
    await write({
      async write(bytes) {
        for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
      },
    });
    await file.sync();
    await keepMode(target, part);
    await Deno.rename(part, target);
  } catch (error) {
    await Deno.remove(part).catch(() => {});
    throw inWords(error) ?? error;
  } finally {
    unfinished.delete(part);
    file.close();
  }
}

/**
 * Throws an Error in words unless a file can be written there. A file that is there stays as it is. `bytes`:
 * how large it will be; a place without room for it is refused where the system tells how much there is.
 */
export async function checkWritable(path: string, bytes = 0): Promise<void> {
  const target = await finalPath(path);
  await checkName(target);
  let part: string | undefined;
  try {
    const opened = await openPart(folderOf(target));
    part = opened.part;
    opened.file.close();
    const free = bytes > 0 ? await freeBytes(folderOf(target)) : undefined;
    if (free !== undefined && free < bytes) {
      throw new PlaceError(
        `it will take about ${megabytes(bytes)}, the disk has ${
          megabytes(free)
        } left: free some space, or choose ` +
          "another place",
      );
    }
  } catch (error) {
    throw inWords(error) ?? error;
  } finally {
    if (part !== undefined) await Deno.remove(part).catch(() => {});
  }
}

/** No file can be written there. */
class PlaceError extends Error {}

/** Why the system refuses a file, and what to do; undefined for errors that are not the system's. */
export function inWords(error: unknown): Error | undefined {
  if (error instanceof PlaceError) return error;
  const { code } = (error ?? {}) as { code?: unknown };
  const words = typeof code === "string" && Object.hasOwn(WORDS, code) ? WORDS[code] : undefined;
  if (words !== undefined) return new Error(words, { cause: error });
  if (error instanceof Deno.errors.NotCapable) {
    return new Error("Deno was not allowed to: give --allow-write for this place", { cause: error });
  }
  return undefined;
}

const FULL = "the disk is full: free some space, or choose another place";
const WORDS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such folder: make it, or check the path",
  ENOTDIR: "a part of its path is a file, not a folder: check the path",
  EISDIR: "it is a folder: add a file's name",
  EACCES: "no permission to write there: choose another place",
  EPERM: "no permission to write there: choose another place",
  EROFS: "the file system is read-only: choose another place",
  ENOSPC: FULL,
  EDQUOT: FULL,
  EFBIG: "the file system, or a limit of the process, allows no file so large: choose another place",
  EIO: "the disk fails (input/output error): check it, or choose another place",
  ENAMETOOLONG: "its name is too long: choose a shorter one",
  ELOOP: "its links lead in a circle: choose another place",
  EEXIST: "something else has its name: choose another",
  EXDEV: "it lies on two disks: choose another place",
};

/** A link's target, so that the file behind it is written and the link stays. Refuses what is no file. */
async function finalPath(path: string): Promise<string> {
  if (path === "" || /[/\\]$/.test(path)) throw new PlaceError("it is a folder: add a file's name");
  let target: string, info: Deno.FileInfo;
  try {
    target = await Deno.realPath(path);
    info = await Deno.stat(target);
  } catch {
    return path; // a new file, or what opening it refuses
  }
  const { isFile, isDirectory } = info;
  if (isDirectory) throw new PlaceError("it is a folder: add a file's name");
  if (!isFile) throw new PlaceError("it is a device or a pipe: give the name of a file");
  return target;
}

/** A part has a name of its own, so the target's is tried before. */
async function checkName(target: string): Promise<void> {
  try {
    await Deno.lstat(target);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotCapable)) {
      throw inWords(error) ?? error;
    }
  }
}

/** Creates a part and locks it. */
async function openPart(folder: string): Promise<{ readonly part: string; readonly file: Deno.FsFile }> {
  removePartsAtExit();
  while (true) {
    const part = `${folder}/${crypto.randomUUID().slice(0, 8)}${SUFFIX}`;
    let file: Deno.FsFile;
    try {
      file = await Deno.open(part, { write: true, createNew: true });
    } catch (error) {
      throw inWords(error) ?? error;
    }
    await file.tryLock(true).catch(() => {}); // some network file systems have no locks
    // Between the two calls another process may have taken it for abandoned.
    if (await exists(part)) return { part, file };
    file.close();
  }
}

/** Removes parts of earlier processes. What cannot be looked at stays. */
async function removeAbandoned(folder: string): Promise<void> {
  try {
    for await (const { name } of Deno.readDir(folder)) {
      if (!name.endsWith(SUFFIX)) continue;
      const part = `${folder}/${name}`;
      try {
        using file = await Deno.open(part, { write: true });
        if (await file.tryLock(true)) await Deno.remove(part);
      } catch {
        // Another process is writing it, or has just removed it.
      }
    }
  } catch {
    // Permission to write to a folder does not imply permission to list it.
  }
}

/** A process that ends in order takes its parts along. */
function removePartsAtExit(): void {
  if (watching) return;
  watching = true;
  globalThis.addEventListener("unload", () => {
    for (const part of unfinished) {
      try {
        Deno.removeSync(part);
      } catch {
        // It is gone, or stays for the next write to remove.
      }
    }
  });
}

/** A file that others may not read does not become readable by being written again. */
async function keepMode(target: string, part: string): Promise<void> {
  if (Deno.build.os === "windows") return;
  const { mode } = await Deno.stat(target).catch(() => ({ mode: null }));
  if (mode !== null) await Deno.chmod(part, mode & 0o777).catch(() => {});
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch {
    return false;
  }
}

/** Bytes that are left on the disk of a folder; undefined where the system does not tell. */
async function freeBytes(folder: string): Promise<number | undefined> {
  const permission = { name: "sys", kind: "statfs" } as unknown as Deno.PermissionDescriptor;
  if ((await Deno.permissions.query(permission)).state !== "granted") return undefined; // asking would be a prompt
  try {
    const { statfs } = await import("node:fs/promises");
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch {
    return undefined;
  }
}

function folderOf(path: string): string {
  const end = Math.max(path.lastIndexOf("/"), Deno.build.os === "windows" ? path.lastIndexOf("\\") : -1);
  return end < 0 ? "." : path.slice(0, end) || "/";
}

function megabytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.ceil(bytes / 1e6)} MB`;
}
