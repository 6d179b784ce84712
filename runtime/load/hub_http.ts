/**
 * Requests to the hub: which answers are tried again, and what the others mean in words.
 *
 * API: https://huggingface.co/docs/hub/api
 *
 * @module
 */

/** Patience with a network. */
export interface Retry {
  /** Failures in a row before giving up. */
  readonly attempts: number;
  /** Milliseconds before the second attempt; doubles each time. */
  readonly delayMs: number;
  /** Milliseconds without a byte after which a connection counts as lost. */
  readonly stallMs: number;
}

export const PATIENT: Retry = { attempts: 6, delayMs: 500, stallMs: 60_000 };

/** Longer waits than this are told rather than sat out. */
const MAX_WAIT_MS = 120_000;

/** A failure that may pass: dropped connections, 429, 5xx. `waitMs` is what the server asked for. */
export class Transient extends Error {
  readonly waitMs: number | undefined;

  constructor(
    message: string,
    options: { readonly waitMs?: number | undefined; readonly cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.waitMs = options.waitMs;
  }
}

/** Whom one talks to, and for which model. */
export interface Connection {
  readonly endpoint: string;
  /** org/name[@revision], for messages. */
  readonly model: string;
  readonly token: string | undefined;
  readonly retry: Retry;
  readonly signal: AbortSignal | undefined;
}

/**
 * Runs `action` until it succeeds, fails for good, or fails `attempts` times in a row without any progress.
 * `action` gets a function to call whenever there was progress.
 */
export async function persist<T>(
  connection: Connection,
  action: (progressed: () => void) => Promise<T>,
): Promise<T> {
  const { retry, signal, model } = connection;
  for (let failures = 0;;) {
    try {
      return await action(() => failures = 0);
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof Transient)) throw error;
      failures++;
      const wait = error.waitMs ?? retry.delayMs * 2 ** (failures - 1) * (1 + Math.random() / 4);
      if (failures >= retry.attempts || wait > MAX_WAIT_MS) {
        const remedy = error.waitMs === undefined
          ? "check the network, then run the same command again: what has arrived is kept"
          : `try again in ${Math.ceil(error.waitMs / 1000)} s; with HF_TOKEN set the limits are higher`;
        throw new Error(`Cannot download "${model}": ${error.message}: ${remedy}`, { cause: error });
      }
      await sleep(wait, signal);
    }
  }
}

/**
 * One GET. Resolves with an answer of 2xx or 416, throws {@linkcode Transient} for what may pass and an Error in words
 * for the rest. The token goes to the endpoint only, not to where it redirects. `body` gets the answer and a function
 * to call for every piece that arrives; the connection is cut when that is silent for too long.
 */
export async function get<T>(
  connection: Connection,
  request: { readonly path: string; readonly range?: string | undefined },
  body: (response: Response, alive: () => void) => Promise<T>,
): Promise<T> {
  const { endpoint, token, retry, signal } = connection;
  const abort = new AbortController();
  const stop = () => abort.abort(signal?.reason);
  signal?.addEventListener("abort", stop, { once: true });
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stalled = false;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      stalled = true;
      abort.abort();
    }, retry.stallMs);
  };
  try {
    signal?.throwIfAborted();
    alive();
    const response = await fetch(`${endpoint}${request.path}`, {
      headers: {
        // Ranges and sizes are of the file itself.
        "accept-encoding": "identity",
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(request.range !== undefined && { range: request.range }),
      },
      signal: abort.signal,
    });
    alive();
    if (!response.ok && response.status !== 416) {
      await response.body?.cancel();
      throw refusal(connection, response);
    }
    return await body(response, alive);
  } catch (error) {
    signal?.throwIfAborted();
    if (stalled) {
      throw new Transient(`${endpoint} sent nothing for ${retry.stallMs / 1000} s`, { cause: error });
    }
    if (error instanceof TypeError) {
      // fetch and body readers throw it for every failure of the network.
      throw new Transient(`the connection to ${endpoint} failed (${reasonOf(error)})`, { cause: error });
    }
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

/** What an answer that is no success means. */
function refusal(connection: Connection, response: Response): Error {
  const { endpoint, model, token } = connection;
  const { status, headers } = response;
  const code = headers.get("x-error-code");
  const page = `${endpoint}/${model.split("@")[0]}`;
  const fail = (why: string) => new Error(`Cannot download "${model}": ${why}`);
  if (status === 429 || status === 408 || status >= 500) {
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
