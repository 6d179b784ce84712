/**
 * Third-party modules that only tests need, pinned.
 *
 * @module
 */
export { default as fc } from "npm:fast-check@4.10.2";
