/**
 * Bodies of requests: read within limits, parsed, and checked against a schema.
 *
 * @module
 */
import type { z } from "./deps.ts";
import { asInvalid, invalid } from "./errors.ts";
import type { Guard } from "./guard.ts";

/** The fields of a JSON body. What is null counts as left out: clients send many such. */
export async function readObject(request: Request, guard: Guard): Promise<Record<string, unknown>> {
  const bytes = await guard.body(request);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw invalid(`Cannot read the request: its body is no JSON: ${(error as Error).message}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid("Cannot read the request: its body is no JSON object");
  }
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null));
}

/** The body as the schema says. Throws an ApiError that names the field which is wrong. */
export function check<S extends z.ZodType>(schema: S, body: unknown): z.infer<S> {
  let result;
  try {
    result = schema.safeParse(body);
  } catch (error) {
    // A body that nests deeper than the stack.
    if (error instanceof RangeError) throw invalid("Cannot read the request: it nests too deeply");
    throw error;
  }
  if (!result.success) throw asInvalid(result.error);
  return result.data;
}
