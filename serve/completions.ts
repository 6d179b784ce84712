/**
 * POST /v1/completions: texts that go on, from strings, arrays of strings, ids, or arrays of ids.
 *
 * @module
 */
import { fingerprint, now } from "./chat.ts";
import type { ServerContext } from "./context.ts";
import { z } from "./deps.ts";
import type { Asked, Engine } from "./engine.ts";
import { asApiError, invalid } from "./errors.ts";
import type { WrittenLogprob } from "../runtime/write/logprobs.ts";
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
import { grammarFields, structureOf } from "./structure.ts";
import { Answer, finite, progressOf, timingsOf, usageOf, writeAll } from "./writing.ts";

/** Tokens of an answer when the request does not say, as OpenAI has it. */
const USUAL_TOKENS = 16;
/** Prompts of one request. */
const MOST_PROMPTS = 256;

const id = z.int().min(0).max(2 ** 31);
/** A prompt, or several. A list of texts and ids is one prompt. */
export const promptSchema = z.union([
  z.string(),
  z.array(z.string()).min(1).max(MOST_PROMPTS),
  z.array(id).min(1),
  z.array(z.array(id).min(1)).min(1).max(MOST_PROMPTS),
  z.array(z.union([z.string(), id])).min(1),
], "a text, ids, or a list of them was expected");

/** The body of a completion. */
export const completionSchema = z.object({
  ...samplingFields,
  ...grammarFields,
  prompt: promptSchema,
  echo: z.boolean().default(false).describe("the prompt stands before the text"),
  logprobs: z.int().min(0).max(MOST_TOP_LOGPROBS).optional(),
});
type CompletionRequest = z.infer<typeof completionSchema>;

interface Prompt {
  readonly ids: Uint32Array;
  readonly text: string;
}

/** The prompts of a request. */
export function promptsOf(engine: Engine, prompt: z.infer<typeof promptSchema>): Prompt[] {
  const ofText = (text: string) => ({ ids: engine.encodePrompt(text), text });
  const ofIds = (ids: readonly number[]) => {
    engine.checkIds(ids, "prompt");
    return { ids: Uint32Array.from(ids), text: engine.decode(ids) };
  };
  if (typeof prompt === "string") return [ofText(prompt)];
  if (prompt.every((one) => typeof one === "string")) return prompt.map(ofText);
  if (prompt.every((one) => Array.isArray(one))) return prompt.map(ofIds);
  // Texts and ids in turn are one prompt.
  const parts = prompt as (string | number)[];
  const ids = parts.flatMap((part, i) =>
    typeof part === "number"
      ? [part]
      : [...(i === 0 ? engine.encodePrompt(part) : engine.encode(part, { special: false }))]
  );
  return [ofIds(ids)];
}

/** Answers a completion, whole or as a stream. */
export async function complete(request: Request, context: ServerContext): Promise<Response> {
  const engine = context.engine();
  const object = await readObject(request, context.guard);
  refuseUnsupported(object);
  const body = check(completionSchema, object);
  const model = answeringModel(body.model, context);
  const prompts = promptsOf(engine, body.prompt);
  const structure = structureOf(body);
  await engine.check({ prompt: prompts[0]!.ids, turn: false, structure });
  const stopping = new AbortController();
  const signal = AbortSignal.any([stopping.signal, context.ending]);
  const asked = prompts.flatMap(({ ids }) =>
    Array.from({ length: body.n }, (_, choice): Asked => ({
      prompt: ids,
      turn: false,
      structure,
      options: samplingOptions(body, choice),
      maxTokens: body.max_tokens ?? USUAL_TOKENS,
      logprobs: body.logprobs,
      logitBias: logitBiasOf(body),
      owner: context.guard.ownerOf(request),
      signal,
    }))
  );
  const answering = { engine, model, context, prompts, asked, stopping };
  return body.stream
    ? streamCompletion(body, answering)
    : await wholeCompletion(body, { ...answering, signal: context.signalOf(request) });
}

interface Answering {
  readonly engine: Engine;
  readonly model: string;
  readonly context: ServerContext;
  readonly prompts: readonly Prompt[];
  readonly asked: readonly Asked[];
  readonly stopping: AbortController;
}

async function wholeCompletion(
  body: CompletionRequest,
  { engine, model, context, prompts, asked, stopping, signal }: Answering & { readonly signal: AbortSignal },
): Promise<Response> {
  signal.addEventListener("abort", () => stopping.abort(signal.reason));
  const answers = asked.map(() => new Answer());
  for await (const event of writeAll(engine, asked, context.metrics)) answers[event.choice]!.add(event);
  const choices = [];
  for (const [index, answer] of answers.entries()) {
    const prompt = prompts[Math.floor(index / body.n)]!;
    const echoed = body.echo && body.logprobs !== undefined
      ? await engine.likelihoods(prompt.ids, body.logprobs, signal)
      : [];
    choices.push({
      index,
      text: (body.echo ? prompt.text : "") + answer.text,
      logprobs: body.logprobs === undefined
        ? null
        : completionLogprobs(engine, [...echoed, ...answer.tokens]),
      finish_reason: answer.finishReason,
    });
  }
  return Response.json({
    id: newId(),
    object: "text_completion",
    created: now(),
    model,
    system_fingerprint: fingerprint(engine),
    choices,
    usage: usageOf(answers, prompts.length),
    timings: timingsOf(answers[0]!.done!),
  });
}

function streamCompletion(
  body: CompletionRequest,
  { engine, model, context, prompts, asked, stopping }: Answering,
): Response {
  if (body.echo && body.logprobs !== undefined) {
    throw invalid("Cannot stream echo with logprobs: leave out stream, echo or logprobs", "echo");
  }
  const events = writeAll(engine, asked, context.metrics);
  const started = performance.now();
  const common = { id: newId(), object: "text_completion", created: now(), model };
  const { include_usage: withUsage = false, include_progress: withProgress = body.return_progress } =
    body.stream_options ?? {};
  const chunk = (choices: readonly unknown[], more: object = {}) => ({
    ...common,
    system_fingerprint: fingerprint(engine),
    choices,
    ...(withUsage && { usage: null }),
    ...more,
  });
  return eventStream(async ({ send, sendText }, gone) => {
    gone.addEventListener("abort", () => stopping.abort(gone.reason));
    const answers = asked.map(() => new Answer());
    if (body.echo) {
      asked.forEach((_, index) => {
        const { text } = prompts[Math.floor(index / body.n)]!;
        send(chunk([{ index, text, logprobs: null, finish_reason: null }]));
      });
    }
    for await (const event of events) {
      const index = event.choice, answer = answers[index]!;
      answer.add(event);
      if (event.kind === "reading") {
        if (withProgress) send(chunk([], { prompt_progress: progressOf(event, started) }));
      } else if (event.kind === "text") {
        const logprobs = body.logprobs === undefined ? null : completionLogprobs(engine, event.tokens);
        send(chunk([{ index, text: event.text, logprobs, finish_reason: null }]));
      } else if (event.kind === "done") {
        const last = { index, text: "", logprobs: null, finish_reason: answer.finishReason };
        send(chunk([last], { timings: timingsOf(event.done) }));
      }
    }
    context.ending.throwIfAborted();
    if (withUsage) send(chunk([], { usage: usageOf(answers, prompts.length) }));
    sendText("[DONE]");
  }, {
    pingSeconds: context.settings.pingSeconds,
    onError: (error, { send }) => send({ error: asApiError(error) }),
  });
}

/**
 * Likelihoods in OpenAI's form for completions. The first token of an echoed prompt has none: nothing stands
 * before it.
 */
function completionLogprobs(engine: Engine, tokens: readonly (WrittenLogprob | number)[]) {
  const textOf = (id: number) => new TextDecoder().decode(engine.tokenBytes(id));
  const ids = tokens.map((token) => typeof token === "number" ? token : token.id);
  const texts = ids.map(textOf);
  let at = 0;
  return {
    tokens: texts,
    token_logprobs: tokens.map((token) => typeof token === "number" ? null : finite(token.logprob)),
    top_logprobs: tokens.map((token) =>
      typeof token === "number"
        ? null
        : Object.fromEntries(token.top.map(({ id, logprob }) => [textOf(id), finite(logprob)]))
    ),
    text_offset: texts.map((text) => (at += text.length) - text.length),
  };
}

const newId = () => `cmpl-${crypto.randomUUID().replaceAll("-", "")}`;
