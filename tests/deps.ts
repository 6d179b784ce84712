/**
 * Third-party modules that only tests need, pinned.
 *
 * @module
 */
export { default as fc } from "npm:fast-check@4.10.2";

/** Drives a browser. Loaded when a test asks for it. */
export function loadPlaywright(): Promise<typeof import("npm:playwright-core@1.65.1")> {
  return import("npm:playwright-core@1.65.1");
}
