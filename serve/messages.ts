/**
 * POST /v1/messages and /v1/messages/count_tokens: Anthropic's API.
 *
 * @module
 */
import type { Message } from "../runtime/text/chat_template.ts";
import { encodeConversation, encodePrefilled } from "./conversation.ts";
import type { ServerContext } from "./context.ts";
import { z } from "./deps.ts";
import type { Asked, Engine } from "./engine.ts";
import { asApiError, type ErrorType, invalid } from "./errors.ts";
import { answeringModel } from "./models.ts";
import { check, readObject } from "./request.ts";
import { eventStream } from "./sse.ts";
import { structureOf } from "./structure.ts";
import { Answer, writeAll } from "./writing.ts";

const textBlock = z.looseObject({ type: z.literal("text"), text: z.string() });
const block = z.union([
  textBlock,
  z.looseObject({ type: z.literal("thinking"), thinking: z.string() }),
  z.looseObject({
    type: z.literal("tool_use"),
    id: z.string(),
    name: z.string(),
    input: z.record(z.string(), z.unknown()),
  }),
  z.looseObject({
    type: z.literal("tool_result"),
    tool_use_id: z.string(),
    content: z.union([z.string(), z.array(z.looseObject({ type: z.string() }))]).optional(),
    is_error: z.boolean().optional(),
  }),
  z.looseObject({ type: z.string() }),
]);
type Block = z.infer<typeof block>;

const conversationFields = {
  model: z.string().optional(),
  messages: z.array(z.looseObject({
    role: z.enum(["user", "assistant"]),
    content: z.union([z.string(), z.array(block)], "a text or a list of blocks was expected"),
  })).min(1),
  system: z.union([z.string(), z.array(textBlock)], "a text or a list of text blocks was expected")
    .optional(),
  tools: z.array(z.looseObject({
    name: z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/),
    description: z.string().nullish(),
    input_schema: z.record(z.string(), z.unknown()),
  })).optional(),
  tool_choice: z.looseObject({
    type: z.enum(["auto", "any", "tool", "none"]),
    name: z.string().optional(),
    disable_parallel_tool_use: z.boolean().optional(),
  }).optional(),
  thinking: z.looseObject({ type: z.enum(["enabled", "disabled", "adaptive"]) }).optional(),
} as const;

/** The body of /v1/messages/count_tokens. */
export const countSchema = z.object(conversationFields);

/** The body of /v1/messages. */
export const messagesSchema = z.object({
  ...conversationFields,
  max_tokens: z.int().min(1),
  stop_sequences: z.array(z.string().min(1)).optional(),
  stream: z.boolean().default(false),
  temperature: z.number().min(0).max(1).optional(),
  top_p: z.number().min(0).max(1).optional(),
  top_k: z.int().min(0).max(2 ** 31).optional(),
  seed: z.int().optional().describe("not Anthropic's: the same seed gives the same answer"),
});
type MessagesRequest = z.infer<typeof messagesSchema>;

/** Anthropic's messages as chat templates want them. */
function conversationOf({ system, messages }: Pick<MessagesRequest, "system" | "messages">): Message[] {
  const result: Message[] = [];
  if (system !== undefined) {
    const content = typeof system === "string" ? system : system.map(({ text }) => text).join("\n");
    if (content !== "") result.push({ role: "system", content });
  }
  messages.forEach(({ role, content }, i) => {
    const param = `messages.${i}.content`;
    if (typeof content === "string") result.push({ role, content });
    else if (content.length === 0) throw invalid(`Cannot read message ${i}: it has no content`, param);
    else result.push(...(role === "user" ? userTurns(content, param) : [assistantTurn(content, param)]));
  });
  return result;
}

/** Results of tools are turns of their own; what the user says follows them. */
function userTurns(blocks: readonly Block[], param: string): Message[] {
  const turns: Message[] = [];
  let text = "";
  blocks.forEach((one, i) => {
    if (one.type === "tool_result") {
      turns.push({
        role: "tool",
        tool_call_id: String(one.tool_use_id),
        content: resultText(one.content, `${param}.${i}.content`),
      });
    } else text += textOfBlock(one, `${param}.${i}`);
  });
  return text === "" && turns.length > 0 ? turns : [...turns, { role: "user", content: text }];
}

function resultText(content: unknown, param: string): string {
  if (content === undefined) return "";
  if (typeof content === "string") return content;
  return (content as Block[]).map((one, i) => textOfBlock(one, `${param}.${i}`)).join("");
}

function assistantTurn(blocks: readonly Block[], param: string): Message {
  let content = "", reasoning = "";
  const calls: unknown[] = [];
  blocks.forEach((one, i) => {
    if (one.type === "tool_use") {
      calls.push({ id: one.id, type: "function", function: { name: one.name, arguments: one.input } });
    } else if (one.type === "thinking") reasoning += one.thinking;
    else content += textOfBlock(one, `${param}.${i}`);
  });
  return {
    role: "assistant",
    content,
    ...(reasoning !== "" && { reasoning_content: reasoning }),
    ...(calls.length > 0 && { tool_calls: calls }),
  };
}

function textOfBlock(one: Block, param: string): string {
  if (one.type === "text" && typeof one.text === "string") return one.text;
  throw invalid(
    `Cannot read a block of type "${one.type}": this server reads text only: leave it out`,
    `${param}.type`,
  );
}

/** The prompt, and what the answer has to be. */
function promptOf(engine: Engine, body: z.infer<typeof countSchema>) {
  const { tools = [], tool_choice: choice, thinking } = body;
  const messages = conversationOf(body);
  const structure = structureOf({
    tools: tools.map(({ name, description, input_schema }) => ({
      type: "function" as const,
      function: { name, ...(description && { description }), parameters: input_schema },
    })),
    toolChoice: choice?.type === "any"
      ? "required"
      : choice?.type === "tool"
      ? { type: "function", function: { name: choice.name ?? "" } }
      : choice?.type,
    parallel: choice?.disable_parallel_tool_use !== true,
  });
  const fields = {
    continue_final_message: false,
    ...(thinking && { enable_thinking: thinking.type !== "disabled" }),
  };
  // Anthropic's way to begin the answer: a last message of the assistant is gone on with.
  const last = messages.at(-1)!;
  const prompt = last.role === "assistant" && last.content !== "" && last.tool_calls === undefined
    ? encodePrefilled(engine, messages, {})
    : encodeConversation(engine, messages, { tools: structure?.tools, fields });
  return { prompt, structure };
}

export async function countTokens(request: Request, context: ServerContext): Promise<Response> {
  const body = check(countSchema, await readObject(request, context.guard));
  return Response.json({ input_tokens: promptOf(context.engine(), body).prompt.length });
}

export async function messages(request: Request, context: ServerContext): Promise<Response> {
  const engine = context.engine();
  const body = check(messagesSchema, await readObject(request, context.guard));
  const model = answeringModel(body.model, context);
  const { prompt, structure } = promptOf(engine, body);
  await engine.check({ prompt, turn: true, structure });
  const stopping = new AbortController();
  const signals = [stopping.signal, body.stream ? context.ending : context.signalOf(request)];
  const { temperature, top_p: topP, top_k: topK, seed, stop_sequences: stop } = body;
  const asked: Asked = {
    prompt,
    turn: true,
    structure,
    options: Object.fromEntries(
      Object.entries({ temperature, topP, topK, seed, stop }).filter(([, value]) => value !== undefined),
    ),
    maxTokens: body.max_tokens,
    owner: context.guard.ownerOf(request),
    signal: AbortSignal.any(signals),
  };
  const events = writeAll(engine, [asked], context.metrics);
  const message = {
    id: `msg_${crypto.randomUUID().replaceAll("-", "")}`,
    type: "message",
    role: "assistant",
    model,
  };
  const answer = new Answer();
  if (!body.stream) {
    for await (const event of events) answer.add(event);
    return Response.json({
      ...message,
      content: contentOf(answer),
      ...endOf(answer),
      usage: usageOf(answer),
    });
  }
  return eventStream(async ({ send }, gone) => {
    gone.addEventListener("abort", () => stopping.abort(gone.reason));
    const tell = (data: { readonly type: string }) => send(data, data.type);
    const usage = { input_tokens: prompt.length, output_tokens: 0 };
    const start = { ...message, content: [], stop_reason: null, stop_sequence: null, usage };
    tell({ type: "message_start", ...{ message: start } });
    let index = -1, open: unknown;
    /** Ends the block that is open and begins another, unless it is `key`'s already. */
    const turnTo = (key: unknown, block: unknown) => {
      if (key === open) return;
      if (open !== undefined) tell({ type: "content_block_stop", ...{ index } });
      open = key;
      if (key !== undefined) {
        tell({ type: "content_block_start", ...{ index: ++index, content_block: block } });
      }
    };
    const add = (delta: unknown) => tell({ type: "content_block_delta", ...{ index, delta } });
    for await (const event of events) {
      answer.add(event);
      if (event.kind === "reading") tell({ type: "ping" });
      else if (event.kind === "text") {
        turnTo("text", { type: "text", text: "" });
        add({ type: "text_delta", text: event.text });
      } else if (event.kind === "reasoning") {
        turnTo("thinking", { type: "thinking", thinking: "", signature: "" });
        add({ type: "thinking_delta", thinking: event.text });
      } else if (event.kind === "call") {
        const { id, name } = answer.calls[event.call]!;
        turnTo(event.call, { type: "tool_use", id: toolId(id), name, input: {} });
      } else if (event.kind === "arguments") add({ type: "input_json_delta", partial_json: event.text });
    }
    context.ending.throwIfAborted();
    turnTo(undefined, undefined);
    tell({ type: "message_delta", ...{ delta: endOf(answer), usage: usageOf(answer) } });
    tell({ type: "message_stop" });
  }, {
    pingSeconds: context.settings.pingSeconds,
    onError: (error, { send }) => {
      const { message, details } = asApiError(error);
      send({ type: "error", error: { type: anthropicType(details.type), message } }, "error");
    },
  });
}

const toolId = (id: string) => id.replace(/^call_/, "toolu_");

function contentOf({ text, reasoning, calls }: Answer) {
  return [
    ...(reasoning === "" ? [] : [{ type: "thinking", thinking: reasoning, signature: "" }]),
    ...(text === "" && calls.length > 0 ? [] : [{ type: "text", text }]),
    ...calls.map(({ id, name, arguments: input }) => ({
      type: "tool_use",
      id: toolId(id),
      name,
      input: objectOf(input),
    })),
  ];
}

/** Arguments that were cut by the length are no JSON. */
function objectOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

function endOf(answer: Answer) {
  const stop_reason = answer.finishReason === "length"
    ? "max_tokens"
    : answer.finishReason === "tool_calls"
    ? "tool_use"
    : answer.stop !== undefined
    ? "stop_sequence"
    : "end_turn";
  return { stop_reason, stop_sequence: stop_reason === "stop_sequence" ? answer.stop : null };
}

/** Tokens that were read before are counted apart. */
function usageOf({ done }: Answer) {
  const { promptTokens, reusedTokens, tokens } = done!;
  return {
    input_tokens: promptTokens - reusedTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: reusedTokens,
    output_tokens: tokens,
  };
}

/** Anthropic's word for a kind of error. */
export function anthropicType(type: ErrorType): string {
  switch (type) {
    case "server_error":
      return "api_error";
    case "unavailable_error":
      return "overloaded_error";
    case "not_supported_error":
      return "invalid_request_error";
    default:
      return type;
  }
}
