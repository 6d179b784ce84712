/**
 * /v1/sessions: texts that were read, in files, so that a document is read once and asked about tomorrow.
 *
 * @module
 */
import { encodeConversation, messageSchema, templateFields, templateMessages } from "./conversation.ts";
import type { ServerContext } from "./context.ts";
import { z } from "./deps.ts";
import { ApiError, invalid, notSupported } from "./errors.ts";
import { check, readObject } from "./request.ts";

/** The body of POST /v1/sessions. */
export const sessionSchema = z.object({
  ...templateFields,
  name: z.string().regex(
    /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/,
    "a name of letters, digits, _, - and . was expected, at most 100 of them",
  ),
  prompt: z.string().min(1).optional().describe("the text to read"),
  messages: z.array(messageSchema).min(1).optional().describe("or the conversation"),
});

const EXTENSION = ".lakh";

function folderOf({ settings: { sessions } }: ServerContext): string {
  if (sessions !== undefined) return sessions;
  throw notSupported("Cannot keep sessions: start lakh serve with --sessions DIR");
}

function pathOf(name: string, context: ServerContext): string {
  const folder = folderOf(context);
  const { success } = sessionSchema.shape.name.safeParse(name);
  if (!success) throw invalid(`Cannot use "${name}" as the name of a session`, "name");
  return `${folder}/${name}${EXTENSION}`;
}

export async function listSessions(_: Request, context: ServerContext): Promise<Response> {
  const folder = folderOf(context);
  const data = [];
  for await (const { name, isFile } of Deno.readDir(folder)) {
    if (!isFile || !name.endsWith(EXTENSION)) continue;
    const { size, mtime } = await Deno.stat(`${folder}/${name}`);
    const created = Math.floor((mtime?.getTime() ?? 0) / 1000);
    data.push({ id: name.slice(0, -EXTENSION.length), object: "session", created, bytes: size });
  }
  return Response.json({ object: "list", data: data.sort((a, b) => a.id < b.id ? -1 : 1) });
}

/** Reads a text, unless it is read already, and saves it with its keys and values. */
export async function saveSession(request: Request, context: ServerContext): Promise<Response> {
  const engine = context.engine();
  folderOf(context);
  const body = check(sessionSchema, await readObject(request, context.guard));
  const { name, prompt, messages } = body;
  if ((prompt === undefined) === (messages === undefined)) {
    throw invalid("Cannot save a session: give prompt or messages", "prompt");
  }
  const ids = prompt === undefined
    ? encodeConversation(engine, templateMessages(messages!), {
      fields: { add_generation_prompt: false, ...body },
    })
    : engine.encodePrompt(prompt);
  const path = pathOf(name, context);
  const { promptTokens, reusedTokens } = await engine.save(path, {
    ids,
    content: prompt === undefined ? { messages: messages! } : { text: prompt },
    signal: context.signalOf(request),
  });
  const { size } = await Deno.stat(path);
  return Response.json({
    id: name,
    object: "session",
    bytes: size,
    usage: { prompt_tokens: promptTokens, prompt_tokens_details: { cached_tokens: reusedTokens } },
  });
}

/** Takes a text back, so that prompts which begin with it are read from its end. */
export async function restoreSession(_: Request, context: ServerContext, name: string): Promise<Response> {
  const path = pathOf(name, context);
  await exists(path, name);
  try {
    const { tokens, text, messages } = await context.engine().restore(path);
    return Response.json({
      id: name,
      object: "session",
      tokens,
      text: text ?? null,
      messages: messages ?? null,
    });
  } catch (error) {
    // A file of another model, or a damaged one: the model is as it was.
    if (error instanceof Error && error.message.startsWith("Cannot ")) throw invalid(error.message, "name");
    throw error;
  }
}

export async function deleteSession(_: Request, context: ServerContext, name: string): Promise<Response> {
  const path = pathOf(name, context);
  await exists(path, name);
  await Deno.remove(path);
  return Response.json({ id: name, object: "session", deleted: true });
}

async function exists(path: string, name: string): Promise<void> {
  try {
    await Deno.stat(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new ApiError(404, `Cannot find the session "${name}": see /v1/sessions for what there is`, {
      type: "not_found_error",
      code: "session_not_found",
      param: "name",
    });
  }
}
