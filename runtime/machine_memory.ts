/**
 * How much memory the machine can still give: the least of what the system has left and what the control
 * groups allow that the process is in (containers, systemd, batch systems). Beyond it the system kills the
 * process instead of refusing.
 *
 * @module
 */

import type { WeightDType } from "./device/device.ts";

/** For the program's own heap and the buffers that weights stream through. */
const RESERVE_BYTES = 160 << 20;
/** Never less: a machine that tells nonsense should still run a small model. */
const LEAST_BYTES = 256 << 20;

/** What {@linkcode memoryLeft} asks of the system. */
export interface SystemMemory {
  /** Bytes that processes can get without swapping; undefined where the system does not tell. */
  readonly available: number | undefined;
  /** A small text file of the system; undefined where there is none, or it may not be read. */
  read(path: string): string | undefined;
}

/** Bytes that a device may take, or undefined where nothing is known (other runtimes, permissions). */
export function memoryLeft(system: SystemMemory = thisSystem()): number | undefined {
  const limits = [system.available, ...controlGroups(system)].filter((bytes) => bytes !== undefined);
  if (limits.length === 0) return undefined;
  return Math.max(Math.min(...limits) - RESERVE_BYTES, LEAST_BYTES);
}

/**
 * Throws a RangeError that says which format of the weights fits into `most` bytes, when `wanted` does not.
 */
export function checkRoom(
  { name, weightBytes }: {
    readonly name: string;
    readonly weightBytes: Readonly<Record<WeightDType, number>>;
  },
  wanted: WeightDType,
  most: number,
): void {
  if (weightBytes[wanted] <= most) return;
  const shown = (bytes: number) =>
    bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.ceil(bytes / 1e6)} MB`;
  const fitting = (["f16", "q8", "q4"] as const).find((format) => weightBytes[format] <= most);
  throw new RangeError(
    `Cannot open "${name}": its weights take ${
      shown(weightBytes[wanted])
    } as ${wanted}, there is memory for ` +
      `${shown(most)}: ` +
      (fitting === undefined
        ? `even q4 takes ${shown(weightBytes.q4)}: take a smaller model, or a machine with more memory`
        : `open it with weights ${fitting} (${shown(weightBytes[fitting])})`),
  );
}

/** What each group on the way to the root leaves; nothing where there are no groups. */
function* controlGroups({ read }: SystemMemory): Generator<number | undefined> {
  for (const line of (read("/proc/self/cgroup") ?? "").split("\n")) {
    // "0::/path" in version 2, "4:memory,other:/path" in version 1
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    if (controllers === "") {
      for (const folder of foldersTo("/sys/fs/cgroup", path)) {
        yield left(read, folder, { limit: "memory.max", usage: "memory.current", cache: "inactive_file" });
      }
    } else if (controllers!.split(",").includes("memory")) {
      const names = {
        limit: "memory.limit_in_bytes",
        usage: "memory.usage_in_bytes",
        cache: "total_inactive_file",
      };
      for (const folder of foldersTo("/sys/fs/cgroup/memory", path)) yield left(read, folder, names);
    }
  }
}

/** The folders of a group and of those above it. In a container the group itself may be the root. */
function foldersTo(root: string, path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "" && part !== "..");
  return [root, ...parts.map((_, i) => `${root}/${parts.slice(0, i + 1).join("/")}`)];
}

/** Limit less usage; files that the system may forget do not count as used. */
function left(
  read: SystemMemory["read"],
  folder: string,
  names: { readonly limit: string; readonly usage: string; readonly cache: string },
): number | undefined {
  const limit = numberOf(read(`${folder}/${names.limit}`));
  const usage = numberOf(read(`${folder}/${names.usage}`));
  // Version 1 says "no limit" with a number that no machine has.
  if (limit === undefined || usage === undefined || limit > 2 ** 52) return undefined;
  const statistics = read(`${folder}/memory.stat`) ?? "";
  const cache = numberOf(new RegExp(`^${names.cache} (\\d+)$`, "m").exec(statistics)?.[1]) ?? 0;
  return Math.max(0, limit - usage + cache);
}

function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+\s*$/.test(text) ? Number(text) : undefined;
}

/** Never asks for a permission: an unknown limit counts as none. */
function thisSystem(): SystemMemory {
  const deno = globalThis.Deno as typeof Deno | undefined;
  const may = deno?.permissions.querySync({ name: "sys", kind: "systemMemoryInfo" }).state === "granted";
  return {
    available: may ? deno.systemMemoryInfo().available : undefined,
    read(path) {
      try {
        if (deno?.permissions.querySync({ name: "read", path }).state !== "granted") return undefined;
        return deno.readTextFileSync(path);
      } catch {
        return undefined;
      }
    },
  };
}
