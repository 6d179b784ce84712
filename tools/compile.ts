/**
 * `deno compile` for one target, with words where its runtime cannot be downloaded.
 *
 * `deno task compile [--target TARGET] [--output FILE]`; every option goes to `deno compile`.
 *
 * @module
 */

const args = Deno.args.some((arg) => arg === "-o" || arg.startsWith("--output"))
  ? Deno.args
  : ["--output", "dist/lakh", ...Deno.args];

const child = new Deno.Command(Deno.execPath(), {
  // The embedded model is imported in a way that is not fetched ahead (runtime/embedded.ts), so it is named
  // here.
  args: ["compile", "--allow-all", "--include", "models/storyteller/files.ts", ...args, "cli.ts"],
  stdout: "inherit",
  stderr: "piped",
}).spawn();

let said = "";
for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
  said += text;
  await Deno.stderr.write(new TextEncoder().encode(text));
}
const { code } = await child.status;
if (code !== 0 && /denort/.test(said)) {
  console.error(
    [
      "",
      `Cannot compile: denort, the runtime of compiled programs, cannot be downloaded from dl.deno.land. Either`,
      `  - run this where that is reachable (.github/workflows/release.yml does, for six targets),`,
      `  - download denort ${Deno.version.deno} for the target elsewhere and set DENORT_BIN to its path, or`,
      `  - use "deno task bundle": dist/lakh.js is one file that any deno ${Deno.version.deno} runs without a network.`,
    ].join("\n"),
  );
}
Deno.exit(code);
