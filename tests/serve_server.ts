/**
 * A server for tests, on a loopback port of its own, with the storyteller.
 *
 * @module
 */
import type { ServerSettings } from "../serve/context.ts";
import type { Engine, EngineOptions } from "../serve/engine.ts";
import type { GuardOptions } from "../serve/guard.ts";
import { type Server, startServer } from "../serve/server.ts";
import { CLI } from "./lakh_process.ts";

/** What a test wants to be otherwise. */
export interface TestServerOptions {
  readonly guard?: Partial<GuardOptions>;
  readonly settings?: Partial<ServerSettings>;
  readonly engine?: Partial<EngineOptions>;
  readonly drainSeconds?: number;
}

/** A server that is ready. */
export class TestServer implements AsyncDisposable {
  readonly url: string;
  readonly engine: Engine;
  readonly #server: Server;

  constructor(server: Server, engine: Engine) {
    this.url = server.url;
    this.engine = engine;
    this.#server = server;
  }

  /** POST of a JSON body. */
  async post(path: string, body: unknown, init: RequestInit = {}): Promise<Response> {
    return await fetch(this.url + path, {
      method: "POST",
      body: JSON.stringify(body),
      ...init,
      headers: { "content-type": "application/json", ...init.headers },
    });
  }

  /** The JSON of an answer, and its status. */
  // deno-lint-ignore no-explicit-any
  async json(path: string, body?: unknown): Promise<any> {
    const response = body === undefined ? await fetch(this.url + path) : await this.post(path, body);
    return { status: response.status, ...await response.json() };
  }

  /** The data of the events of a stream, without [DONE], which must come last. */
  // deno-lint-ignore no-explicit-any
  async stream(path: string, body: object): Promise<any[]> {
    const response = await this.post(path, { ...body, stream: true });
    const text = await response.text();
    const type = response.headers.get("content-type") ?? "";
    if (!type.startsWith("text/event-stream")) throw new Error(`${response.status} ${text}`);
    const data = text.split("\n\n").flatMap((event) => event.startsWith("data: ") ? [event.slice(6)] : []);
    if (data.at(-1) !== "[DONE]") throw new Error(`the stream ends with ${data.at(-1)}`);
    return data.slice(0, -1).map((line) => JSON.parse(line));
  }

  async close(): Promise<void> {
    await this.#server.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Options of a server with the storyteller. */
export function serverOptions(options: TestServerOptions = {}) {
  return {
    host: "127.0.0.1",
    port: 0,
    guard: { keys: [], origins: [], hosts: [], maxBodyBytes: 1 << 20, ...options.guard },
    settings: { aliases: [], pingSeconds: 10, sessions: undefined, ...options.settings },
    engine: {
      model: undefined,
      open: { device: "wasm", threads: 1, contextLength: 512 },
      maxRequests: 64,
      maxTokens: 32,
      timeoutSeconds: 60,
      ...options.engine,
    },
    drainSeconds: options.drainSeconds ?? 5,
  } as const;
}

/** Starts a server and waits until its model is loaded. */
export async function startTestServer(options: TestServerOptions = {}): Promise<TestServer> {
  const server = startServer(serverOptions(options));
  try {
    return new TestServer(server, await server.ready);
  } catch (error) {
    await server.close();
    throw error;
  }
}

/** Waits until `holds`; throws after ten seconds. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  for (let tries = 0; tries < 1000; tries++) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`it never came that ${what}`);
}

/** Starts `lakh serve` as a process and waits for its line. */
export async function startProcess(args: readonly string[]) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", CLI, "serve", "--device", "wasm", "--threads", "1", ...args],
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  while (!said.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) break;
    said += value;
  }
  return {
    child,
    url: /listening on (\S+)/.exec(said)?.[1],
    async end() {
      await reader.cancel();
      const stderr = await new Response(child.stderr).text();
      return { ...await child.status, stderr };
    },
  };
}
