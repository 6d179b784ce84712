/**
 * Requests to the hub: which answers are tried again, and what the others mean in words.
 *
 * API: https://huggingface.co/docs/hub/api
 *
 * @module
 */
import { parseModelName } from "./hub_cache.ts";

/** Patience with a network. */
export interface Retry {
  /** Failures in a row before giving up. */
  readonly attempts: number;
  /** Milliseconds before the second attempt; doubles each time. */
  readonly delayMs: number;
  /**
   * Milliseconds in which a connection that brings less than {@linkcode LEAST_BYTES_PER_SECOND} counts as
   * lost.
   */
  readonly stallMs: number;
}

export const PATIENT: Retry = { attempts: 6, delayMs: 500, stallMs: 30_000 };

/** When there is a copy to fall back to, a network that does not answer at once is none. */
export const IMPATIENT: Retry = { attempts: 1, delayMs: 0, stallMs: 10_000 };

/** Longer waits than this are an error instead. */
const MAX_WAIT_MS = 120_000;

/** A line on which a gigabyte would take three weeks is not one to wait for. */
const LEAST_BYTES_PER_SECOND = 500;

const MOST_REDIRECTS = 10;

/**
 * A failure that is not the model's: dropped connections, 429, 5xx. `waitMs` is what the server asked for;
 * `lasting` says that trying again will not help.
 */
export class Transient extends Error {
  readonly waitMs: number | undefined;
  readonly lasting: boolean;

  constructor(
    message: string,
    options: {
      readonly waitMs?: number | undefined;
      readonly lasting?: boolean;
      readonly cause?: unknown;
    } = {},
  ) {
    super(message, { cause: options.cause });
    this.waitMs = options.waitMs;
    this.lasting = options.lasting ?? false;
  }
}

/** Whom one talks to, and for which model. */
export interface Connection {
  /** Without credentials: it stands in messages. */
  readonly endpoint: string;
  /** org/name[@revision], for messages. */
  readonly model: string;
  readonly token: string | undefined;
  /** "user:password" of the endpoint's address. */
  readonly credentials?: string | undefined;
  readonly retry: Retry;
  readonly signal: AbortSignal | undefined;
  /** Hears, in words, what is waited for. */
  readonly onWarning: (message: string) => void;
}

/**
 * Runs `action` until it succeeds, fails for good, or fails `attempts` times in a row without any progress.
 * `action` gets a function to call whenever it got further than ever before.
 */
export async function persist<T>(
  connection: Connection,
  action: (progressed: () => void) => Promise<T>,
): Promise<T> {
  const { retry, signal, model, onWarning } = connection;
  for (let failures = 0;;) {
    try {
      return await action(() => failures = 0);
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof Transient)) throw error;
      failures++;
      const wait = error.waitMs ?? retry.delayMs * 2 ** (failures - 1) * (1 + Math.random() / 4);
      if (error.lasting || failures >= retry.attempts || wait > MAX_WAIT_MS) {
        const remedy = error.waitMs === undefined
          ? "check the network, then run the same command again: what has arrived is kept"
          : `try again in ${Math.ceil(error.waitMs / 1000)} s; with HF_TOKEN set the limits are higher`;
        throw new Error(`Cannot download "${model}": ${error.message}: ${remedy}`, { cause: error });
      }
      const seconds = (wait / 1000).toFixed(wait < 10_000 ? 1 : 0);
      onWarning(`${error.message}: trying again in ${seconds} s (${failures + 1} of ${retry.attempts})`);
      await sleep(wait, signal);
    }
  }
}

/** What a body is read through: pieces, as long as they come fast enough. */
export type Pieces = AsyncIterable<Uint8Array<ArrayBuffer>>;

/**
 * One GET. Resolves with an answer of 2xx or 416, throws {@linkcode Transient} for what may pass and an Error
 * in words for the rest. The token goes to the endpoint only, not to where it redirects. `body` gets the
 * answer and its bytes; the connection is cut when these come too slowly.
 */
export async function get<T>(
  connection: Connection,
  request: { readonly path: string; readonly range?: string | undefined },
  body: (response: Response, pieces: Pieces) => Promise<T>,
): Promise<T> {
  const { endpoint, model, retry, signal } = connection;
  const abort = new AbortController();
  const stop = () => abort.abort(signal?.reason);
  signal?.addEventListener("abort", stop, { once: true });
  let came = 0, stalled = false;
  const stallSeconds = retry.stallMs / 1000;
  const timer = setInterval(() => {
    stalled = came < LEAST_BYTES_PER_SECOND * stallSeconds;
    came = 0;
    if (stalled) abort.abort();
  }, retry.stallMs);
  try {
    signal?.throwIfAborted();
    const response = await follow(connection, request, abort.signal);
    came = Infinity; // an answer is a sign of life
    if (!response.ok && response.status !== 416) {
      await response.body?.cancel();
      throw refusal(connection, response);
    }
    const encoding = response.headers.get("content-encoding") ?? "identity";
    if (encoding !== "identity") {
      await response.body?.cancel();
      throw new Error(
        `Cannot download "${model}": ${endpoint} sends ${encoding}, though asked for the file itself: a proxy changes ` +
          `what passes: go around it, or use another HF_ENDPOINT`,
      );
    }
    const pieces = async function* (): AsyncGenerator<Uint8Array<ArrayBuffer>> {
      for await (const piece of response.body ?? []) {
        came += piece.length;
        yield piece;
      }
    };
    return await body(response, pieces());
  } catch (error) {
    signal?.throwIfAborted();
    if (stalled) {
      throw new Transient(
        `${endpoint} sent less than ${LEAST_BYTES_PER_SECOND} bytes a second for ${stallSeconds} s`,
        { cause: error },
      );
    }
    if (error instanceof Deno.errors.NotCapable) {
      throw new Error(
        `Cannot download "${model}": Deno was not allowed to use the network: give --allow-net, or use a model of the ` +
          `cache with --offline`,
        { cause: error },
      );
    }
    if (error instanceof TypeError || error instanceof Deno.errors.Http) {
      // fetch and body readers throw these for every failure of the network.
      const reason = reasonOf(error);
      const lasting = /blocked|certificate|not supported|invalid url/i.test(reason);
      throw new Transient(`the connection to ${endpoint} failed (${reason})`, { lasting, cause: error });
    }
    throw error;
  } finally {
    clearInterval(timer);
    signal?.removeEventListener("abort", stop);
  }
}

/** The answer at the end of redirects. */
async function follow(
  connection: Connection,
  { path, range }: { readonly path: string; readonly range?: string | undefined },
  signal: AbortSignal,
): Promise<Response> {
  const { endpoint, model, token, credentials } = connection;
  const fail = (why: string) =>
    new Error(`Cannot download "${model}": ${endpoint} ${why}: check HF_ENDPOINT and proxies`);
  const home = new URL(endpoint).origin;
  const secret = token !== undefined
    ? `Bearer ${token}`
    : credentials === undefined
    ? undefined
    : `Basic ${btoa(decodeURIComponent(credentials))}`;
  let url = new URL(`${endpoint}${path}`);
  for (let redirects = 0; redirects <= MOST_REDIRECTS; redirects++) {
    const response = await fetch(url, {
      headers: {
        // Ranges and sizes are of the file itself.
        "accept-encoding": "identity",
        ...(secret !== undefined && url.origin === home && { authorization: secret }),
        ...(range !== undefined && { range }),
      },
      redirect: "manual",
      signal,
    });
    const location = response.headers.get("location");
    if (![301, 302, 303, 307, 308].includes(response.status) || location === null) return response;
    await response.body?.cancel();
    const next = URL.parse(location, url);
    if (!next || !/^https?:$/.test(next.protocol)) {
      throw fail(`redirects to "${location.slice(0, 100)}", which is no http address`);
    }
    if (url.protocol === "https:" && next.protocol === "http:") {
      throw fail(`redirects to "${next.origin}", which is not encrypted`);
    }
    url = next;
  }
  throw fail(`redirects in a circle`);
}

/** All bytes of a body, at most `most`; throws an Error in words when there are more. */
export async function readAll(pieces: Pieces, most: number, what: string): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for await (const piece of pieces) {
    length += piece.length;
    if (length > most) {
      throw new Error(`${what}: more than ${most} bytes came: check HF_ENDPOINT and proxies`);
    }
    parts.push(piece);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** What an answer that is no success means. */
function refusal(connection: Connection, response: Response): Error {
  const { endpoint, model, token } = connection;
  const { status, headers } = response;
  const code = headers.get("x-error-code");
  const page = `${endpoint}/${parseModelName(model).repository}`;
  const fail = (why: string) => new Error(`Cannot download "${model}": ${why}`);
  if (status === 429 || status === 408 || status >= 500 && status !== 501 && status !== 505) {
    return new Transient(`${endpoint} answers ${status}`, { waitMs: retryAfter(headers.get("retry-after")) });
  }
  if (code === "GatedRepo" || status === 403) {
    return fail(
      token === undefined
        ? `access is restricted (${status}): accept its terms at ${page}, then set HF_TOKEN to a token of your account`
        : `your token has no access (${status}): accept its terms at ${page}, or use a token that may read it`,
    );
  }
  if (status === 401) {
    return fail(
      token === undefined
        ? `there is no such model, or it is private or gated (401): check the name; for a private or gated one ` +
          `set HF_TOKEN`
        : `the hub refuses the token (401): check HF_TOKEN, or unset it for public models`,
    );
  }
  if (code === "RevisionNotFound") return fail(`there is no such revision (404): see ${page}/tree/main`);
  if (status === 404) return fail(`there is no such model or file (404): check the name, see ${page}`);
  return fail(`${response.url} answers ${status} ${headers.get("x-error-message") ?? ""}`.trimEnd());
}

/** Milliseconds from a number of seconds or a date. */
function retryAfter(value: string | null): number | undefined {
  if (value === null) return undefined;
  const ms = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(ms, 0) : undefined;
}

function reasonOf(error: Error): string {
  return error.message.replace(/^.*?error sending request[^:]*:\s*/, "").slice(0, 200);
}

/** Waits; rejects with the signal's reason when it is aborted. */
export function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
