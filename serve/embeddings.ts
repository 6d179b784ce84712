/**
 * POST /v1/embeddings and /v1/rerank: vectors of texts, and texts in the order of their nearness to a
 * question.
 *
 * Vectors have length 1, so that their product is the cosine, whatever clients do with them.
 *
 * @module
 */
import type { ServerContext } from "./context.ts";
import { z } from "./deps.ts";
import { invalid } from "./errors.ts";
import { embeddingModel } from "./models.ts";
import { check, readObject } from "./request.ts";

/** Texts of one request. */
const MOST_TEXTS = 2048;

const id = z.int().min(0).max(2 ** 31);
const text = z.string().min(1, "a text of at least one character was expected");

/** The body of /v1/embeddings. */
export const embeddingSchema = z.object({
  model: z.string().optional(),
  input: z.union([
    text,
    z.array(text).min(1).max(MOST_TEXTS),
    z.array(id).min(1),
    z.array(z.union([text, z.array(id).min(1)])).min(1).max(MOST_TEXTS),
  ], `a text, ids, or a list of up to ${MOST_TEXTS} of them was expected, none of them empty`),
  encoding_format: z.enum(["float", "base64"]).default("float").describe(
    "base64: the bytes of little-endian 32-bit floats",
  ),
  dimensions: z.int().min(1).optional(),
});

/** The body of /v1/rerank, also in the form of text-embeddings-inference, whose documents are `texts`. */
export const rerankSchema = z.object({
  model: z.string().optional(),
  query: text,
  documents: z.array(z.union([text, z.looseObject({ text })], "a text was expected")).min(1).max(MOST_TEXTS)
    .optional(),
  texts: z.array(text).min(1).max(MOST_TEXTS).optional(),
  top_n: z.int().min(1).optional(),
  return_documents: z.boolean().default(false),
  return_text: z.boolean().default(false),
});

export async function embed(request: Request, context: ServerContext): Promise<Response> {
  const engine = context.engine();
  const { model, input, encoding_format, dimensions } = check(
    embeddingSchema,
    await readObject(request, context.guard),
  );
  const size = engine.encoderInfo?.facts.hiddenSize;
  if (dimensions !== undefined && size !== undefined && dimensions !== size) {
    throw invalid(
      `Cannot give vectors of ${dimensions} numbers: this model's have ${size}: leave dimensions out`,
      "dimensions",
    );
  }
  const name = embeddingModel(model, context);
  const one = typeof input === "string" || input.every((item) => typeof item === "number");
  const texts = (one ? [input] : input) as (string | number[])[];
  const { vectors, tokens } = await engine.embed(
    texts.map((text) => typeof text === "string" ? text : Uint32Array.from(text)),
    { signal: context.signalOf(request) },
  );
  context.metrics.read(tokens);
  return Response.json({
    object: "list",
    model: name,
    data: vectors.map((vector, index) => ({
      object: "embedding",
      index,
      embedding: encoding_format === "base64" ? base64Of(vector) : [...vector],
    })),
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  });
}

/** Little-endian, whatever this machine is. */
function base64Of(vector: Float32Array): string {
  const bytes = new Uint8Array(vector.length * 4), view = new DataView(bytes.buffer);
  vector.forEach((x, i) => view.setFloat32(i * 4, x, true));
  return bytes.toBase64();
}

export async function rerank(request: Request, context: ServerContext): Promise<Response> {
  const engine = context.engine();
  const body = check(rerankSchema, await readObject(request, context.guard));
  const { query, documents, texts, top_n, model } = body;
  if ((documents === undefined) === (texts === undefined)) {
    throw invalid("Cannot rank: give documents (or texts), a list of texts", "documents");
  }
  const name = embeddingModel(model, context);
  const all = texts ?? documents!.map((document) => typeof document === "string" ? document : document.text);
  const { vectors: [question, ...vectors], tokens } = await engine.embed([query, ...all], {
    signal: context.signalOf(request),
  });
  context.metrics.read(tokens);
  const ranked = vectors
    .map((vector, index) => ({ index, score: vector.reduce((sum, x, i) => sum + x * question![i]!, 0) }))
    .sort((a, b) => b.score - a.score || a.index - b.index)
    .slice(0, top_n);
  if (texts) {
    return Response.json(
      ranked.map(({ index, score }) => ({ index, score, ...(body.return_text && { text: texts[index] }) })),
    );
  }
  return Response.json({
    object: "list",
    model: name,
    results: ranked.map(({ index, score }) => ({
      index,
      relevance_score: score,
      ...(body.return_documents && { document: { text: all[index] } }),
    })),
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  });
}
