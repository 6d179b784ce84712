/**
 * What the page is made with, pinned. `deno task page` puts it into the built file; the server imports none
 * of it.
 *
 * @module
 */
export { Fragment, h, render, type VNode } from "npm:preact@11.2.0";
export { useEffect, useLayoutEffect, useRef, useState } from "npm:preact@11.2.0/hooks";
export { batch, computed, effect, type Signal, signal } from "npm:@preact/signals@2.11.4";
export { marked } from "npm:marked@18.2.1";
export { default as DOMPurify } from "npm:dompurify@3.4.18";
import { h, type VNode } from "npm:preact@11.2.0";
import htm from "npm:htm@3.1.1";

// htm's types call its function a namespace.
const { bind } = Function.prototype;

/** Markup as a tagged template. */
export const html: (strings: TemplateStringsArray, ...values: unknown[]) => VNode = bind.call(
  htm as never,
  h,
);
