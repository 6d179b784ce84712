/**
 * Imports point one way: cli, serve → runtime → write, judge → load, text → models → device.
 *
 * A folder may import itself and what its row names. Files of runtime/ itself put the parts together, but
 * `progress.ts` and `deps.ts`, which everything may use; models and device, which run in browsers, use no
 * packages. What a device is made of stays inside: others open one through `device/open_device.ts`.
 */
import { projectPath, resolved } from "./project_path.ts";

const BELOW_WRITE = ["text", "load", "models", "device", "shared"];

/** Folders that a folder may import. What is not here (tests, tools, bench) may import everything. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  device: ["shaders", "wasm"],
  models: ["device"],
  load: ["models", "device", "shared"],
  text: ["load", "shared", "wasm"],
  write: BELOW_WRITE,
  judge: ["write", ...BELOW_WRITE],
  runtime: ["write", "judge", ...BELOW_WRITE, "storyteller"],
  serve: ["runtime", "write", "judge", ...BELOW_WRITE, "wasm"],
  cli: ["serve", "runtime", "write", "judge", ...BELOW_WRITE],
  mod: ["runtime", "write", "judge", ...BELOW_WRITE],
  shared: [],
};

/** Folders that run in browsers as they are. */
const WITHOUT_PACKAGES = ["device", "models"];

/** What all layers share; deno.json has the version. */
const SHARED = ["runtime/progress.ts", "runtime/deps.ts", "deno.json"];

/** The folder in which a file counts; undefined for those that may import everything. */
function folderOf(path: string): string | undefined {
  if (SHARED.includes(path)) return "shared";
  const [top, second, third] = path.split("/");
  if (path === "mod.ts") return "mod";
  if (path === "cli.ts") return "cli";
  if (top === "runtime") return third === undefined ? "runtime" : second;
  if (top === "models") return "storyteller";
  return top;
}

function complaintAbout(file: string, specifier: string): string | undefined {
  const folder = folderOf(file)!, allowed = MAY_IMPORT[folder];
  if (!allowed) return undefined;
  if (!specifier.startsWith(".")) {
    return WITHOUT_PACKAGES.includes(folder)
      ? `runtime/${folder} runs in browsers, without packages: "${specifier}" belongs elsewhere`
      : undefined;
  }
  const target = resolved(file, specifier);
  const inside = target.match(/^runtime\/device\/(wasm|webgpu)\//)?.[1];
  if (inside && folder !== "device") {
    return `runtime/device/${inside} is the device's own: import runtime/device/open_device.ts`;
  }
  const to = folderOf(target)!;
  if (to === folder || allowed.includes(to)) return undefined;
  return `${folder} may not import ${to} ("${target}"), only ${allowed.join(", ") || "nothing"}`;
}

/** Reports imports against the direction. */
export const layering: Deno.lint.Rule = {
  create(context) {
    const file = projectPath(context.filename);
    const check = (node: Deno.lint.Node, source: Deno.lint.Node | null | undefined) => {
      if (source?.type !== "Literal" || typeof source.value !== "string") return;
      const message = complaintAbout(file, source.value);
      if (message) context.report({ node, message });
    };
    return {
      ImportDeclaration: (node) => check(node, node.source),
      ExportNamedDeclaration: (node) => check(node, node.source),
      ExportAllDeclaration: (node) => check(node, node.source),
      ImportExpression: (node) => check(node, node.source),
    };
  },
};
