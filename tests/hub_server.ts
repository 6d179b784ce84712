/**
 * A hub on this machine for the tests of downloads: lists a repository, serves small files itself and large
 * ones by a redirect to a second origin, as the real one does. `intercept` makes it misbehave.
 *
 * @module
 */
import { createHash } from "node:crypto";

/** Contents of at least this many bytes are "LFS". */
const LARGE_BYTES = 1000;

/** A request as hooks see it; `large` when it is for the second origin. */
export interface Seen {
  readonly path: string;
  readonly range: string | null;
  readonly token: string | null;
  readonly large: boolean;
}

/** A server with one model, "org/tiny", at commit 1111…. */
export class HubServer implements AsyncDisposable {
  readonly commit = "1".repeat(40);
  readonly files: Map<string, Uint8Array>;
  readonly seen: Seen[] = [];
  /** Bytes of files sent, ranges counted as asked. */
  sent = 0;
  /** Answers instead of the server, or changes its answer. */
  intercept: (seen: Seen, answer: () => Response) => Response | Promise<Response> = (_, answer) => answer();
  readonly #hub: Deno.HttpServer<Deno.NetAddr>;
  readonly #storage: Deno.HttpServer<Deno.NetAddr>;

  constructor(files: Readonly<Record<string, string | Uint8Array>>) {
    const bytes = (content: string | Uint8Array) =>
      typeof content === "string" ? new TextEncoder().encode(content) : content;
    this.files = new Map(Object.entries(files).map(([name, content]) => [name, bytes(content)]));
    const options = {
      port: 0,
      hostname: "127.0.0.1",
      onListen() {},
      onError: () => new Response(null, { status: 500 }),
    };
    this.#storage = Deno.serve(options, (request) => this.#answer(request, true));
    this.#hub = Deno.serve(options, (request) => this.#answer(request, false));
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#hub.addr.port}`;
  }

  /** Paths of files asked for at the place that holds their bytes. */
  get fetched(): string[] {
    return this.seen.filter(({ path, large }) => path.includes("/resolve/") && large === this.#isLarge(path))
      .map(({ path }) => decodeURIComponent(path.slice(path.indexOf(this.commit) + 41)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#hub.shutdown(), this.#storage.shutdown()]);
  }

  #isLarge(path: string): boolean {
    const name = decodeURIComponent(path.slice(path.indexOf(this.commit) + 41));
    return (this.files.get(name)?.length ?? 0) >= LARGE_BYTES;
  }

  async #answer(request: Request, large: boolean): Promise<Response> {
    const { pathname: path } = new URL(request.url);
    const { headers } = request;
    const seen = { path, range: headers.get("range"), token: headers.get("authorization"), large };
    this.seen.push(seen);
    return await this.intercept(seen, () => this.#serve(seen, request.method));
  }

  #serve({ path, range, large }: Seen, method: string): Response {
    const api = /^\/api\/models\/org\/tiny\/revision\/(.*)$/.exec(path);
    if (api) {
      const known = ["main", this.commit, "refs/pr/1"].includes(decodeURIComponent(api[1]!));
      return known ? Response.json(this.#listing()) : notFound("RevisionNotFound");
    }
    if (!path.startsWith("/org/tiny/")) return notFound("RepoNotFound");
    const name = decodeURIComponent(path.replace(/^\/org\/tiny\/resolve\/[^/]+\//, ""));
    const content = this.files.get(name);
    if (!content) return notFound("EntryNotFound");
    const headers = {
      etag: `"${fileId(content)}"`,
      "x-repo-commit": this.commit,
      "accept-ranges": "bytes",
      "x-linked-etag": `"${fileId(content)}"`,
      "x-linked-size": `${content.length}`,
    };
    if (!large && content.length >= LARGE_BYTES) {
      const location = `http://127.0.0.1:${this.#storage.addr.port}${path}`;
      return new Response(null, { status: 302, headers: { ...headers, location } });
    }
    const [, first = "0", last] = /^bytes=(\d+)-(\d*)/.exec(range ?? "") ?? [];
    const from = Number(first);
    if (from > 0 && from >= content.length) return new Response(null, { status: 416 });
    const part = content.slice(from, last ? Number(last) + 1 : undefined);
    if (method === "HEAD") {
      return new Response(null, { headers: { ...headers, "content-length": `${part.length}` } });
    }
    this.sent += part.length;
    return new Response(part, {
      status: range ? 206 : 200,
      headers: {
        ...headers,
        ...(range && { "content-range": `bytes ${from}-${from + part.length - 1}/${content.length}` }),
      },
    });
  }

  #listing(): unknown {
    const siblings = [...this.files].map(([rfilename, content]) => ({
      rfilename,
      size: content.length,
      blobId: gitId(content),
      ...(content.length >= LARGE_BYTES &&
        { lfs: { sha256: sha256(content), size: content.length, pointerSize: 132 } }),
    }));
    return { id: "org/tiny", sha: this.commit, private: false, gated: false, siblings };
  }
}

/** An answer that breaks off after `bytes` bytes. */
export function brokenOff(answer: Response, bytes: number): Response {
  const { status, headers } = answer;
  const body = new ReadableStream({
    async start(controller) {
      const content = new Uint8Array(await answer.arrayBuffer());
      controller.enqueue(content.slice(0, bytes));
      setTimeout(() => controller.error(new Error("dropped")), 20);
    },
  });
  return new Response(body, { status, headers });
}

/** The cache's name for a file. */
export function fileId(content: Uint8Array): string {
  return content.length >= LARGE_BYTES ? sha256(content) : gitId(content);
}

function sha256(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

function gitId(content: Uint8Array): string {
  return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
}

function notFound(code: string): Response {
  return new Response(null, { status: 404, headers: { "x-error-code": code } });
}
