/**
 * A page in headless Chromium that may share memory with workers, served the work folder.
 *
 * @module
 */
import { loadPlaywright } from "../../tests/deps.ts";
import { WORK } from "./peer.ts";

const CHROMIUM = Deno.env.get("LAKH_CHROMIUM") ?? "/usr/bin/chromium";
const TYPES: Readonly<Record<string, string>> = {
  js: "text/javascript",
  mjs: "text/javascript",
  wasm: "application/wasm",
};

/**
 * Calls `body` there with `argument`, both of which must survive being sent as text, and returns what it
 * returns.
 */
export async function runInPage<A, R>(
  body: (argument: A) => Promise<R>,
  { argument, signal }: { argument: A; signal: AbortSignal },
): Promise<R> {
  await using server = Deno.serve({ port: 0, hostname: "localhost", onListen: () => {} }, serveWork);
  const { chromium } = await loadPlaywright();
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ["--no-sandbox", "--disable-gpu"],
  });
  const close = () => browser.close();
  signal.addEventListener("abort", close);
  try {
    const page = await browser.newPage();
    await page.goto(`http://localhost:${server.addr.port}/`);
    return await page.evaluate<R, A>(body as never, argument as never);
  } finally {
    signal.removeEventListener("abort", close);
    await close();
  }
}

async function serveWork({ url }: Request): Promise<Response> {
  const isolated = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
  };
  const path = new URL(url).pathname;
  if (path === "/") {
    return new Response("<!doctype html>", { headers: { ...isolated, "content-type": "text/html" } });
  }
  const file = await Deno.open(`${WORK}${path}`).catch(() => undefined);
  if (!file) return new Response(null, { status: 404, headers: isolated });
  const type = TYPES[path.split(".").pop()!] ?? "application/octet-stream";
  const length = `${(await file.stat()).size}`;
  return new Response(file.readable, {
    headers: { ...isolated, "content-type": type, "content-length": length },
  });
}
