import assert from "node:assert/strict";
import { downloadModel, type DownloadOptions, isModelName } from "../runtime/load/hub.ts";
import { openCheckpoint } from "../runtime/load/safetensors.ts";
import { fixturePath } from "./fixtures.ts";
import { brokenOff, fileId, HubServer } from "./hub_server.ts";
import { lakh } from "./lakh_process.ts";
import { ramp, safetensors } from "./load_files.ts";

const WEIGHTS = safetensors({ "a.weight": ramp([50, 100]) }); // 20 kB: "LFS"
const MODEL = {
  "config.json": '{"model_type":"mpt"}',
  "tokenizer.json": "{}",
  "1_Pooling/config.json": '{"pool":1}',
  "README.md": "# not needed",
  "model.safetensors": WEIGHTS,
  "pytorch_model.bin": new Uint8Array(2000),
  "onnx/model.onnx": new Uint8Array(2000),
};
const NEEDED = ["config.json", "tokenizer.json", "1_Pooling/config.json", "model.safetensors"];
const QUICK = { attempts: 4, delayMs: 5, stallMs: 10_000 };

/** Runs with a server and an empty cache. */
async function withHub(
  files: ConstructorParameters<typeof HubServer>[0],
  body: (
    hub: HubServer,
    options: Required<Pick<DownloadOptions, "cacheDir">> & DownloadOptions,
  ) => Promise<void>,
): Promise<void> {
  const cacheDir = await Deno.makeTempDir({ prefix: "lakh-hub-" });
  await using hub = new HubServer(files);
  try {
    const quiet = { retry: QUICK, onWarning: () => {} };
    await body(hub, { cacheDir, endpoint: hub.endpoint, token: "secret", offline: false, ...quiet });
  } finally {
    await Deno.remove(cacheDir, { recursive: true });
  }
}

const root = (cacheDir: string) => `${cacheDir}/models--org--tiny`;
const blob = (cacheDir: string, content: Uint8Array) => `${root(cacheDir)}/blobs/${fileId(content)}`;

Deno.test("downloadModel() fetches what a model needs into the layout of huggingface_hub", async () => {
  await withHub(MODEL, async (hub, options) => {
    const seen: number[][] = [];
    const files = await downloadModel("org/tiny", {
      ...options,
      onProgress: ({ phase, done, total }) => seen.push([phase === "download" ? done : NaN, total]),
    });
    assert.deepEqual(hub.fetched.sort(), [...NEEDED].sort());
    assert.equal(files.label, "org/tiny");
    assert.deepEqual(await files.list(), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert.equal(await files.text("1_Pooling/config.json"), MODEL["1_Pooling/config.json"]);
    (await openCheckpoint(files)).close();

    const total = NEEDED.reduce((sum, name) => sum + hub.files.get(name)!.length, 0);
    assert.deepEqual(seen.at(-1), [total, total]);
    assert(seen.every(([done, all], i) => all === total && done! >= (seen[i - 1]?.[0] ?? 0)));

    const folder = root(options.cacheDir);
    assert.equal(await Deno.readTextFile(`${folder}/refs/main`), hub.commit);
    const link = await Deno.readLink(`${folder}/snapshots/${hub.commit}/model.safetensors`);
    assert.equal(link, `../../blobs/${fileId(WEIGHTS)}`);
    const nested = await Deno.readLink(`${folder}/snapshots/${hub.commit}/1_Pooling/config.json`);
    assert.equal(nested, `../../../blobs/${fileId(hub.files.get("1_Pooling/config.json")!)}`);
    const left = [...Deno.readDirSync(`${folder}/blobs`)].filter(({ name }) => name.endsWith(".incomplete"));
    assert.deepEqual(left, []);
  });
});

Deno.test("downloadModel() gives the token to the hub and not to the storage it redirects to", async () => {
  await withHub(MODEL, async (hub, options) => {
    await downloadModel("org/tiny", options);
    assert(hub.seen.some(({ large }) => large));
    for (const { large, token } of hub.seen) assert.equal(token, large ? null : "Bearer secret");
    await assert.rejects(
      downloadModel("org/tiny", { ...options, token: "a b" }),
      /Cannot use the token: it holds spaces/,
    );
  });
});

Deno.test("downloadModel() fetches nothing twice", async () => {
  await withHub(MODEL, async (hub, options) => {
    await downloadModel("org/tiny", options);
    hub.seen.length = 0;
    const progress: number[][] = [];
    await downloadModel("org/tiny", {
      ...options,
      onProgress: ({ done, total }) => progress.push([done, total]),
    });
    assert.equal(hub.seen.length, 1); // the listing
    assert.equal(progress.at(-1)![0], progress.at(-1)![1]);
    await downloadModel(`org/tiny@${hub.commit}`, options);
    assert.equal(hub.seen.length, 1); // a commit never changes
    await downloadModel("org/tiny@refs/pr/1", options);
    assert.equal(hub.seen.length, 2);
    assert.equal(await Deno.readTextFile(`${root(options.cacheDir)}/refs/refs/pr/1`), hub.commit);

    // A new revision with one file changed.
    Object.assign(hub, { commit: "2".repeat(40) });
    hub.files.set("config.json", new TextEncoder().encode('{"model_type":"llama"}'));
    hub.seen.length = 0;
    const files = await downloadModel("org/tiny", options);
    assert.deepEqual(hub.fetched, ["config.json"]);
    assert.equal(await files.text("config.json"), '{"model_type":"llama"}');
  });
});

Deno.test("downloadModel() goes on where a connection broke off", async () => {
  await withHub(MODEL, async (hub, options) => {
    let drops = 0;
    hub.intercept = ({ large }, answer) =>
      large && drops < 6 ? (drops++, brokenOff(answer(), 3000)) : answer();
    const done: number[] = [];
    await downloadModel("org/tiny", { ...options, onProgress: (p) => done.push(p.done) });
    const ranges = hub.seen.filter(({ large }) => large).map(({ range }) => range);
    // More drops than attempts: each brought something, so patience starts anew.
    assert.deepEqual(ranges, [null, ...[1, 2, 3, 4, 5, 6].map((i) => `bytes=${3000 * i}-`)]);
    assert.deepEqual(await Deno.readFile(blob(options.cacheDir, WEIGHTS)), WEIGHTS);
    assert.equal(done.at(-1), NEEDED.reduce((sum, name) => sum + hub.files.get(name)!.length, 0));
  });
});

Deno.test("downloadModel() resumes what an aborted run left", async () => {
  await withHub(MODEL, async (hub, options) => {
    const abort = new AbortController();
    hub.intercept = ({ large }, answer) => {
      if (!large) return answer();
      setTimeout(() => abort.abort(), 100);
      const half = new ReadableStream({ start: (controller) => controller.enqueue(WEIGHTS.slice(0, 5000)) });
      return new Response(half, { headers: { "content-length": `${WEIGHTS.length}` } });
    };
    await assert.rejects(downloadModel("org/tiny", { ...options, signal: abort.signal }), {
      name: "AbortError",
    });
    assert.equal((await Deno.stat(`${blob(options.cacheDir, WEIGHTS)}.incomplete`)).size, 5000);
    hub.intercept = (_, answer) => answer();
    hub.seen.length = 0;
    await downloadModel("org/tiny", options);
    assert.deepEqual(hub.seen.filter(({ large }) => large).map(({ range }) => range), ["bytes=5000-"]);
    assert.deepEqual(await Deno.readFile(blob(options.cacheDir, WEIGHTS)), WEIGHTS);
  });
});

Deno.test("downloadModel() starts again where a server knows no ranges", async () => {
  for (const status of [200, 416]) {
    await withHub(MODEL, async (hub, options) => {
      await Deno.mkdir(`${root(options.cacheDir)}/blobs`, { recursive: true });
      await Deno.writeFile(`${blob(options.cacheDir, WEIGHTS)}.incomplete`, WEIGHTS.slice(0, 7000));
      hub.intercept = ({ large, range }, answer) =>
        large && range ? new Response(status === 200 ? WEIGHTS.slice() : null, { status }) : answer();
      await downloadModel("org/tiny", options);
      assert.deepEqual(await Deno.readFile(blob(options.cacheDir, WEIGHTS)), WEIGHTS);
    });
  }
});

Deno.test("downloadModel() finds damaged contents and fetches them again", async () => {
  for (const left of [new Uint8Array(4000).fill(7), new Uint8Array(WEIGHTS.length), new Uint8Array(99_999)]) {
    await withHub(MODEL, async (_hub, options) => {
      await Deno.mkdir(`${root(options.cacheDir)}/blobs`, { recursive: true });
      await Deno.writeFile(`${blob(options.cacheDir, WEIGHTS)}.incomplete`, left);
      await downloadModel("org/tiny", options);
      assert.deepEqual(await Deno.readFile(blob(options.cacheDir, WEIGHTS)), WEIGHTS);
    });
  }
});

Deno.test("downloadModel() refuses contents whose checksum is wrong, large and small", async () => {
  for (const wrong of ["model.safetensors", "config.json"]) {
    await withHub(MODEL, async (hub, options) => {
      hub.intercept = ({ path, range, large }, answer) => {
        const content = hub.files.get(wrong)!;
        if (!path.endsWith(`/${wrong}`) || path.includes("Pooling") || large !== content.length > 1000) {
          return answer();
        }
        assert.equal(range, null); // nothing damaged is kept
        return new Response(content.map((byte) => byte ^ 1));
      };
      await assert.rejects(
        downloadModel("org/tiny", options),
        new RegExp(
          `Cannot download "org/tiny": the contents of ${wrong} do not have the checksum [0-9a-f]+, twice`,
        ),
      );
      await assert.rejects(Deno.stat(blob(options.cacheDir, hub.files.get(wrong)!)), Deno.errors.NotFound);
    });
  }
});

Deno.test("downloadModel() says what an answer means", async () => {
  const gated = { "x-error-code": "GatedRepo" };
  const cases: readonly (readonly [number, HeadersInit, string | undefined, RegExp])[] = [
    [
      401,
      {},
      undefined,
      /there is no such model, or it is private or gated \(401\): check the name; .* set HF_TOKEN/,
    ],
    [401, {}, "t", /the hub refuses the token \(401\): check HF_TOKEN/],
    [
      401,
      gated,
      undefined,
      /access is restricted \(401\): accept its terms at http.*\/org\/tiny, then set HF_TOKEN/,
    ],
    [403, gated, "t", /your token has no access \(403\): accept its terms at/],
    [
      404,
      { "x-error-code": "RepoNotFound" },
      "t",
      /there is no such model or file \(404\): check the name, see http/,
    ],
    [404, { "x-error-code": "RevisionNotFound" }, "t", /there is no such revision \(404\): see http/],
    [400, { "x-error-message": "bad" }, "t", /answers 400 bad/],
  ];
  await withHub(MODEL, async (hub, { token: _, ...options }) => {
    Deno.env.set("HF_TOKEN_PATH", `${options.cacheDir}/none`);
    for (const [status, headers, token, message] of cases) {
      hub.intercept = () => new Response(null, { status, headers });
      hub.seen.length = 0;
      await assert.rejects(
        downloadModel("org/tiny", { ...options, ...(token && { token }) }),
        (error: Error) => {
          assert.match(error.message, /^Cannot download "org\/tiny": /);
          assert.match(error.message, message);
          return true;
        },
      );
      assert.equal(hub.seen.length, 1); // not tried again
    }
    Deno.env.delete("HF_TOKEN_PATH");
  });
});

Deno.test("downloadModel() waits when told to, and tries again after failures of the server", async () => {
  await withHub(MODEL, async (hub, options) => {
    const failures = [
      new Response(null, { status: 429, headers: { "retry-after": "0" } }),
      new Response(null, { status: 429, headers: { "retry-after": new Date(0).toUTCString() } }),
      new Response(null, { status: 503 }),
    ];
    hub.intercept = (_, answer) => failures.shift() ?? answer();
    await downloadModel("org/tiny", options);
    assert.equal(hub.seen.filter(({ path }) => path.startsWith("/api/")).length, 4);
  });
  await withHub(MODEL, async (hub, options) => {
    hub.intercept = () => new Response(null, { status: 429, headers: { "retry-after": "3600" } });
    await assert.rejects(
      downloadModel("org/tiny", options),
      /answers 429: try again in 3600 s; with HF_TOKEN/,
    );
    assert.equal(hub.seen.length, 1);
    hub.intercept = () => new Response(null, { status: 502 });
    hub.seen.length = 0;
    await assert.rejects(
      downloadModel("org/tiny", options),
      /answers 502: check the network, then run the same command/,
    );
    assert.equal(hub.seen.length, QUICK.attempts);
  });
});

Deno.test("downloadModel() cuts a connection that has gone silent", async () => {
  await withHub(MODEL, async (hub, options) => {
    let silent = true;
    hub.intercept = ({ large }, answer) => {
      if (!large || !silent) return answer();
      silent = false;
      return new Response(
        new ReadableStream({ start: (controller) => controller.enqueue(WEIGHTS.slice(0, 4000)) }),
        {
          headers: { "content-length": `${WEIGHTS.length}` },
        },
      );
    };
    await downloadModel("org/tiny", { ...options, retry: { ...QUICK, stallMs: 200 } });
    assert.deepEqual(hub.seen.filter(({ large }) => large).map(({ range }) => range), [null, "bytes=4000-"]);
  });
});

Deno.test("downloadModel() says that the disk is full", async () => {
  if (Deno.build.os !== "linux") return;
  await withHub(MODEL, async (_hub, options) => {
    await Deno.mkdir(`${root(options.cacheDir)}/blobs`, { recursive: true });
    // Every write to it fails with ENOSPC.
    await Deno.symlink("/dev/full", `${blob(options.cacheDir, WEIGHTS)}.incomplete`);
    await assert.rejects(
      downloadModel("org/tiny", options),
      /Cannot download "org\/tiny": the disk is full, ".*incomplete" needs \d+ bytes: free some space/,
    );
  });
});

Deno.test("downloadModel() twice at once fetches every file once", async () => {
  await withHub(MODEL, async (hub, options) => {
    hub.intercept = async (_, answer) => {
      await new Promise((resolve) => setTimeout(resolve, 30));
      return answer();
    };
    await Promise.all([1, 2, 3].map(() => downloadModel("org/tiny", options)));
    assert.deepEqual(hub.fetched.sort(), [...NEEDED].sort());
  });
});

Deno.test("downloadModel() in two processes fetches every file once", async () => {
  await withHub(MODEL, async (hub, { cacheDir, endpoint }) => {
    hub.intercept = async ({ large }, answer) => {
      await new Promise((resolve) => setTimeout(resolve, large ? 500 : 20));
      return answer();
    };
    const module = new URL("../runtime/load/hub.ts", import.meta.url).href;
    const script = `import { downloadModel } from ${JSON.stringify(module)};
      const files = await downloadModel("org/tiny");
      console.log(await files.text("config.json"), (await files.open("model.safetensors")).size);`;
    const run = () =>
      new Deno.Command(Deno.execPath(), {
        args: ["eval", script],
        env: { HF_ENDPOINT: endpoint!, HF_HUB_CACHE: cacheDir, HF_HUB_OFFLINE: "", HF_TOKEN: "t" },
      }).output();
    for (const { stdout, stderr, success } of await Promise.all([run(), run()])) {
      assert(success, new TextDecoder().decode(stderr));
      assert.equal(new TextDecoder().decode(stdout).trim(), `{"model_type":"mpt"} ${WEIGHTS.length}`);
    }
    assert.deepEqual(hub.fetched.filter((name) => name === "model.safetensors").length, 1);
  });
});

Deno.test("downloadModel() offline finds what is in the cache and names what is not", async () => {
  await withHub(MODEL, async (hub, options) => {
    const offline = { ...options, offline: true };
    await assert.rejects(
      downloadModel("org/tiny", offline),
      /Cannot load "org\/tiny" offline: it is not in ".*models--org--tiny": download it once without --offline/,
    );
    assert.equal(hub.seen.length, 0);
    await downloadModel("org/tiny", options);
    hub.seen.length = 0;
    assert.equal(await (await downloadModel("org/tiny", offline)).text("config.json"), MODEL["config.json"]);
    await assert.rejects(downloadModel("org/tiny@v2", offline), /it is not in/);
    await Deno.remove(blob(options.cacheDir, WEIGHTS)); // a link to nothing stays
    await assert.rejects(downloadModel("org/tiny", offline), /its copy in .* lacks model.safetensors/);
    assert.equal(hub.seen.length, 0);
  });
});

Deno.test("downloadModel() uses the cache, and says so, when the hub cannot be reached", async () => {
  await withHub(MODEL, async (_hub, options) => {
    await downloadModel("org/tiny", options);
    const warnings: string[] = [];
    // Port 9 (discard) refuses connections.
    const away = {
      ...options,
      endpoint: "http://127.0.0.1:9",
      onWarning: (text: string) => warnings.push(text),
    };
    assert.equal(await (await downloadModel("org/tiny", away)).text("config.json"), MODEL["config.json"]);
    assert.match(
      warnings.join(),
      /^the connection to http:\/\/127.0.0.1:9 failed \(.*\): using the copy of "org\/tiny"/,
    );
    await assert.rejects(
      downloadModel("org/other", away),
      /Cannot download "org\/other": the connection to .* failed/,
    );
  });
});

Deno.test("downloadModel() takes the shards that the index lists and no other weights", async () => {
  const shards = {
    "config.json": "{}",
    "model.safetensors.index.json": JSON.stringify({
      weight_map: { a: "model-1.safetensors", b: "model-2.safetensors" },
    }),
    "model-1.safetensors": safetensors({ a: ramp([2]) }),
    "model-2.safetensors": safetensors({ b: ramp([3]) }),
    "consolidated.safetensors": safetensors({ c: ramp([1000]) }),
  };
  await withHub(shards, async (hub, options) => {
    let last: unknown;
    const files = await downloadModel("org/tiny", {
      ...options,
      onProgress: ({ done, total }) => last = { done, total },
    });
    assert.deepEqual(
      hub.fetched.sort(),
      Object.keys(shards).filter((name) => !name.startsWith("consol")).sort(),
    );
    (await openCheckpoint(files)).close();
    const total = hub.fetched.reduce((sum, name) => sum + hub.files.get(name)!.length, 0);
    assert.deepEqual(last, { done: total, total });
    hub.files.delete("model-2.safetensors");
    await assert.rejects(downloadModel("org/tiny", options), /the repository has no model-2.safetensors/);
  });
});

Deno.test("downloadModel() refuses repositories without safetensors before it fetches anything", async () => {
  await withHub({ "config.json": "{}", "pytorch_model.bin": "x" }, async (hub, options) => {
    await assert.rejects(
      downloadModel("org/tiny", options),
      /the repository has no model.safetensors, only pytorch_model.bin: choose a repository with safetensors/,
    );
    assert.deepEqual(hub.fetched, []);
  });
});

Deno.test("downloadModel() distrusts what a server lists", async () => {
  await withHub(MODEL, async (hub, options) => {
    const file = { rfilename: "config.json", size: 2, blobId: "a".repeat(40) };
    const answers: readonly unknown[] = [
      { sha: "../../x", siblings: [] },
      { sha: hub.commit },
      { sha: hub.commit, siblings: [{ ...file, rfilename: "../config.json" }] },
      { sha: hub.commit, siblings: [{ ...file, blobId: "../../../x" }] },
      { sha: hub.commit, siblings: [{ ...file, size: -0.5 }] },
      { sha: hub.commit, siblings: [null] },
      [],
      null,
    ];
    for (const answer of answers) {
      hub.intercept = () => Response.json(answer);
      await assert.rejects(
        downloadModel("org/tiny", options),
        /does not answer as the hub does \(.*\): check HF_ENDPOINT/,
      );
    }
    hub.intercept = () => new Response("<html>");
    await assert.rejects(downloadModel("org/tiny", options), /does not answer as the hub does/);
    await assert.rejects(
      downloadModel("org/tiny", { ...options, endpoint: "huggingface" }),
      /it is no http address/,
    );
  });
});

Deno.test("isModelName() knows names from paths", () => {
  for (const name of ["org/name", "HuggingFaceTB/SmolLM2-135M-Instruct", "a/b_c.d@v1.0", "a/b@refs/pr/1"]) {
    assert(isModelName(name), name);
  }
  for (
    const path of [
      "name",
      "./a/b",
      "../a/b",
      "/a/b",
      "a/b/c",
      "a//b",
      "a/..",
      "a/b@",
      "a/b@../x",
      "C:\\a",
      "a b/c",
      "",
    ]
  ) {
    assert(!isModelName(path), path);
  }
});

Deno.test("lakh inspect of a model by name reads headers from the hub, and downloads nothing", async () => {
  const files: Record<string, Uint8Array> = {};
  for await (const { name, isFile } of Deno.readDir(fixturePath("llama"))) {
    if (isFile) files[name] = await Deno.readFile(`${fixturePath("llama")}/${name}`);
  }
  await withHub(files, async (hub, { cacheDir }) => {
    const env = { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cacheDir, HF_TOKEN: "" };
    const near = await lakh(["inspect", fixturePath("llama"), "--json"]);
    const far = await lakh(["inspect", "org/tiny", "--json"], { env });
    assert.equal(far.code, 0, far.stderr);
    assert.deepEqual({ ...JSON.parse(far.stdout), model: "" }, { ...JSON.parse(near.stdout), model: "" });
    const all = Object.values(files).reduce((sum, { length }) => sum + length, 0);
    assert.ok(hub.sent < all / 4, `${hub.sent} bytes of ${all} were sent`);
    assert.deepEqual([...Deno.readDirSync(cacheDir)], []);

    hub.intercept = (seen, answer) =>
      seen.range === "bytes=0-7" && seen.large ? new Response(new Uint8Array(5000)) : answer();
    const whole = await lakh(["inspect", "org/tiny"], { env });
    assert.match(whole.stderr, /sends whole files only: download the model first/);
    assert.equal(whole.code, 1);
  });
});
