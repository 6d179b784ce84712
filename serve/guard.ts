/**
 * Access to the server: names of this server (against DNS rebinding), origins of web pages, keys, and sizes
 * of bodies.
 *
 * @module
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { ApiError } from "./errors.ts";

/** What is let in. */
export interface GuardOptions {
  /** Keys of which a request must bring one; with none every request is let in. */
  readonly keys: readonly string[];
  /** Origins of web pages that may ask, or "*"; the server's own always may. */
  readonly origins: readonly string[];
  /** Names, beside localhost and numeric addresses, by which this server is called. */
  readonly hosts: readonly string[];
  readonly maxBodyBytes: number;
}

/** Paths that tell no secret: whether the server is ready, and the page. */
const OPEN_PATHS = new Set(["/health", "/"]);

const digest = (text: string) => createHash("sha256").update(text).digest();

/** Checks requests before anything reads them. */
export class Guard {
  readonly #options: GuardOptions;
  readonly #digests: readonly Uint8Array[];

  constructor(options: GuardOptions) {
    this.#options = options;
    this.#digests = options.keys.map(digest);
  }

  /** Throws an ApiError for a request that is not let in. */
  check(request: Request): void {
    const { pathname, host } = new URL(request.url);
    this.#checkHost(request.headers.get("host") ?? host);
    this.#checkOrigin(request, host);
    if (!OPEN_PATHS.has(pathname)) this.#checkKey(request);
  }

  /**
   * The owner of a request, by its key. Texts of one owner are not shared with others, because response times
   * would reveal them.
   */
  ownerOf(request: Request): string {
    return this.#digests.length === 0 ? "" : createHash("sha256").update(keyOf(request)).digest("hex");
  }

  /** Headers that let a page of another origin read the answer; none unless it was allowed. */
  corsHeaders(request: Request): Record<string, string> {
    const origin = request.headers.get("origin");
    if (origin === null || !this.#isAllowed(origin)) return {};
    return {
      "access-control-allow-origin": origin,
      "access-control-allow-methods": "GET, POST, DELETE",
      "access-control-allow-headers": request.headers.get("access-control-request-headers") ??
        "content-type, authorization, x-api-key",
      "access-control-max-age": "600",
      "vary": "origin",
    };
  }

  /** The body, as long as it is not too long. */
  async body(request: Request): Promise<Uint8Array> {
    const { maxBodyBytes } = this.#options;
    const refuse = () =>
      new ApiError(
        413,
        `Cannot read the request: its body has more than ${maxBodyBytes} bytes: send less, or start lakh serve with a ` +
          "larger --max-body",
        { type: "invalid_request_error", code: "body_too_large" },
      );
    if (Number(request.headers.get("content-length") ?? 0) > maxBodyBytes) throw refuse();
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    for await (const piece of request.body ?? []) {
      if ((bytes += piece.length) > maxBodyBytes) throw refuse();
      pieces.push(piece);
    }
    const whole = new Uint8Array(bytes);
    let at = 0;
    for (const piece of pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
  }

  /**
   * A page of some site may point its own name at this machine and then ask us as its own server: only names
   * that are known to be ours are answered. Numeric addresses are no names, and a key is nothing that such a
   * page has.
   */
  #checkHost(host: string): void {
    if (this.#options.keys.length > 0) return;
    const name = host.replace(/:\d+$/, "").toLowerCase();
    const isAddress = /^\d+\.\d+\.\d+\.\d+$/.test(name) || /^\[[0-9a-f:.]+\]$/.test(name);
    if (isAddress || name === "localhost" || this.#options.hosts.includes(name)) return;
    throw new ApiError(
      403,
      `Cannot answer for the host "${name}": it is not a name of this server: start lakh serve with --allow-host ${name}, ` +
        "or with an --api-key",
      { type: "permission_error", code: "unknown_host" },
    );
  }

  /** Browsers tell the page that asks; a page that may not read the answer may not start the work either. */
  #checkOrigin(request: Request, host: string): void {
    const origin = request.headers.get("origin");
    if (origin === null || this.#isAllowed(origin)) return;
    if (URL.parse(origin)?.host === (request.headers.get("host") ?? host)) return;
    throw new ApiError(
      403,
      `Cannot answer the page "${origin}": it is of another origin: start lakh serve with --cors ${origin}`,
      { type: "permission_error", code: "origin_not_allowed" },
    );
  }

  #isAllowed(origin: string): boolean {
    const { origins } = this.#options;
    return origins.includes("*") || origins.includes(origin);
  }

  #checkKey(request: Request): void {
    if (this.#digests.length === 0 || request.method === "OPTIONS") return;
    const given = digest(keyOf(request));
    // All are compared, so that the time tells nothing.
    let known = false;
    for (const key of this.#digests) known = timingSafeEqual(key, given) || known;
    if (known) return;
    throw new ApiError(
      401,
      "Cannot answer without a key: send one of --api-key as Authorization: Bearer … or X-Api-Key",
      {
        type: "authentication_error",
        code: "invalid_api_key",
        headers: { "www-authenticate": "Bearer" },
      },
    );
  }
}

/** The key that a request brings; empty when it brings none. */
function keyOf({ headers }: Request): string {
  const bearer = /^Bearer\s+(.*)$/i.exec(headers.get("authorization") ?? "")?.[1];
  return bearer ?? headers.get("x-api-key") ?? "";
}

/** Keys of a file, one a line; empty lines and those that begin with # are none. */
export function keysOf(text: string): string[] {
  return text.split(/\r?\n/).map((line) => line.trim()).filter((line) =>
    line !== "" && !line.startsWith("#")
  );
}
