/**
 * Every third-party dependency of the program, pinned, in one place.
 *
 * Full `npm:` specifiers, because a module imported from a URL has no import map. What not every run needs is
 * loaded on demand.
 *
 * @module
 */

/** Checks of what callers pass: 5 ms to import, where zod's smaller build takes 15 to 40. */
export * as schemas from "npm:valibot@1.5.0";

/** Progress bars on a terminal. */
export async function loadProgressBars(): Promise<typeof import("npm:cli-progress@3.12.0")> {
  return (await import("npm:cli-progress@3.12.0")).default;
}

/** Charts on a terminal. */
export async function loadTerminalCharts(): Promise<typeof import("npm:simple-ascii-chart@5.4.0")> {
  return await import("npm:simple-ascii-chart@5.4.0");
}

/** xxHash64 of bytes in pieces: 5 GB/s, where crypto.subtle has 0.9. */
export async function loadHash(): Promise<import("npm:hash-wasm@4.12.0").IHasher> {
  const { createXXHash64 } = await import("npm:hash-wasm@4.12.0");
  return (await createXXHash64()).init();
}

/** The text of PDF files: pdf.js, built to run in one thread. */
export async function loadPdf(): Promise<typeof import("npm:unpdf@1.8.1")> {
  return await import("npm:unpdf@1.8.1");
}

/** Archives: DOCX files are some. */
export async function loadZip(): Promise<typeof import("npm:fflate@0.8.3")> {
  return await import("npm:fflate@0.8.3");
}

/** XML, event by event. */
export async function loadXml(): Promise<typeof import("npm:htmlparser2@10.1.0")> {
  return await import("npm:htmlparser2@10.1.0");
}

/** The text of HTML pages, as a person reads it. */
export async function loadHtml(): Promise<
  { convert(html: string, options: Readonly<Record<string, unknown>>): string }
> {
  return await import("npm:html-to-text@10.0.1");
}
