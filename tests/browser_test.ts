/**
 * The storyteller in a browser: headless Chromium runs the bundled modules from a page that is served
 * locally, and writes the same text as Deno.
 *
 * Without a Chromium (LAKH_CHROMIUM, or Debian's /usr/bin/chromium) this is skipped and says so; with
 * LAKH_REQUIRE_BROWSER=1 that is a failure.
 */
import assert from "node:assert/strict";
import { loadPlaywright } from "./deps.ts";
import { tell } from "./browser/storyteller.ts";

const PROMPT = "The old house stood";
const TOKENS = 12;
/** Time for compiling, loading and writing on two shared cores. */
const MOST_MILLISECONDS = 120_000;

const chromium = Deno.env.get("LAKH_CHROMIUM") ?? "/usr/bin/chromium";
const missing = await missingBrowser();
if (missing) console.warn(`tests in a browser are skipped: ${missing}`);

async function missingBrowser(): Promise<string | undefined> {
  if (Deno.env.get("LAKH_REQUIRE_BROWSER") === "1") return undefined;
  const found = await Deno.stat(chromium).catch(() => undefined);
  return found ? undefined : `${chromium} is not there (on Debian: install chromium)`;
}

Deno.test({
  name: "the storyteller tells the same story in a browser, on WASM and where there is an adapter on WebGPU",
  ignore: missing !== undefined,
  sanitizeOps: false, // the browser's pipes
  sanitizeResources: false,
  fn: async (t) => {
    const folder = await Deno.makeTempDir();
    await bundle(`${folder}/storyteller.js`);
    await using server = serve(await Deno.readFile(`${folder}/storyteller.js`));
    await Deno.remove(folder, { recursive: true });
    const { chromium: launcher } = await loadPlaywright();
    const browser = await launcher.launch({
      executablePath: chromium,
      args: ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"],
    });
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout(MOST_MILLISECONDS);
      const complaints: string[] = [];
      page.on("pageerror", (error) => complaints.push(String(error)));
      await page.goto(`http://localhost:${server.addr.port}/`);
      await page.waitForFunction("globalThis.tell").catch((error) =>
        assert.fail(`${error}: ${complaints.join()}`)
      );
      assert.equal(await page.evaluate("crossOriginIsolated"), true, "memory can be shared with workers");
      const expected = await tell("wasm", PROMPT, TOKENS);
      assert.ok(expected.length > TOKENS, "there is a story");
      const told = (device: string) =>
        page.evaluate(`tell("${device}", ${JSON.stringify(PROMPT)}, ${TOKENS})`);
      await t.step("wasm", async () => assert.equal(await told("wasm"), expected));
      const noGpu = await page.evaluate("missingGpu()");
      if (noGpu) console.warn(`webgpu in the browser is skipped: ${noGpu}`);
      await t.step({
        name: "every shader compiles there",
        ignore: noGpu !== undefined,
        fn: async () => assert.deepEqual(await page.evaluate("shaderErrors()"), []),
      });
      await t.step({
        name: "webgpu",
        ignore: noGpu !== undefined,
        fn: async () => assert.equal(await told("webgpu"), expected),
      });
    } finally {
      await browser.close();
    }
  },
});

async function bundle(output: string): Promise<void> {
  const entry = new URL("browser/storyteller.ts", import.meta.url).pathname;
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--platform", "browser", "--output", output, decodeURIComponent(entry)],
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
}

/** A page and its module, isolated so that it may share memory. */
function serve(script: Uint8Array<ArrayBuffer>): Deno.HttpServer<Deno.NetAddr> {
  const isolated = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
  };
  return Deno.serve({ port: 0, hostname: "localhost", onListen: () => {} }, ({ url }) => {
    const { pathname } = new URL(url);
    if (pathname === "/storyteller.js") {
      return new Response(script, { headers: { ...isolated, "content-type": "text/javascript" } });
    }
    if (pathname !== "/") return new Response(null, { status: 404, headers: isolated });
    return new Response(
      `<!doctype html><title>lakh</title><script type="module" src="/storyteller.js"></script>`,
      {
        headers: { ...isolated, "content-type": "text/html" },
      },
    );
  });
}
