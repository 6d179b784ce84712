/**
 * The endpoints of the server, and what surrounds each: access, errors in words, a request's id, counting.
 *
 * @module
 */
import { chat, chatInputTokens, chatSchema } from "./chat.ts";
import { complete, completionSchema } from "./completions.ts";
import type { ServerContext } from "./context.ts";
import { Hono, type z } from "./deps.ts";
import { ApiError, asApiError } from "./errors.ts";
import { embed, embeddingSchema, rerank, rerankSchema } from "./embeddings.ts";
import { anthropicType, countSchema, countTokens, messages, messagesSchema } from "./messages.ts";
import { respond, responsesSchema } from "./responses.ts";
import { deleteSession, listSessions, restoreSession, saveSession, sessionSchema } from "./sessions.ts";
import { getModel, listModels } from "./models.ts";
import { openApi } from "./openapi.ts";
import { page } from "./page.ts";
import {
  applyTemplate,
  detokenize,
  detokenizeSchema,
  templateSchema,
  tokenize,
  tokenizeSchema,
} from "./tokens.ts";

/** One thing that can be asked. */
export interface Endpoint {
  readonly method: "get" | "post" | "delete";
  /** With `:name` for what varies. */
  readonly path: string;
  readonly summary: string;
  /** Of the body. */
  readonly schema?: z.ZodType;
  /** `name`: what stands in the path for `:name`. */
  answer(request: Request, context: ServerContext, name: string): Response | Promise<Response>;
}

/** Everything that can be asked. */
export const ENDPOINTS: readonly Endpoint[] = [
  { method: "get", path: "/", summary: "the page", answer: page },
  {
    method: "get",
    path: "/health",
    summary: "200 when the model is ready, 503 before",
    answer: (_, context) => {
      const { id } = context.engine();
      return Response.json({ status: "ok", model: id });
    },
  },
  {
    method: "get",
    path: "/metrics",
    summary: "counts and times for Prometheus",
    answer: (_, { metrics, loaded }) =>
      new Response(metrics.text(loaded()), { headers: { "content-type": metrics.contentType } }),
  },
  {
    method: "get",
    path: "/openapi.json",
    summary: "this document",
    answer: () => Response.json(openApi(ENDPOINTS)),
  },
  {
    method: "get",
    path: "/v1/models",
    summary: "what is served",
    answer: (_, context) => listModels(context),
  },
  {
    method: "get",
    path: "/v1/models/:name{.+}",
    summary: "one model",
    answer: (_, context, name) => getModel(name, context),
  },
  {
    method: "post",
    path: "/v1/chat/completions",
    summary: "answer a conversation",
    schema: chatSchema,
    answer: chat,
  },
  {
    method: "post",
    path: "/v1/chat/completions/input_tokens",
    summary: "count the tokens of a conversation",
    schema: chatSchema,
    answer: chatInputTokens,
  },
  {
    method: "post",
    path: "/v1/completions",
    summary: "go on with texts",
    schema: completionSchema,
    answer: complete,
  },
  {
    method: "post",
    path: "/v1/responses",
    summary: "answer a conversation, in OpenAI's newer form",
    schema: responsesSchema,
    answer: respond,
  },
  {
    method: "post",
    path: "/v1/messages",
    summary: "answer a conversation, in Anthropic's form",
    schema: messagesSchema,
    answer: messages,
  },
  {
    method: "post",
    path: "/v1/messages/count_tokens",
    summary: "count the tokens of a conversation in Anthropic's form",
    schema: countSchema,
    answer: countTokens,
  },
  {
    method: "post",
    path: "/v1/embeddings",
    summary: "turn texts into vectors",
    schema: embeddingSchema,
    answer: embed,
  },
  {
    method: "post",
    path: "/v1/rerank",
    summary: "put texts in the order of their nearness to a question",
    schema: rerankSchema,
    answer: rerank,
  },
  { method: "get", path: "/v1/sessions", summary: "texts that are saved", answer: listSessions },
  {
    method: "post",
    path: "/v1/sessions",
    summary: "read a text and save it with its keys and values",
    schema: sessionSchema,
    answer: saveSession,
  },
  {
    method: "post",
    path: "/v1/sessions/:name/restore",
    summary: "take a text back that was saved",
    answer: restoreSession,
  },
  {
    method: "delete",
    path: "/v1/sessions/:name",
    summary: "delete a text that was saved",
    answer: deleteSession,
  },
  { method: "post", path: "/tokenize", summary: "text to ids", schema: tokenizeSchema, answer: tokenize },
  {
    method: "post",
    path: "/detokenize",
    summary: "ids to text",
    schema: detokenizeSchema,
    answer: detokenize,
  },
  {
    method: "post",
    path: "/apply-template",
    summary: "the text that the model is given for a conversation",
    schema: templateSchema,
    answer: applyTemplate,
  },
];

/** The whole API as one function of a request. */
export function createApp(context: ServerContext): (request: Request) => Promise<Response> {
  const app = new Hono();
  for (const { method, path, answer } of ENDPOINTS) {
    app[method](path, async (c) => await answer(c.req.raw, context, c.req.param("name") ?? ""));
  }
  app.notFound((c) => {
    const { pathname } = new URL(c.req.url);
    return new ApiError(
      404,
      `Cannot find "${c.req.method} ${pathname}": see /openapi.json for what there is`,
      {
        type: "not_found_error",
        code: "not_found",
      },
    ).response();
  });
  app.onError((error, c) => errorResponse(error, c.req.path));
  return async (request) => {
    const response = await answer(request, app, context);
    const { pathname } = new URL(request.url);
    const known = ENDPOINTS.some(({ path }) => path === pathname);
    context.metrics.request(known ? pathname : "other", response.status);
    const headers = new Headers(response.headers);
    headers.set("x-request-id", crypto.randomUUID());
    for (const [name, value] of Object.entries(context.guard.corsHeaders(request))) headers.set(name, value);
    return new Response(response.body, { status: response.status, headers });
  };
}

async function answer(request: Request, app: Hono, { guard }: ServerContext): Promise<Response> {
  try {
    guard.check(request);
  } catch (error) {
    return errorResponse(error, new URL(request.url).pathname);
  }
  // What a browser asks before a page of another origin may.
  if (request.method === "OPTIONS") return new Response(null, { status: 204 });
  return await app.fetch(request);
}

/** Anthropic's clients get errors in their form. */
function errorResponse(error: unknown, path: string): Response {
  const told = asApiError(error);
  if (told.status === 500) console.error(error);
  if (!path.startsWith("/v1/messages")) return told.response();
  const { status, details, message } = told;
  return Response.json({ type: "error", error: { type: anthropicType(details.type), message } }, {
    status,
    headers: details.headers ?? {},
  });
}

/** What is answered while the model is loaded, or after that has failed. */
export function notReady(state: "loading" | "ending"): ApiError {
  const why = state === "loading" ? "the model is being loaded" : "the server ends";
  return new ApiError(503, `Cannot answer yet: ${why}: try again later`, {
    type: "unavailable_error",
    code: state === "loading" ? "loading_model" : "shutting_down",
    headers: { "retry-after": "1" },
  });
}
