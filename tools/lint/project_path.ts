/** Paths in the repository, as lint rules see them. */
const ROOT = new URL("../../", import.meta.url);

/**
 * `runtime/device/device.ts` of the file's full path; as it is when it lies elsewhere (in tests of the
 * rules).
 */
export function projectPath(filename: string): string {
  const path = filename.replaceAll("\\", "/");
  const root = decodeURIComponent(ROOT.pathname).replace(/^\/(?=[A-Za-z]:)/, "");
  return path.startsWith(root) ? path.slice(root.length) : path.replace(/^\.?\//, "");
}

/** Where a relative import of a project file leads: `("runtime/a.ts", "./b/c.ts")` → `runtime/b/c.ts`. */
export function resolved(from: string, specifier: string): string {
  return new URL(specifier, `file:///${from}`).pathname.slice(1);
}
