import assert from "node:assert/strict";
import { lakh } from "./lakh_process.ts";

const ROOT = `${import.meta.dirname}/..`;

/** Runs deno in the repository, as `deno task` does. */
async function deno(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    env: { NO_COLOR: "1", ...env },
  }).output();
  return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

/** Whether a process can run in a network namespace of its own, without connections. */
async function canLeaveTheNetwork(): Promise<boolean> {
  try {
    return (await new Deno.Command("unshare", { args: ["-rn", "true"], stderr: "null" }).output()).success;
  } catch {
    return false;
  }
}

Deno.test("the bundle, alone in an empty folder without network and cache, chats and tells about itself", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const bundled = await deno(["bundle", "--quiet", "--output", `${folder}/lakh.js`, "cli.ts"]);
    assert.equal(bundled.code, 0, bundled.text);

    // An empty DENO_DIR holds no packages, and a proxy without a server stops their download.
    const env = {
      DENO_DIR: `${folder}/none`,
      HTTP_PROXY: "http://127.0.0.1:1",
      HTTPS_PROXY: "http://127.0.0.1:1",
      NO_COLOR: "1",
    };
    const command = [Deno.execPath(), "run", "-A", "lakh.js", "chat", "--max-tokens", "8", "--seed", "1"];
    const [program, ...args] = await canLeaveTheNetwork() ? ["unshare", "-rn", ...command] : command;
    const child = new Deno.Command(program!, {
      args,
      cwd: folder,
      env,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode("Once upon a time\n/exit\n"));
    await writer.close();
    const { code, stdout, stderr } = await child.output();
    const told = new TextDecoder().decode(stderr);
    assert.equal(code, 0, told);
    assert.match(told, /^storyteller .* type \/help\n/);

    const fromSource = await lakh(["chat", "--max-tokens", "8", "--seed", "1"], {
      stdin: "Once upon a time\n/exit\n",
    });
    assert.equal(new TextDecoder().decode(stdout), fromSource.stdout);

    const script = `${folder}/lakh.js`;
    assert.match((await lakh(["--version"], { script, cwd: folder })).stdout, /^lakh \d+\.\d+\.\d+ /);
    assert.equal((await lakh(["caht"], { script, cwd: folder })).code, 2);
    assert.match((await lakh(["inspect"], { script, cwd: folder })).stdout, /3,443,136/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** Paths in the tree that `deno compile` prints; a folder that it does not open up ends with `/*`. */
function embeddedPaths(text: string): string[] {
  const paths: string[] = [], above: string[] = [];
  for (const line of text.split("\n")) {
    const match = /^((?:│ | {2})*)[├└]─[─┬] (.+?)(?: \(.*)?$/.exec(line);
    if (!match) continue;
    above.length = match[1]!.length / 2;
    above.push(match[2]!);
    paths.push(above.join("/"));
  }
  return paths;
}

Deno.test("the executable embeds every module of cli.ts and the model", async () => {
  const folder = await Deno.makeTempDir();
  try {
    // With deno itself for the runtime nothing is downloaded; what results is a list, not a program that
    // starts.
    const compiled = await deno(["task", "compile", "--output", `${folder}/lakh`], {
      DENORT_BIN: Deno.execPath(),
    });
    assert.equal(compiled.code, 0, compiled.text);
    const paths = embeddedPaths(compiled.text);
    const holds = (file: string) =>
      paths.some((path) => path === file || path.endsWith("/*") && file.startsWith(path.slice(0, -1)));

    const info = await deno(["info", "--json", "cli.ts"]);
    const { modules, npmPackages } = JSON.parse(info.text.slice(info.text.indexOf("{")));
    const root = new URL(`file://${await Deno.realPath(ROOT)}/`).href;
    // Modules that are imported only for their types are not in the program.
    const imported: string[] = modules.flatMap((m: { dependencies?: { code?: { specifier: string } }[] }) =>
      (m.dependencies ?? []).flatMap(({ code }) => code ? [code.specifier] : [])
    );
    const files = [...new Set(imported)]
      .filter((specifier) => specifier.startsWith(root))
      .map((specifier) => specifier.slice(root.length));
    assert.ok(files.length > 40, `${files.length} modules`);
    assert.ok(
      files.some((file) => file.startsWith("models/storyteller/")),
      "the model is in the graph",
    );
    assert.deepEqual(files.filter((file) => !holds(file)), []);

    const packages = Object.values<{ name: string; version: string }>(npmPackages);
    assert.ok(packages.length > 2);
    for (const { name, version } of packages) {
      const embedded = paths.some((path) => {
        const [, inCache] = path.split("/localhost/");
        return inCache?.endsWith("/*") && `${name}/${version}/`.startsWith(inCache.slice(0, -1));
      });
      assert.ok(embedded, `${name} ${version} is missing`);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("deno task compile says in words that denort cannot be downloaded", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const env = { HTTPS_PROXY: "http://127.0.0.1:1", HTTP_PROXY: "http://127.0.0.1:1" };
    const { code, text } = await deno([
      "task",
      "compile",
      "--output",
      `${folder}/lakh`,
      "--target",
      "aarch64-apple-darwin",
    ], env);
    // A machine that has denort in its cache compiles.
    if (code === 0) return;
    assert.match(text, /Cannot compile: denort, the runtime of compiled programs, cannot be downloaded/);
    assert.match(text, /deno task bundle/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the release workflow builds every target that deno compile knows", async () => {
  const workflow = await Deno.readTextFile(`${ROOT}/.github/workflows/release.yml`);
  const { text } = await deno(["compile", "--target", "none", "cli.ts"]);
  const targets = /possible values: ([^\n]+)/.exec(text)?.[1]?.split(", ") ?? [];
  assert.equal(targets.length, 6, text);
  for (const target of targets) assert.ok(workflow.includes(`target: ${target}`), target);
});
