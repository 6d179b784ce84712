/**
 * POST /v1/chat/completions and /v1/chat/completions/input_tokens.
 *
 * Every chunk has every field, in the order in which strict clients want them: the role first, with content
 * null; texts; an empty delta with the reason; the usage, if asked for, without choices; [DONE].
 *
 * @module
 */
import {
  encodeConversation,
  messageSchema,
  templateFields,
  templateMessages,
  toolSchema,
} from "./conversation.ts";
import type { ServerContext } from "./context.ts";
import { z } from "./deps.ts";
import type { Asked, Engine, Event } from "./engine.ts";
import { asApiError, invalid } from "./errors.ts";
import type { TokenLogprob, WrittenLogprob } from "../runtime/write/logprobs.ts";
import { answeringModel } from "./models.ts";
import { check, readObject } from "./request.ts";
import {
  logitBiasOf,
  MOST_TOP_LOGPROBS,
  refuseUnsupported,
  samplingFields,
  samplingOptions,
} from "./sampling.ts";
import { eventStream } from "./sse.ts";
import { grammarFields, structureOf, toolChoiceSchema } from "./structure.ts";
import { Answer, finite, progressOf, timingsOf, usageOf, writeAll } from "./writing.ts";

/** Functions that a request may offer. */
const MOST_TOOLS = 128;

/** The body of a chat. */
export const chatSchema = z.object({
  ...samplingFields,
  ...templateFields,
  ...grammarFields,
  messages: z.array(messageSchema).min(1),
  tools: z.array(toolSchema).max(MOST_TOOLS).optional(),
  tool_choice: toolChoiceSchema.optional(),
  parallel_tool_calls: z.boolean().optional(),
  max_completion_tokens: z.int().min(0).optional(),
  logprobs: z.boolean().default(false),
  top_logprobs: z.int().min(0).max(MOST_TOP_LOGPROBS).optional(),
});
type ChatRequest = z.infer<typeof chatSchema>;

/** What a chat is written from. */
async function askedOf(
  body: ChatRequest,
  { engine, owner }: Answering,
  signal: AbortSignal,
): Promise<Asked[]> {
  if (body.top_logprobs !== undefined && !body.logprobs) {
    throw invalid("Cannot use top_logprobs without logprobs: give logprobs: true", "top_logprobs");
  }
  const structure = structureOfChat(body);
  const prompt = promptOf(engine, body);
  await engine.check({ prompt, turn: true, structure });
  return Array.from({ length: body.n }, (_, choice) => ({
    prompt,
    turn: true,
    structure,
    options: samplingOptions(body, choice),
    maxTokens: body.max_completion_tokens ?? body.max_tokens,
    logprobs: body.logprobs ? body.top_logprobs ?? 0 : undefined,
    logitBias: logitBiasOf(body),
    owner,
    signal,
  }));
}

function structureOfChat(body: ChatRequest) {
  const { tool_choice: toolChoice, parallel_tool_calls: parallel } = body;
  return structureOf({ ...body, toolChoice, parallel });
}

function promptOf(engine: Engine, body: ChatRequest): Uint32Array {
  const tools = structureOfChat(body)?.tools;
  return encodeConversation(engine, templateMessages(body.messages), { tools, fields: body });
}

/** Answers a chat, whole or as a stream. */
export async function chat(request: Request, context: ServerContext): Promise<Response> {
  const engine = context.engine();
  const object = await readObject(request, context.guard);
  refuseUnsupported(object);
  const body = check(chatSchema, object);
  const model = answeringModel(body.model, context);
  const answering = { engine, model, context, owner: context.guard.ownerOf(request) };
  return body.stream
    ? await streamChat(body, answering)
    : await wholeChat(body, { ...answering, signal: context.signalOf(request) });
}

interface Answering {
  readonly engine: Engine;
  readonly model: string;
  readonly context: ServerContext;
  readonly owner: string;
}

async function wholeChat(
  body: ChatRequest,
  { signal, ...answering }: Answering & { readonly signal: AbortSignal },
): Promise<Response> {
  const { engine, model, context } = answering;
  const answers = Array.from({ length: body.n }, () => new Answer());
  for await (const event of writeAll(engine, await askedOf(body, answering, signal), context.metrics)) {
    answers[event.choice]!.add(event);
  }
  return Response.json({
    id: newId(),
    object: "chat.completion",
    created: now(),
    model,
    system_fingerprint: fingerprint(engine),
    choices: answers.map((answer, index) => ({
      index,
      message: messageOf(answer),
      logprobs: body.logprobs ? chatLogprobs(engine, answer.tokens) : null,
      finish_reason: answer.finishReason,
    })),
    usage: usageOf(answers),
    timings: timingsOf(answers[0]!.done!),
  });
}

/** Content is null where a tool is called without a word. */
function messageOf({ text, reasoning, calls }: Answer) {
  return {
    role: "assistant",
    content: text === "" && calls.length > 0 ? null : text,
    refusal: null,
    ...(reasoning !== "" && { reasoning_content: reasoning }),
    ...(calls.length > 0 && {
      tool_calls: calls.map(({ id, name, arguments: text }) => ({
        id,
        type: "function",
        function: { name, arguments: text },
      })),
    }),
  };
}

async function streamChat(body: ChatRequest, answering: Answering): Promise<Response> {
  const { engine, model, context } = answering;
  const stopping = new AbortController();
  // A refusal is a status code, before the stream begins.
  const signal = AbortSignal.any([stopping.signal, context.ending]);
  const events = writeAll(engine, await askedOf(body, answering, signal), context.metrics);
  const started = performance.now();
  const common = { id: newId(), object: "chat.completion.chunk", created: now(), model };
  const { include_usage: withUsage = false, include_progress: withProgress = body.return_progress } =
    body.stream_options ?? {};
  const chunk = (choices: readonly unknown[], more: object = {}) => ({
    ...common,
    system_fingerprint: fingerprint(engine),
    choices,
    ...(withUsage && { usage: null }),
    ...more,
  });
  const choice = (index: number, delta: object, more: object = {}) => ({
    index,
    delta,
    logprobs: null,
    finish_reason: null,
    ...more,
  });
  return eventStream(async ({ send, sendText }, gone) => {
    gone.addEventListener("abort", () => stopping.abort(gone.reason));
    const answers: Answer[] = [];
    for await (const event of events) {
      if (event.kind === "reading") {
        if (withProgress) send(chunk([], { prompt_progress: progressOf(event, started) }));
        continue;
      }
      const index = event.choice;
      let answer = answers[index];
      if (!answer) {
        answer = answers[index] = new Answer();
        send(chunk([choice(index, { role: "assistant", content: null })]));
      }
      answer.add(event);
      if (event.kind === "done") {
        const last = choice(index, {}, { finish_reason: answer.finishReason });
        send(chunk([last], { timings: timingsOf(event.done) }));
        continue;
      }
      const logprobs = event.kind === "text" && body.logprobs ? chatLogprobs(engine, event.tokens) : null;
      send(chunk([choice(index, deltaOf(event, answer), { logprobs })]));
    }
    context.ending.throwIfAborted();
    if (withUsage) send(chunk([], { usage: usageOf(answers) }));
    sendText("[DONE]");
  }, {
    pingSeconds: context.settings.pingSeconds,
    onError: (error, { send }) => send({ error: asApiError(error) }),
  });
}

/** What an event adds to a message. */
function deltaOf(event: Event, { calls }: Answer): object {
  switch (event.kind) {
    case "text":
      return { content: event.text };
    case "reasoning":
      return { reasoning_content: event.text };
    case "call": {
      const { id, name } = calls[event.call]!;
      return { tool_calls: [{ index: event.call, id, type: "function", function: { name, arguments: "" } }] };
    }
    case "arguments":
      return { tool_calls: [{ index: event.call, function: { arguments: event.text } }] };
    default:
      return {};
  }
}

/** How many tokens a chat takes, without answering it. */
export async function chatInputTokens(request: Request, context: ServerContext): Promise<Response> {
  const engine = context.engine();
  const body = check(chatSchema, await readObject(request, context.guard));
  const prompt = promptOf(engine, body);
  return Response.json({ object: "response.input_tokens", input_tokens: prompt.length });
}

/** Likelihoods in OpenAI's form for chats. */
function chatLogprobs(engine: Engine, tokens: readonly WrittenLogprob[]) {
  const told = ({ id, logprob: found }: TokenLogprob) => {
    const logprob = finite(found);
    const bytes = engine.tokenBytes(id);
    return { token: new TextDecoder().decode(bytes), logprob, bytes: [...bytes] };
  };
  return {
    content: tokens.map((token) => ({ ...told(token), top_logprobs: token.top.map(told) })),
    refusal: null,
  };
}

const newId = () => `chatcmpl-${crypto.randomUUID().replaceAll("-", "")}`;
/** Seconds since 1970. */
export const now = () => Math.floor(Date.now() / 1000);

/** The same seed gives the same answer as long as this is the same. */
export function fingerprint({ info }: Engine): string {
  return `fp_${info.device}_${info.weights}_${info.cache}`;
}
