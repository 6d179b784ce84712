/**
 * What an answer has to be: calls of tools, JSON of a schema, a text of a grammar.
 *
 * @module
 */
import type { AnswerOptions } from "../runtime/structured_answer.ts";
import { chosenTools, type Tool, type ToolChoice } from "../runtime/text/tools.ts";
import { z } from "./deps.ts";
import { invalid } from "./errors.ts";

/** Tool choice as clients send it. */
export const toolChoiceSchema = z.union([
  z.enum(["auto", "none", "required"]),
  z.looseObject({ type: z.literal("function"), function: z.looseObject({ name: z.string() }) }),
  z.looseObject({ type: z.literal("function"), name: z.string() }),
], '"auto", "none", "required" or a function was expected');

const schema = z.record(z.string(), z.unknown());

/** Format of an answer as clients send it; llama.cpp's have the schema beside the type. */
export const formatSchema = z.union([
  z.looseObject({ type: z.literal("text") }),
  z.looseObject({ type: z.literal("json_object"), schema: schema.optional() }),
  z.looseObject({
    type: z.literal("json_schema"),
    json_schema: z.looseObject({ name: z.string().optional(), schema }).optional(),
    schema: schema.optional(),
  }),
], 'a type of "text", "json_object" or "json_schema" (with a schema) was expected');

/** Fields of the body that say it. */
export const grammarFields = {
  response_format: formatSchema.optional(),
  regex: z.string().min(1).optional().describe("the answer matches this regular expression"),
  grammar: z.string().min(1).optional().describe("the answer is a text of this Lark grammar"),
} as const;

/** Fields that an answer to a conversation has beside its text. */
export type Structure = AnswerOptions;

/** What the fields say; undefined for any text. Throws an ApiError for a tool that is not there. */
export function structureOf({ tools = [], toolChoice = "auto", parallel = true, ...fields }: {
  readonly tools?: readonly Tool[] | undefined;
  readonly toolChoice?: z.infer<typeof toolChoiceSchema> | undefined;
  readonly parallel?: boolean | undefined;
  readonly response_format?: z.infer<typeof formatSchema> | undefined;
  readonly regex?: string | undefined;
  readonly grammar?: string | undefined;
}): Structure | undefined {
  const choice: ToolChoice = typeof toolChoice === "string"
    ? toolChoice
    : { name: "function" in toolChoice ? (toolChoice.function as { name: string }).name : toolChoice.name };
  let chosen;
  try {
    chosen = chosenTools(tools, choice);
  } catch (error) {
    throw invalid((error as Error).message, tools.length === 0 ? "tool_choice" : "tools");
  }
  const { response_format: format, regex, grammar } = fields;
  const structure: Structure = {
    ...(chosen.length > 0 && { tools, toolChoice: choice, parallelTools: parallel }),
    ...(format && format.type !== "text" && { schema: schemaOf(format) }),
    ...(regex !== undefined && { regex }),
    ...(grammar !== undefined && { grammar }),
  };
  return Object.keys(structure).length > 0 ? structure : undefined;
}

function schemaOf(format: z.infer<typeof formatSchema>): Readonly<Record<string, unknown>> | true {
  const inner = format.json_schema as { schema: Readonly<Record<string, unknown>> } | undefined;
  const found = inner?.schema ?? format.schema as Readonly<Record<string, unknown>> | undefined;
  if (found) return found;
  if (format.type === "json_object") return true;
  throw invalid(
    "Cannot keep to a JSON schema: it is missing: give response_format.json_schema.schema",
    "response_format.json_schema",
  );
}
