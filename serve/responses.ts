/**
 * POST /v1/responses: OpenAI's newer API, without state: a request brings the whole conversation.
 *
 * @module
 */
import type { Message } from "../runtime/text/chat_template.ts";
import { now } from "./chat.ts";
import { contentSchema, encodeConversation, templateMessages, textOf } from "./conversation.ts";
import type { ServerContext } from "./context.ts";
import { z } from "./deps.ts";
import type { Asked, Engine } from "./engine.ts";
import { asApiError, invalid } from "./errors.ts";
import type { Tool } from "../runtime/text/tools.ts";
import { answeringModel } from "./models.ts";
import { check, readObject } from "./request.ts";
import { type Events, eventStream } from "./sse.ts";
import { formatSchema, structureOf, toolChoiceSchema } from "./structure.ts";
import { Answer, progressOf, usageOf, writeAll } from "./writing.ts";

const message = z.looseObject({
  type: z.literal("message").optional(),
  role: z.enum(["system", "developer", "user", "assistant"]),
  content: contentSchema,
});
const call = z.looseObject({
  type: z.literal("function_call"),
  call_id: z.string(),
  name: z.string(),
  arguments: z.string(),
});
const callOutput = z.looseObject({
  type: z.literal("function_call_output"),
  call_id: z.string(),
  output: contentSchema,
});
const reasoning = z.looseObject({ type: z.literal("reasoning") });
const item = z.union(
  [call, callOutput, reasoning, message],
  "a message, call, output or reasoning was expected",
);

const tool = z.looseObject({
  type: z.literal("function", 'the only tools are of type "function"'),
  name: z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/),
  description: z.string().nullish(),
  parameters: z.record(z.string(), z.unknown()).nullish(),
});

/** The body of /v1/responses. */
export const responsesSchema = z.object({
  model: z.string().optional(),
  input: z.union([z.string(), z.array(item).min(1)], "a text or a list of items was expected"),
  instructions: z.string().optional(),
  max_output_tokens: z.int().min(1).max(2 ** 31).optional(),
  temperature: z.number().min(0).max(100).optional(),
  top_p: z.number().min(0).max(1).optional(),
  stream: z.boolean().default(false),
  tools: z.array(tool).default([]),
  tool_choice: toolChoiceSchema.default("auto"),
  parallel_tool_calls: z.boolean().default(true),
  text: z.looseObject({ format: formatSchema.optional() }).optional(),
  reasoning: z.looseObject({ effort: z.string().nullish() }).optional(),
  metadata: z.record(z.string(), z.string()).optional(),
  seed: z.int().optional().describe("not OpenAI's: the same seed gives the same answer"),
});
type ResponsesRequest = z.infer<typeof responsesSchema>;

/** What needs state or changes the answer, with what it may be nevertheless. */
const UNSUPPORTED: Readonly<Record<string, readonly unknown[]>> = {
  previous_response_id: [],
  conversation: [],
  background: [false],
  prompt: [],
  truncation: ["disabled"],
  max_tool_calls: [],
};

function refuse(body: Readonly<Record<string, unknown>>): void {
  for (const [field, harmless] of Object.entries(UNSUPPORTED)) {
    if (!Object.hasOwn(body, field) || harmless.includes(body[field])) continue;
    const instead = field === "previous_response_id" || field === "conversation"
      ? "this server keeps no state: send the whole conversation as input"
      : "leave it out";
    throw invalid(`Cannot use "${field}": it is not supported: ${instead}`, field);
  }
}

function conversationOf({ input, instructions }: ResponsesRequest): Message[] {
  const messages: Parameters<typeof templateMessages>[0][number][] = [];
  if (instructions !== undefined) messages.push({ role: "system", content: instructions });
  if (typeof input === "string") messages.push({ role: "user", content: input });
  else {
    for (const [i, one] of input.entries()) {
      if (one.type === "function_call") {
        const { call_id: id, name, arguments: text } = one as z.infer<typeof call>;
        const asked = { id, type: "function" as const, function: { name, arguments: text } };
        const last = messages.at(-1);
        // Calls that follow each other, or what was said, are of one turn.
        if (last?.role === "assistant") {
          messages[messages.length - 1] = { ...last, tool_calls: [...last.tool_calls ?? [], asked] };
        } else messages.push({ role: "assistant", content: "", tool_calls: [asked] });
      } else if (one.type === "function_call_output") {
        const { call_id: tool_call_id, output } = one as z.infer<typeof callOutput>;
        messages.push({ role: "tool", tool_call_id, content: textOf(output, `input.${i}.output`) });
      } else if (one.type !== "reasoning") {
        const { role, content } = one as z.infer<typeof message>;
        messages.push({ role, content: textOf(content, `input.${i}.content`) });
      }
    }
  }
  if (messages.length === 0) throw invalid("Cannot answer: the input has no message", "input");
  return templateMessages(messages);
}

async function askedOf(engine: Engine, body: ResponsesRequest, signal: AbortSignal): Promise<Asked> {
  const tools = body.tools.map(({ name, description, parameters }): Tool => ({
    type: "function",
    function: { name, ...(description && { description }), parameters },
  }));
  const structure = structureOf({
    tools,
    toolChoice: body.tool_choice,
    parallel: body.parallel_tool_calls,
    response_format: body.text?.format,
  });
  const effort = body.reasoning?.effort;
  const prompt = encodeConversation(engine, conversationOf(body), {
    tools: structure?.tools,
    fields: { continue_final_message: false, ...(effort && { reasoning_effort: effort }) },
  });
  await engine.check({ prompt, turn: true, structure });
  const { temperature, top_p: topP, seed } = body;
  return {
    prompt,
    turn: true,
    structure,
    options: Object.fromEntries(
      Object.entries({ temperature, topP, seed }).filter(([, value]) => value !== undefined),
    ),
    maxTokens: body.max_output_tokens,
    signal,
  };
}

export async function respond(request: Request, context: ServerContext): Promise<Response> {
  const engine = context.engine();
  const object = await readObject(request, context.guard);
  refuse(object);
  const body = check(responsesSchema, object);
  const model = answeringModel(body.model, context);
  const stopping = new AbortController();
  const signals = [stopping.signal, body.stream ? context.ending : context.signalOf(request)];
  const events = writeAll(engine, [{
    ...await askedOf(engine, body, AbortSignal.any(signals)),
    owner: context.guard.ownerOf(request),
  }], context.metrics);
  const started = performance.now();
  const writer = new ResponseWriter(body, model);
  if (!body.stream) {
    for await (const event of events) writer.add(event);
    return Response.json(writer.finished());
  }
  return eventStream(async (out, gone) => {
    gone.addEventListener("abort", () => stopping.abort(gone.reason));
    writer.tellTo(out);
    for await (const event of events) {
      if (event.kind === "reading") {
        writer.tell("response.in_progress", {
          response: { ...writer.response("in_progress"), prompt_progress: progressOf(event, started) },
        });
      } else writer.add(event);
    }
    context.ending.throwIfAborted();
    const response = writer.finished();
    writer.tell(response.status === "completed" ? "response.completed" : "response.incomplete", { response });
  }, {
    pingSeconds: context.settings.pingSeconds,
    onError: (error) => {
      const { message, details } = asApiError(error);
      writer.tell("error", { message, code: details.code ?? null, param: details.param ?? null });
    },
  });
}

interface Item {
  readonly id: string;
  readonly type: string;
  readonly [field: string]: unknown;
}

/** Gathers an answer as items, and tells of each step if someone listens. */
class ResponseWriter {
  readonly #body: ResponsesRequest;
  readonly #model: string;
  readonly #id = newId("resp");
  readonly #created = now();
  readonly #answer = new Answer();
  readonly #output: Item[] = [];
  #out: Events | undefined;
  #number = 0;
  /** The item that is being written. */
  #open: { readonly key: unknown; readonly id: string; text: string } | undefined;

  constructor(body: ResponsesRequest, model: string) {
    this.#body = body;
    this.#model = model;
  }

  /** From now on each step is reported. */
  tellTo(out: Events): void {
    this.#out = out;
    this.tell("response.created", { response: this.response("in_progress") });
    this.tell("response.in_progress", { response: this.response("in_progress") });
  }

  tell(type: string, fields: object): void {
    this.#out?.send({ type, sequence_number: this.#number++, ...fields }, type);
  }

  add(event: Parameters<Answer["add"]>[0]): void {
    this.#answer.add(event);
    if (event.kind === "done") return;
    if (event.kind === "call") this.#turnTo(event.call);
    else if (event.kind === "text") this.#turnTo("message");
    else if (event.kind === "reasoning") this.#turnTo("reasoning");
    if (event.kind === "reading" || event.kind === "call") return;
    const open = this.#open!;
    open.text += event.text;
    const at = { item_id: open.id, output_index: this.#output.length };
    const part = { ...at, content_index: 0, delta: event.text };
    if (event.kind === "text") this.tell("response.output_text.delta", { ...part, logprobs: [] });
    else if (event.kind === "reasoning") this.tell("response.reasoning_text.delta", part);
    else this.tell("response.function_call_arguments.delta", { ...at, delta: event.text });
  }

  /** The whole response, when all is written. */
  finished() {
    // An answer without a word is a message without one.
    if (this.#output.length === 0 && !this.#open) this.#turnTo("message");
    this.#close();
    return this.response(this.#answer.finishReason === "length" ? "incomplete" : "completed");
  }

  response(status: "in_progress" | "completed" | "incomplete") {
    const body = this.#body, { done } = this.#answer;
    const usage = done && usageOf([this.#answer]);
    return {
      id: this.#id,
      object: "response",
      created_at: this.#created,
      status,
      background: false,
      error: null,
      incomplete_details: status === "incomplete" ? { reason: "max_output_tokens" } : null,
      instructions: body.instructions ?? null,
      max_output_tokens: body.max_output_tokens ?? null,
      model: this.#model,
      output: [...this.#output],
      parallel_tool_calls: body.parallel_tool_calls,
      previous_response_id: null,
      reasoning: { effort: body.reasoning?.effort ?? null, summary: null },
      store: false,
      temperature: body.temperature ?? null,
      text: { format: body.text?.format ?? { type: "text" } },
      tool_choice: body.tool_choice,
      tools: body.tools,
      top_p: body.top_p ?? null,
      truncation: "disabled",
      usage: usage
        ? {
          input_tokens: usage.prompt_tokens,
          input_tokens_details: usage.prompt_tokens_details,
          output_tokens: usage.completion_tokens,
          output_tokens_details: { reasoning_tokens: 0 },
          total_tokens: usage.total_tokens,
        }
        : null,
      user: null,
      metadata: body.metadata ?? {},
    };
  }

  /** Ends the item that is open and begins another, unless it is `key`'s already. */
  #turnTo(key: "message" | "reasoning" | number): void {
    if (this.#open?.key === key) return;
    this.#close();
    const open = this.#open = {
      key,
      id: newId(key === "message" ? "msg" : key === "reasoning" ? "rs" : "fc"),
      text: "",
    };
    const at = { output_index: this.#output.length };
    const item = this.#item("in_progress");
    // Its content comes in parts.
    this.tell("response.output_item.added", {
      ...at,
      item: typeof key === "number" ? item : { ...item, content: [] },
    });
    if (key === "message") {
      this.tell("response.content_part.added", {
        ...at,
        item_id: open.id,
        content_index: 0,
        part: textPart(""),
      });
    }
  }

  #close(): void {
    if (!this.#open) return;
    const { key, id, text } = this.#open;
    const at = { item_id: id, output_index: this.#output.length };
    if (key === "message") {
      this.tell("response.output_text.done", { ...at, content_index: 0, text, logprobs: [] });
      this.tell("response.content_part.done", { ...at, content_index: 0, part: textPart(text) });
    } else if (key === "reasoning") {
      this.tell("response.reasoning_text.done", { ...at, content_index: 0, text });
    } else {
      const { name } = this.#answer.calls[key as number]!;
      this.tell("response.function_call_arguments.done", { ...at, name, arguments: text });
    }
    const item = this.#item("completed");
    this.tell("response.output_item.done", { output_index: this.#output.length, item });
    this.#output.push(item);
    this.#open = undefined;
  }

  /** The item that is open. */
  #item(status: "in_progress" | "completed"): Item {
    const { key, id, text } = this.#open!;
    if (key === "message") {
      return { id, type: "message", status, role: "assistant", content: [textPart(text)] };
    }
    if (key === "reasoning") {
      return { id, type: "reasoning", summary: [], content: [{ type: "reasoning_text", text }] };
    }
    const { id: call_id, name } = this.#answer.calls[key as number]!;
    return { id, type: "function_call", status, call_id, name, arguments: text };
  }
}

const textPart = (text: string) => ({ type: "output_text", text, annotations: [], logprobs: [] });

const newId = (kind: string) => `${kind}_${crypto.randomUUID().replaceAll("-", "")}`;
