/**
 * What an answer has to be: calls of tools, JSON of a schema, a text of a grammar.
 *
 * @module
 */
import { z } from "./deps.ts";
import { invalid } from "./errors.ts";

/** A function that the model may call, in OpenAI's form, which chat templates take. */
export interface Tool {
  readonly type: "function";
  readonly function: {
    readonly name: string;
    readonly description?: string | null | undefined;
    readonly parameters?: Readonly<Record<string, unknown>> | null | undefined;
  };
}

/** Whether tools are called: as the model likes, none, any, or this one. */
export type ToolChoice = "auto" | "none" | "required" | { readonly name: string };

/** What the engine is told about the form of an answer. */
export interface Structure {
  readonly tools: readonly Tool[];
  readonly toolChoice: ToolChoice;
  /** Whether several tools may be called at once. */
  readonly parallel: boolean;
}

/** Tool choice as clients send it. */
export const toolChoiceSchema = z.union([
  z.enum(["auto", "none", "required"]),
  z.looseObject({ type: z.literal("function"), function: z.looseObject({ name: z.string() }) }),
  z.looseObject({ type: z.literal("function"), name: z.string() }),
], '"auto", "none", "required" or a function was expected');

/** Undefined for a plain answer. Throws an ApiError for a tool that is not there. */
export function structureOf({ tools, toolChoice = "auto", parallel }: {
  readonly tools: readonly Tool[];
  readonly toolChoice?: z.infer<typeof toolChoiceSchema> | undefined;
  readonly parallel: boolean;
}): Structure | undefined {
  const choice: ToolChoice = typeof toolChoice === "string"
    ? toolChoice
    : { name: "function" in toolChoice ? (toolChoice.function as { name: string }).name : toolChoice.name };
  if (tools.length === 0) {
    if (choice === "auto" || choice === "none") return undefined;
    throw invalid("Cannot require a tool: there are none: give tools", "tool_choice");
  }
  const names = tools.map((tool) => tool.function.name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw invalid(`Cannot use two tools of the name "${twice}": rename one`, "tools");
  if (typeof choice === "object" && !names.includes(choice.name)) {
    throw invalid(`Cannot call "${choice.name}": the tools are ${names.join(", ")}`, "tool_choice");
  }
  return choice === "none" ? undefined : { tools, toolChoice: choice, parallel };
}
