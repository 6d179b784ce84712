/**
 * What a request is refused with, in OpenAI's form: `{ error: { message, type, code, param } }`.
 *
 * @module
 */
import type { z } from "./deps.ts";

/** Kinds of errors, as clients tell them apart. */
export type ErrorType =
  | "invalid_request_error"
  | "authentication_error"
  | "permission_error"
  | "not_found_error"
  | "rate_limit_error"
  | "unavailable_error"
  | "not_supported_error"
  | "timeout_error"
  | "server_error";

interface ErrorDetails {
  readonly type: ErrorType;
  /** A word for programs. */
  readonly code?: string;
  /** The field that is wrong: "messages.0.content". */
  readonly param?: string;
  /** More numbers, e.g. n_prompt_tokens. */
  readonly more?: Readonly<Record<string, unknown>>;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer with a status of 400 or more. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly details: ErrorDetails;

  constructor(status: number, message: string, details: ErrorDetails) {
    super(message);
    this.status = status;
    this.details = details;
  }

  /** The value of `error`. */
  toJSON(): Record<string, unknown> {
    const { type, code = null, param = null, more } = this.details;
    return { message: this.message, type, code, param, ...more };
  }

  response(): Response {
    return Response.json({ error: this }, { status: this.status, headers: this.details.headers ?? {} });
  }
}

/** 400: the request makes no sense. `param` is the field that is wrong. */
export function invalid(message: string, param?: string): ApiError {
  return new ApiError(400, message, {
    type: "invalid_request_error",
    code: "invalid_value",
    ...(param && { param }),
  });
}

/** 501: it makes sense, and this server does not do it. */
export function notSupported(message: string): ApiError {
  return new ApiError(501, message, { type: "not_supported_error", code: "not_supported" });
}

/**
 * 400, with both counts: the words and the code by which agents know that they have to shorten a
 * conversation.
 */
export function contextExceeded(promptTokens: number, contextLength: number): ApiError {
  return new ApiError(
    400,
    `Cannot read the prompt: it has ${promptTokens} tokens, which exceeds the available context size of ${contextLength} ` +
      "tokens: shorten it, or start lakh serve with a larger --context",
    {
      type: "invalid_request_error",
      code: "context_length_exceeded",
      more: { n_prompt_tokens: promptTokens, n_ctx: contextLength },
    },
  );
}

/** 429: too much at once. */
export function busy(message: string, retryAfter = 1): ApiError {
  return new ApiError(429, message, {
    type: "rate_limit_error",
    code: "queue_full",
    headers: { "retry-after": String(Math.max(1, Math.ceil(retryAfter))) },
  });
}

/** What went wrong, as an answer. Errors that are not the client's fault come without their stack. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const message = error instanceof Error ? error.message : String(error);
  // The library refuses arguments with these.
  if (error instanceof RangeError || error instanceof TypeError && message.startsWith("Cannot ")) {
    return invalid(message);
  }
  return new ApiError(500, message, { type: "server_error", code: "internal_error" });
}

/** What is wrong with the fields of a body. */
export function asInvalid({ issues }: z.ZodError): ApiError {
  const [first] = issues;
  const param = first?.path.join(".") ?? "";
  return invalid(
    `Cannot read the request${param && ` at "${param}"`}: ${first?.message ?? "it is malformed"}` +
      (issues.length > 1 ? ` (and ${issues.length - 1} more)` : ""),
    param || undefined,
  );
}
