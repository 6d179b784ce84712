/**
 * Third-party modules that only the server needs, pinned.
 *
 * @module
 */
export { type Context, Hono } from "npm:hono@4.13.19";
export { z } from "npm:zod@4.6.7";
