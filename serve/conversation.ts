/**
 * Conversations as clients send them, and as chat templates want them.
 *
 * @module
 */
import type { Message } from "../runtime/text/chat_template.ts";
import type { Tool } from "../runtime/text/tools.ts";
import { z } from "./deps.ts";
import type { Engine } from "./engine.ts";
import { invalid } from "./errors.ts";

const textPart = z.looseObject({ type: z.enum(["text", "input_text", "output_text"]), text: z.string() });
const otherPart = z.looseObject({ type: z.string() });
/** Text, or parts of which each is one. Parts of other kinds are refused in words afterwards. */
export const contentSchema = z.union(
  [z.string(), z.array(z.union([textPart, otherPart], "a part with a type was expected"))],
  "a text or a list of parts was expected",
);

const toolCall = z.looseObject({
  id: z.string().optional(),
  type: z.literal("function").default("function"),
  function: z.looseObject({ name: z.string(), arguments: z.string().default("{}") }),
});

/** One message of OpenAI's chat. */
export const messageSchema = z.looseObject({
  role: z.enum(["system", "developer", "user", "assistant", "tool", "function"]),
  content: contentSchema.nullish(),
  name: z.string().nullish(),
  tool_calls: z.array(toolCall).nullish(),
  tool_call_id: z.string().nullish(),
  reasoning_content: z.string().nullish(),
});

/** A function that the model may call. */
export const toolSchema = z.looseObject({
  type: z.literal("function"),
  function: z.looseObject({
    name: z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/, "a name of letters, digits, _, . and - was expected"),
    description: z.string().nullish(),
    parameters: z.record(z.string(), z.unknown()).nullish(),
    strict: z.boolean().nullish(),
  }),
});

/** Fields of a conversation that all chat endpoints share. */
export const templateFields = {
  chat_template_kwargs: z.record(z.string(), z.unknown()).optional().describe(
    "more variables for the chat template, e.g. enable_thinking",
  ),
  reasoning_effort: z.string().optional().describe("a variable of the chat template"),
  enable_thinking: z.boolean().optional().describe("a variable of the chat template"),
  add_generation_prompt: z.boolean().optional(),
  continue_final_message: z.boolean().default(false).describe(
    "go on with the last message, which is the assistant's",
  ),
} as const;

const templateObject = z.object(templateFields);

/** The text of a content. Throws an ApiError that names a part which is no text. */
export function textOf(content: z.infer<typeof contentSchema> | null | undefined, param: string): string {
  if (content === undefined || content === null) return "";
  if (typeof content === "string") return content;
  return content.map((part, i) => {
    if (typeof part.text === "string") return part.text;
    throw invalid(
      `Cannot read a part of type "${part.type}": this server reads text only: leave it out, or describe it in words`,
      `${param}.${i}.type`,
    );
  }).join("");
}

/**
 * Messages as templates want them: text for contents, objects for arguments. Throws an ApiError for what is
 * no message.
 */
export function templateMessages(messages: readonly z.infer<typeof messageSchema>[]): Message[] {
  return messages.map((message, i) => {
    const param = `messages.${i}`;
    const { role, content, name, tool_calls: calls, tool_call_id: callId, reasoning_content } = message;
    const hasContent = content !== undefined && content !== null;
    if (!hasContent && !(role === "assistant" && calls && calls.length > 0)) {
      throw invalid(
        `Cannot read message ${i}: it has no content: only an assistant's with tool_calls may do without`,
        `${param}.content`,
      );
    }
    return {
      // Templates know "system"; OpenAI calls the same "developer" today.
      role: role === "developer" ? "system" : role === "function" ? "tool" : role,
      content: textOf(content, `${param}.content`),
      ...(name && { name }),
      ...(callId && { tool_call_id: callId }),
      ...(reasoning_content && { reasoning_content }),
      ...(calls && calls.length > 0 && {
        tool_calls: calls.map((call, j) => ({
          id: call.id ?? `call_${i}_${j}`,
          type: "function",
          function: { name: call.function.name, arguments: argumentsOf(call.function.arguments, param) },
        })),
      }),
    };
  });
}

function argumentsOf(text: string, param: string): unknown {
  try {
    return JSON.parse(text || "{}");
  } catch {
    throw invalid(
      `Cannot read the arguments of a tool call: they are no JSON: ${text.slice(0, 80)}`,
      `${param}.tool_calls`,
    );
  }
}

/** The ids of a conversation, up to where the model goes on. */
export function encodeConversation(
  engine: Engine,
  messages: readonly Message[],
  { tools, fields }: {
    readonly tools?: readonly Tool[] | undefined;
    readonly fields: z.infer<typeof templateObject>;
  },
): Uint32Array {
  const variables: Record<string, unknown> = {
    ...(fields.reasoning_effort !== undefined && { reasoning_effort: fields.reasoning_effort }),
    ...(fields.enable_thinking !== undefined && { enable_thinking: fields.enable_thinking }),
    ...fields.chat_template_kwargs,
  };
  if (!fields.continue_final_message) {
    const { add_generation_prompt: addGenerationPrompt } = fields;
    return engine.encodeChat(messages, {
      variables,
      ...(tools && { tools }),
      ...(addGenerationPrompt !== undefined && { addGenerationPrompt }),
    });
  }
  if (fields.add_generation_prompt) {
    throw invalid(
      "Cannot use continue_final_message and add_generation_prompt at once: leave out one of both",
      "continue_final_message",
    );
  }
  return encodePrefilled(engine, messages, variables);
}

/** The ids of a conversation whose last message, the assistant's, is gone on with. */
export function encodePrefilled(
  engine: Engine,
  messages: readonly Message[],
  variables: Readonly<Record<string, unknown>>,
): Uint32Array {
  const last = messages.at(-1);
  if (last?.role !== "assistant" || last.content === "") {
    throw invalid(
      "Cannot go on with the final message: it is not the assistant's, or empty: leave out continue_final_message",
      "continue_final_message",
    );
  }
  const text = engine.render(messages, { variables, addGenerationPrompt: false });
  const end = text.lastIndexOf(last.content.trim());
  if (end < 0) throw invalid("Cannot go on with the final message: the chat template changes it", "messages");
  const before = text.slice(0, end) + last.content.trimStart();
  return engine.encode(before, { special: engine.info.chat !== "template" });
}
