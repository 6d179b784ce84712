/** Hubs, networks and caches that misbehave: every download ends, and says why in words. */
import assert from "node:assert/strict";
import { downloadModel, type DownloadOptions } from "../runtime/load/hub.ts";
import { browseModel } from "../runtime/load/hub_browse.ts";
import { expandPath, isSafePath, isShardName } from "../runtime/load/hub_cache.ts";
import { brokenOff, fileId, HubServer, type Seen } from "./hub_server.ts";
import { ramp, safetensors } from "./load_files.ts";

const WEIGHTS = safetensors({ "a.weight": ramp([50, 100]) });
const MODEL = { "config.json": '{"model_type":"mpt"}', "tokenizer.json": "{}", "model.safetensors": WEIGHTS };
const QUICK = { attempts: 4, delayMs: 5, stallMs: 300 };

type Options = DownloadOptions & { readonly cacheDir: string };

async function withHub(
  body: (hub: HubServer, options: Options, told: string[]) => Promise<void>,
  files: ConstructorParameters<typeof HubServer>[0] = MODEL,
): Promise<void> {
  const cacheDir = await Deno.makeTempDir({ prefix: "lakh-hub-" }), told: string[] = [];
  await using hub = new HubServer(files);
  const onWarning = (text: string) => void told.push(text);
  try {
    await body(
      hub,
      { cacheDir, endpoint: hub.endpoint, token: "t", offline: false, retry: QUICK, onWarning },
      told,
    );
  } finally {
    await new Deno.Command("chmod", { args: ["-R", "u+w", cacheDir] }).output().catch(() => {});
    await Deno.remove(cacheDir, { recursive: true });
  }
}

const root = ({ cacheDir }: Options) => `${cacheDir}/models--org--tiny`;

/** Changes the listing. */
// deno-lint-ignore no-explicit-any
const listing = (change: (answer: any) => void) => async (seen: Seen, answer: () => Response) => {
  if (!seen.path.startsWith("/api/")) return answer();
  const json = await answer().json();
  change(json);
  return Response.json(json);
};

// deno-lint-ignore no-explicit-any
const sizeOf = (name: string, size: number) => (json: any) => {
  for (const file of json.siblings) {
    if (file.rfilename !== name) continue;
    file.size = size;
    if (file.lfs) file.lfs.size = size;
  }
};

Deno.test("a download without ranges that is cut each time is given up", () =>
  withHub(async (hub, options) => {
    hub.intercept = ({ large }, answer) =>
      large ? brokenOff(new Response(WEIGHTS.slice(), { status: 200 }), 5000) : answer();
    await assert.rejects(
      downloadModel("org/tiny", options),
      /does not go on where model.safetensors broke off/,
    );
    assert(hub.seen.filter(({ large }) => large).length <= 6, `${hub.seen.length} requests`);
  }));

Deno.test("a download that is cut before it gets further is given up", () =>
  withHub(async (hub, options) => {
    let first = true;
    hub.intercept = ({ large }, answer) => {
      if (!large) return answer();
      const bytes = first ? 9000 : 0;
      first = false;
      return brokenOff(answer(), bytes);
    };
    await assert.rejects(
      downloadModel("org/tiny", options),
      /the connection to .* failed .*check the network/,
    );
    assert.equal(hub.seen.filter(({ large }) => large).length, 1 + QUICK.attempts - 1);
  }));

for (const size of [1e15, WEIGHTS.length + 1, WEIGHTS.length - 1, 0]) {
  Deno.test(`a listing that says ${size} of ${WEIGHTS.length} bytes ends in words`, () =>
    withHub(async (hub, options) => {
      hub.intercept = listing(sizeOf("model.safetensors", size));
      await assert.rejects(
        downloadModel("org/tiny", options),
        /model.safetensors has 20\d+ bytes at http.*, which lists \d+: try again later/,
      );
      assert(hub.seen.length < 10);
    }));
}

Deno.test("sizes below 0 and texts without an end are refused before memory is taken", () =>
  withHub(async (hub, options) => {
    hub.intercept = listing(sizeOf("config.json", -5));
    await assert.rejects(downloadModel("org/tiny", options), /does not answer as the hub does/);
    hub.intercept = listing(sizeOf("config.json", 1e15));
    await assert.rejects(
      async () => await (await browseModel("org/tiny", options)).text("config.json"),
      /Cannot read "config.json" of "org\/tiny": it is listed with 1000000000000000 bytes/,
    );
    const blanks = new Uint8Array(1 << 20).fill(32);
    hub.intercept = () => new Response(new ReadableStream({ pull: (stream) => stream.enqueue(blanks) }));
    await assert.rejects(
      downloadModel("org/tiny", options),
      /the listing of .* is too long: more than 67108864/,
    );
  }));

Deno.test("a peer that sends a byte now and then counts as silent, in listings, files and ranges", () =>
  withHub(async (hub, options) => {
    const dripping = (status: number, headers: HeadersInit) =>
      new Response(
        new ReadableStream({
          async pull(stream) {
            await new Promise((resolve) => setTimeout(resolve, 30));
            try {
              stream.enqueue(new Uint8Array([32]));
            } catch {
              // The other side has gone.
            }
          },
        }),
        { status, headers },
      );
    hub.intercept = () => dripping(200, {});
    await assert.rejects(downloadModel("org/tiny", options), /sent less than 500 bytes a second for 0.3 s/);
    hub.intercept = ({ large }, answer) => large ? dripping(200, {}) : answer();
    await assert.rejects(
      downloadModel("org/tiny", options),
      /sent less than 500 bytes a second|does not go on where model.safetensors broke off/,
    );
    hub.intercept = ({ large, range }, answer) =>
      large ? dripping(206, { "content-range": `bytes ${range?.slice(6)}/${WEIGHTS.length}` }) : answer();
    const file = await (await browseModel("org/tiny", options)).open("model.safetensors");
    await assert.rejects(file.read(0, new Uint8Array(8000)), /sent less than 500 bytes a second/);
  }));

Deno.test("what will never work is told at once", () =>
  withHub(async (hub, options, told) => {
    const moved = (location: string) => new Response(null, { status: 302, headers: { location } });
    const cases: [answer: (seen: Seen) => Response, message: RegExp, most: number][] = [
      [({ path }) => moved(path), /redirects in a circle: check HF_ENDPOINT and proxies/, 12],
      [
        () => moved("file:///etc/passwd"),
        /redirects to "file:\/\/\/etc\/passwd", which is no http address/,
        1,
      ],
      [() => moved("javascript:alert(1)"), /which is no http address/, 1],
      [() => new Response(null, { status: 501 }), /answers 501/, 1],
      [() => moved("http://127.0.0.1:9/"), /Requests to port 9 are blocked/, 1],
      [
        () => new Response(new Uint8Array(9), { headers: { "content-encoding": "gzip" } }),
        /sends gzip, though asked for the file itself: a proxy changes what passes/,
        1,
      ],
    ];
    for (const [answer, message, most] of cases) {
      hub.seen.length = 0;
      hub.intercept = (seen) => answer(seen);
      await assert.rejects(downloadModel("org/tiny", options), message);
      assert(hub.seen.length <= most, `${hub.seen.length} requests for ${message}`);
    }
    assert.deepEqual(told, [], "nothing was tried again");
  }));

Deno.test("what is tried again is told, with the wait", () =>
  withHub(async (hub, options, told) => {
    let failures = 2;
    hub.intercept = (_, answer) =>
      failures-- > 0 ? new Response(null, { status: 429, headers: { "retry-after": "0" } }) : answer();
    await downloadModel("org/tiny", options);
    assert.equal(told.length, 2);
    assert.match(told[1]!, /^http:.* answers 429: trying again in 0.0 s \(3 of 4\)$/);
  }));

Deno.test(
  "a complete cache is used when it may only be read",
  { ignore: Deno.build.os === "windows" },
  () =>
    withHub(async (_, options, told) => {
      await downloadModel("org/tiny", options);
      const before = await Deno.stat(`${root(options)}/refs/main`);
      await downloadModel("org/tiny", options);
      assert.equal((await Deno.stat(`${root(options)}/refs/main`)).mtime?.getTime(), before.mtime?.getTime());
      // A ref that cannot be replaced stands for a cache that may only be read, also for root.
      await Deno.remove(`${root(options)}/refs/main`);
      await Deno.mkdir(`${root(options)}/refs/main/x`, { recursive: true });
      const files = await downloadModel("org/tiny", options);
      assert.equal(await files.text("config.json"), MODEL["config.json"]);
      assert.match(
        told.at(-1)!,
        /^Cannot write ".*refs\/main" in the cache of models: it is a folder.*HF_HUB_CACHE/,
      );
    }),
);

Deno.test("an older complete copy is used where a newer one cannot be written", {
  ignore: Deno.build.os === "windows",
}, () =>
  withHub(async (hub, options, told) => {
    await downloadModel("org/tiny", options);
    Object.assign(hub, { commit: "2".repeat(40) });
    await Deno.writeTextFile(`${root(options)}/snapshots/${hub.commit}`, "a file where a folder is needed");
    const files = await downloadModel("org/tiny", options);
    assert.equal(await files.text("config.json"), MODEL["config.json"]);
    assert.match(told.at(-1)!, /using the older copy of "org\/tiny"/);
  }));

Deno.test("a cache that is no folder is told in words", () =>
  withHub(async (_, options) => {
    await Deno.writeTextFile(`${options.cacheDir}/file`, "");
    await assert.rejects(
      downloadModel("org/tiny", { ...options, cacheDir: `${options.cacheDir}/file` }),
      /Cannot write ".*" in the cache of models: .*HF_HUB_CACHE/,
    );
    if (Deno.build.os === "windows") return;
    await Deno.symlink("/nonexistent/x", root(options));
    await assert.rejects(downloadModel("org/tiny", options), /Cannot write ".*" in the cache of models: /);
  }));

Deno.test(
  "a ref is written whole: a full disk leaves the old one",
  { ignore: Deno.build.os !== "linux" },
  () =>
    withHub(async (hub, options) => {
      await downloadModel("org/tiny", options);
      const names = [...Deno.readDirSync(`${root(options)}/refs`)].map(({ name }) => name);
      assert.deepEqual(names, ["main"]);
      assert.equal(await Deno.readTextFile(`${root(options)}/refs/main`), hub.commit);
      assert.deepEqual([...Deno.readDirSync(root(options))].filter(({ name }) => name.includes("part")), []);
    }),
);

Deno.test("without a network a cached model is used at once", () =>
  withHub(async (_, { retry: _patience, ...options }, told) => {
    await downloadModel("org/tiny", { ...options, retry: QUICK });
    const started = performance.now();
    await downloadModel("org/tiny", { ...options, endpoint: "http://127.0.0.1:9" });
    assert.match(told.at(-1)!, /: using the copy of "org\/tiny" in the cache$/);
    assert.equal(told.length, 1, "nothing was tried again");
    assert(performance.now() - started < 9000);
  }));

Deno.test("a lock that another process holds is told", () =>
  withHub(async (_, options, told) => {
    const path = `${options.cacheDir}/.locks/models--org--tiny/${fileId(WEIGHTS)}.lock`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    using lock = await Deno.open(path, { create: true, write: true });
    await lock.lock(true);
    const download = downloadModel("org/tiny", options);
    while (told.length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.match(
      told[0]!,
      /^another process downloads model.safetensors of "org\/tiny": waiting for it \(if none/,
    );
    await lock.unlock();
    await download;
  }));

Deno.test("names that leave their folder on any system are refused before anything is fetched", async () => {
  for (
    const name of ["a.safetensors", "1_Pooling/config.json", "a/b/c.txt", "ünï.json", "a b", ".gitattributes"]
  ) {
    assert(isSafePath(name), name);
  }
  const bad = [
    "",
    "/a",
    "../a",
    "a/../b",
    "a/..",
    "a//b",
    "./a",
    "..\\a",
    "a\\b",
    "C:\\a",
    "C:a",
    "a:stream",
    "con",
  ];
  bad.push(
    "a/NUL.txt",
    "lpt1.safetensors",
    "a\0b",
    "a\nb",
    "a\x1b[2J",
    "a.",
    "a ",
    "a/ /b",
    "x".repeat(2000),
  );
  for (const name of bad) assert(!isSafePath(name), JSON.stringify(name));
  assert(isShardName("model-00001-of-00002.safetensors"));
  for (
    const name of [
      "sub/a.safetensors",
      "..\\evil.safetensors",
      "evil.py",
      "C:x.safetensors",
      ".safetensors/..",
    ]
  ) {
    assert(!isShardName(name), name);
  }
  for (
    const evil of [
      "..\\..\\..\\..\\evil.safetensors",
      "sub/evil.py",
      "sub/evil.safetensors",
      "C:evil.safetensors",
    ]
  ) {
    await withHub(async (hub, options) => {
      await assert.rejects(
        downloadModel("org/tiny", options),
        /lists ".*evil.*" as weights, which is not the name of a .safetensors file|does not answer as the hub does/,
      );
      assert(!hub.fetched.some((name) => name.includes("evil")));
    }, {
      "config.json": "{}",
      "model.safetensors.index.json": JSON.stringify({ weight_map: { a: evil } }),
      [evil]: "evil",
    });
  }
});

Deno.test("a file with a strange name that no model needs does not stand in the way", () =>
  withHub(async (_, options) => {
    await downloadModel("org/tiny", options);
  }, { ...MODEL, "samples/12:30.wav": "x", "aux.txt": "y" }));

Deno.test("expandPath() reads ~ and variables as Python does", () => {
  const set: Record<string, string> = { HOME: "/home/ada", USERPROFILE: "C:\\Users\\ada", X: "x$HOME" };
  const variable = (name: string) => set[name];
  const posix: [string, string][] = [
    ["~", "/home/ada"],
    ["~/hub", "/home/ada/hub"],
    ["~bob/hub", "~bob/hub"],
    ["a/~/b", "a/~/b"],
    ["$HOME/x", "/home/ada/x"],
    ["${HOME}/x", "/home/ada/x"],
    ["/a/$NONE/x", "/a/$NONE/x"],
    ["${NONE}", "${NONE}"],
    ["$X", "x$HOME"],
    ["%USERPROFILE%/x", "%USERPROFILE%/x"],
    ["/plain", "/plain"],
  ];
  for (const [path, expected] of posix) {
    assert.equal(expandPath(path, { variable, windows: false }), expected, path);
  }
  const windows: [string, string][] = [
    ["~\\hub", "C:\\Users\\ada\\hub"],
    ["%USERPROFILE%\\hub", "C:\\Users\\ada\\hub"],
    ["%NONE%\\hub", "%NONE%\\hub"],
    ["$HOME\\x", "/home/ada\\x"],
  ];
  for (const [path, expected] of windows) {
    assert.equal(expandPath(path, { variable, windows: true }), expected, path);
  }
});

Deno.test("credentials of an endpoint reach the hub and no message", () =>
  withHub(async (hub, { token: _, ...options }, told) => {
    const endpoint = hub.endpoint.replace("//", "//ada:s%23cret@");
    Deno.env.set("HF_TOKEN_PATH", `${options.cacheDir}/none`);
    try {
      await downloadModel("org/tiny", { ...options, endpoint });
      for (const { token, large } of hub.seen) {
        assert.equal(token, large ? null : `Basic ${btoa("ada:s#cret")}`);
      }
      hub.intercept = () => new Response(null, { status: 500 });
      const other = { ...options, endpoint, cacheDir: `${options.cacheDir}/other` };
      await assert.rejects(downloadModel("org/tiny", other), ({ message }: Error) => {
        assert.match(message, /^Cannot download "org\/tiny": http:\/\/127/);
        assert.doesNotMatch(`${message} ${told.join(" ")}`, /cret|ada/);
        return true;
      });
      await assert.rejects(
        downloadModel("org/tiny", { ...other, endpoint: "ftp://ada:secret@x" }),
        ({ message }: Error) => !message.includes("secret"),
      );
    } finally {
      Deno.env.delete("HF_TOKEN_PATH");
    }
  }));

Deno.test("without permission for the network a name is refused in words", async () => {
  const cli = new URL("../cli.ts", import.meta.url).pathname;
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--deny-net", "--no-prompt", cli, "run", "--model", "org/none", "Hello"],
    env: { HF_HUB_OFFLINE: "", HF_ENDPOINT: "http://127.0.0.1:7999" },
  }).output();
  assert.match(
    new TextDecoder().decode(stderr),
    /^Cannot download "org\/none": Deno was not allowed to use the network: give --allow-net/m,
  );
  assert.equal(code, 1);
});
