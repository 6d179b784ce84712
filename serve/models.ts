/**
 * GET /v1/models: what is served, with its context in every form that clients look for.
 *
 * @module
 */
import type { ServerContext } from "./context.ts";
import { ApiError } from "./errors.ts";

/** The entries of /v1/models. */
function entries(context: ServerContext) {
  const engine = context.engine(), { info, encoderInfo, encoderId, contextLength } = engine;
  const length = Number.isFinite(contextLength) ? contextLength : undefined;
  const names = [...context.settings.aliases, engine.id];
  const common = { object: "model", created: engine.created, owned_by: "lakh" };
  const writer = {
    context_length: length,
    max_model_len: length,
    meta: {
      n_ctx: length,
      n_ctx_train: info.facts.contextLength,
      n_vocab: info.facts.vocabulary,
      n_embd: info.facts.hiddenSize,
      n_params: info.parameters,
      size: info.bytes,
    },
    lakh: {
      model_type: info.modelType,
      kind: info.kind,
      chat: info.chat,
      device: info.device,
      threads: info.threads,
      weights: info.weights,
      cache: info.cache,
    },
  };
  const models: Record<string, unknown>[] = [...new Set(names)].map((id) => ({ id, ...common, ...writer }));
  if (encoderInfo && encoderId !== undefined) {
    const { contextLength: longest, facts, parameters, bytes } = encoderInfo;
    models.push({
      id: encoderId,
      ...common,
      context_length: longest,
      max_model_len: longest,
      meta: {
        n_ctx: longest,
        n_ctx_train: facts.contextLength,
        n_vocab: facts.vocabulary,
        n_embd: facts.hiddenSize,
        n_params: parameters,
        size: bytes,
      },
    });
  }
  return models;
}

export function listModels(context: ServerContext): Response {
  return Response.json({ object: "list", data: entries(context) });
}

export function getModel(id: string, context: ServerContext): Response {
  const found = entries(context).find((entry) => entry.id === id);
  if (!found) throw unknownModel(id, context);
  return Response.json(found);
}

/** The name under which the answer goes out. Throws an ApiError for a model that is not served. */
export function answeringModel(asked: string | undefined, context: ServerContext): string {
  const { aliases } = context.settings, { id } = context.engine();
  if (asked === undefined || asked === "") return aliases[0] ?? id;
  if (asked === id || aliases.includes(asked)) return asked;
  throw unknownModel(asked, context);
}

/** The same for the encoder. */
export function embeddingModel(asked: string | undefined, context: ServerContext): string {
  const { encoderId = "" } = context.engine();
  if (asked === undefined || asked === "" || asked === encoderId || encoderId === "") return encoderId;
  if (context.settings.aliases.includes(asked)) return asked;
  throw unknownModel(asked, context);
}

function unknownModel(asked: string, context: ServerContext): ApiError {
  const names = entries(context).map(({ id }) => `"${id}"`).join(", ");
  return new ApiError(
    404,
    `Cannot find the model "${asked}": this server has ${names}: ask for one of them, or start lakh serve with ` +
      `--alias ${asked}`,
    { type: "not_found_error", code: "model_not_found", param: "model" },
  );
}
