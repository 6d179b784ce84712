/**
 * POST /tokenize, /detokenize and /apply-template, in llama.cpp's form.
 *
 * @module
 */
import { encodeConversation, messageSchema, templateFields, templateMessages } from "./conversation.ts";
import type { ServerContext } from "./context.ts";
import { z } from "./deps.ts";
import { check, readObject } from "./request.ts";

/** The body of /tokenize. */
export const tokenizeSchema = z.object({
  content: z.string(),
  add_special: z.boolean().default(false).describe("with the tokens that stand around a text"),
  with_pieces: z.boolean().default(false).describe(
    "each token's text too, or its bytes where they are no text",
  ),
});

/** The body of /detokenize. */
export const detokenizeSchema = z.object({ tokens: z.array(z.int().min(0)) });

/** The body of /apply-template. */
export const templateSchema = z.object({
  ...templateFields,
  messages: z.array(messageSchema).min(1),
});

export async function tokenize(request: Request, context: ServerContext): Promise<Response> {
  const engine = context.engine();
  const { content, add_special, with_pieces } = check(
    tokenizeSchema,
    await readObject(request, context.guard),
  );
  const ids = [...engine.encode(content, { special: add_special })];
  if (!with_pieces) return Response.json({ tokens: ids });
  return Response.json({
    tokens: ids.map((id) => {
      const bytes = engine.tokenBytes(id);
      try {
        return { id, piece: new TextDecoder("utf-8", { fatal: true }).decode(bytes) };
      } catch {
        return { id, piece: [...bytes] };
      }
    }),
  });
}

export async function detokenize(request: Request, context: ServerContext): Promise<Response> {
  const engine = context.engine();
  const { tokens } = check(detokenizeSchema, await readObject(request, context.guard));
  engine.checkIds(tokens, "tokens");
  return Response.json({ content: engine.decode(tokens, { special: true }) });
}

export async function applyTemplate(request: Request, context: ServerContext): Promise<Response> {
  const engine = context.engine();
  const body = check(templateSchema, await readObject(request, context.guard));
  const ids = encodeConversation(engine, templateMessages(body.messages), { fields: body });
  return Response.json({ prompt: engine.decode(ids, { special: true }), tokens: ids.length });
}
