/**
 * Files and a device become a model: config → definition → weights → tokenizer → ready.
 *
 * @module
 */
import type { Device } from "./device/device.ts";
import { checkSameTokens } from "./write/draft_model.ts";
import { checkWindow, type EndlessWindow } from "./write/endless_window.ts";
import { EncoderModel } from "./encoder_model.ts";
import { chatStopIdsOf, generationDefaultsOf, stopIdsOf } from "./write/generation_config.ts";
import { LanguageModel } from "./language_model.ts";
import type { ModelInfo } from "./model_info.ts";
import { fitting, readConfig } from "./load/config.ts";
import type { Files } from "./load/files.ts";
import { Fingerprint } from "./load/fingerprint.ts";
import { type Checkpoint, openCheckpoint } from "./load/safetensors.ts";
import { createWeights, type WeightChoice } from "./load/weights.ts";
import type { Decoder, Encoder, Model, Seq2Seq } from "./models/model.ts";
import { findModel, modelTypeOf } from "./models/registry.ts";
import type { OnProgress } from "./progress.ts";
import { readSentenceConfig } from "./sentence_config.ts";
import { type CacheChoice, chooseCacheDType } from "./write/sequence.ts";
import { openChatTemplate } from "./text/chat_template.ts";
import { readJsonFile } from "./text/json_file.ts";
import { openTokenizer } from "./text/tokenizer.ts";

/** How a model is loaded. */
export interface LoadModelOptions {
  /** Format of weight matrices in memory. "auto" (default): f32 for small models, q8 for others. */
  readonly weights?: WeightChoice;
  /** Format of keys and values in memory. "auto" (default): q8 beside q8 and q4 weights, else f32. */
  readonly cache?: CacheChoice;
  /**
   * Tokens of prompt and answer together at most; of the text that an encoder reads. Default: what the model
   * was trained on. More than that works with models whose positions can be computed beyond it, well with
   * ALiBi and badly with most others.
   */
  readonly contextLength?: number;
  /**
   * Texts without an end in memory of a fixed size: the first tokens stay, the last ones are held, what lies
   * between leaves (https://arxiv.org/abs/2309.17453). Takes the place of contextLength. A RangeError says
   * which models cannot.
   */
  readonly window?: EndlessWindow;
  /** Texts that may wait for room in memory; one more is a QueueFullError. Default: as many as come. */
  readonly maxQueue?: number;
  /**
   * A smaller decoder with the same tokenizer that guesses ahead (`speculate: "draft"`, then the default).
   */
  readonly draft?: Files;
  /** Why this device, in words; told in `info`. */
  readonly deviceReason?: string;
  /** Told while weights are loaded. */
  readonly onProgress?: OnProgress;
  /** Stops loading; `loadModel` throws its reason. */
  readonly signal?: AbortSignal;
}

/**
 * Loads a checkpoint that writes onto a device that is open. The model owns the device from then on; when
 * loading fails, the caller still does. Throws an Error in words when files are missing, damaged or of a kind
 * that is not supported.
 */
export async function loadModel(
  files: Files,
  device: Device,
  options: LoadModelOptions = {},
): Promise<LanguageModel> {
  const { cache = "auto", window, draft } = options;
  // The small files first: what is wrong with them is known before gigabytes are read.
  const fingerprint = new Fingerprint();
  const tokenizer = await openTokenizer(fingerprint.files(files));
  const chatTemplate = await openChatTemplate(files, tokenizer.specialTokens);
  const generation = await readJsonFile(files, "generation_config.json");
  const configJson = await readJsonFile(files, "config.json") ?? {};
  if (draft) await checkSameTokens(files, draft);
  const { model, info } = await loadWeights(files, device, { ...options, accept: writer, fingerprint });
  const drafting = draft && await loadDraft(draft, device, { ...options, model });
  const stopIds = stopIdsOf(generation ?? {}, configJson, tokenizer);
  return new LanguageModel({
    info: {
      ...info,
      kind: model.kind,
      cache: chooseCacheDType(cache, info.weights),
      chat: chatTemplate ? "template" : "continuation",
      ...(window && { contextLength: undefined, window }),
    },
    device,
    model,
    tokenizer,
    chatTemplate,
    stopIds,
    chatStopIds: chatStopIdsOf(stopIds, chatTemplate?.source, tokenizer),
    defaults: generationDefaultsOf(generation, configJson, model.kind),
    fingerprint: await fingerprint.digest(),
    draft: drafting,
    maxQueue: options.maxQueue,
  });
}

async function loadDraft(
  files: Files,
  device: Device,
  { weights, window, signal, onProgress, model }: LoadModelOptions & { readonly model: Model },
): Promise<Decoder> {
  const accept = (draft: Model): Decoder => {
    if (draft.kind === "decoder" && model.kind === "decoder") return draft;
    throw new TypeError(`Cannot draft with "${files.label}": decoders alone draft, and for decoders`);
  };
  const given = { ...(weights && { weights }), ...(window && { window }) };
  const told = { ...(signal && { signal }), ...(onProgress && { onProgress }) };
  return (await loadWeights(files, device, { ...given, ...told, accept })).model;
}

/**
 * Loads a checkpoint with an encoder, and what sentence-transformers says about it, onto a device that is
 * open. The model owns the device from then on; when loading fails, the caller still does. Throws as
 * {@linkcode loadModel} does.
 */
export async function loadEncoder(
  files: Files,
  device: Device,
  options: LoadModelOptions = {},
): Promise<EncoderModel> {
  const tokenizer = await openTokenizer(files);
  const { contextLength, ...sentences } = await readSentenceConfig(files);
  const { model, info } = await loadWeights(files, device, {
    ...options,
    accept: reader,
    // The checkpoint's own limit, where the caller has none.
    usualLength: contextLength,
  });
  return new EncoderModel({ info: { ...info, ...sentences }, device, model, tokenizer });
}

/** What all kinds of models tell about themselves. */
export type LoadedInfo = Omit<ModelInfo, "kind" | "cache" | "chat">;

/** config → definition → weights, with what the caller accepts of all kinds. */
async function loadWeights<M extends Model>(
  files: Files,
  device: Device,
  options: LoadModelOptions & {
    readonly accept: (model: Model, type: string) => M;
    readonly usualLength?: number | undefined;
    /** Hears what the model is made of. */
    readonly fingerprint?: Fingerprint;
  },
): Promise<{ readonly model: M; readonly info: LoadedInfo }> {
  const { accept, usualLength, contextLength, window, weights: dtype, deviceReason, fingerprint } = options;
  const { signal, onProgress } = options;
  const config = await readConfig(fingerprint?.files(files) ?? files);
  const definition = findModel(config);
  const modelType = modelTypeOf(config);
  using checkpoint = await openCheckpoint(files);
  const weights = createWeights(fingerprint?.checkpoint(checkpoint) ?? checkpoint, device);
  const model = accept(definition(device, weights, fitting(config, checkpoint)), modelType);
  if (window) checkWindow(window, model);
  const length = contextOf(model, contextLength, usualLength);
  const before = device.memoryInUse;
  const report = await weights.load({
    ...(dtype && { weights: dtype }),
    ...(signal && { signal }),
    ...(onProgress && { onProgress }),
  });
  await checkpoint.checkUnchanged();
  return {
    model,
    info: {
      name: files.label,
      modelType,
      facts: model.facts,
      parameters: report.parameters,
      weights: report.weights,
      ...packedIn(checkpoint),
      device: device.name,
      ...(deviceReason && { deviceReason }),
      threads: device.limits.threads,
      contextLength: length,
      bytes: device.memoryInUse - before,
    },
  };
}

/** `stored` of {@linkcode ModelInfo}; nothing where the checkpoint holds plain numbers. */
function packedIn({ tensors }: Checkpoint): Pick<ModelInfo, "stored"> {
  const numbers = new Map<string, number>();
  for (const { stored, dtype, shape } of tensors.values()) {
    if (stored === undefined || stored === dtype) continue;
    numbers.set(stored, (numbers.get(stored) ?? 0) + shape.reduce((product, n) => product * n, 1));
  }
  const stored = [...numbers].sort(([, a], [, b]) => b - a).map(([name]) => name);
  return stored.length > 0 ? { stored } : {};
}

function writer(model: Model, type: string): Decoder | Seq2Seq {
  if (model.kind !== "encoder") return model;
  throw new TypeError(
    `Cannot generate text with model_type "${type}": it is an encoder, which writes no text: ` +
      "open it with openEncoder (lakh embed)",
  );
}

function reader(model: Model, type: string): Encoder | Seq2Seq {
  if (model.kind !== "decoder") return model;
  throw new TypeError(
    `Cannot encode text with model_type "${type}": it is a decoder, whose tokens see only what stands before them: ` +
      "take an encoder such as BERT, or open it with openModel (lakh run)",
  );
}

function contextOf(
  { facts }: Model,
  wanted: number | undefined,
  usual: number | undefined,
): number | undefined {
  if (wanted === undefined) {
    const lengths = [usual, facts.contextLength].filter((length) => length !== undefined);
    return lengths.length > 0 ? Math.min(...lengths) : undefined;
  }
  if (!(Number.isInteger(wanted) && wanted > 0)) {
    throw new RangeError(
      `Cannot use a context of ${wanted} tokens: contextLength is a whole number of 1 or more`,
    );
  }
  if (facts.contextIsHard && facts.contextLength !== undefined && wanted > facts.contextLength) {
    throw new RangeError(
      `Cannot use a context of ${wanted} tokens: this model has learned positions for ${facts.contextLength}: ` +
        `give at most that`,
    );
  }
  return wanted;
}
