/**
 * Files and a device become a model: config → definition → weights → tokenizer → ready.
 *
 * @module
 */
import type { CacheDType, Device } from "./device/device.ts";
import { chatStopIdsOf, samplingOf, stopIdsOf } from "./generation_config.ts";
import { LanguageModel } from "./language_model.ts";
import { readConfig } from "./load/config.ts";
import type { Files } from "./load/files.ts";
import { openCheckpoint } from "./load/safetensors.ts";
import { createWeights, type WeightChoice } from "./load/weights.ts";
import type { Decoder, Model } from "./models/model.ts";
import { findModel } from "./models/registry.ts";
import type { OnProgress } from "./progress.ts";
import { openChatTemplate } from "./text/chat_template.ts";
import { readJsonFile } from "./text/json_file.ts";
import { openTokenizer } from "./text/tokenizer.ts";

/** How a model is loaded. */
export interface LoadModelOptions {
  /** Format of weight matrices in memory. "auto" (default): f32 for small models, q8 for others. */
  readonly weights?: WeightChoice;
  /** Format of keys and values in memory. Default f32. */
  readonly cache?: CacheDType;
  /**
   * Tokens of prompt and answer together at most. Default: what the model was trained on. More than that works with
   * models whose positions can be computed beyond it, well with ALiBi and badly with most others.
   */
  readonly contextLength?: number;
  /** Told while weights are loaded. */
  readonly onProgress?: OnProgress;
  /** Stops loading; `loadModel` throws its reason. */
  readonly signal?: AbortSignal;
}

/**
 * Loads a checkpoint onto a device that is open. The model owns the device from then on; when loading fails, the caller
 * still does. Throws an Error in words when files are missing, damaged or of a kind that is not supported.
 */
export async function loadModel(
  files: Files,
  device: Device,
  options: LoadModelOptions = {},
): Promise<LanguageModel> {
  const { signal, onProgress, cache = "f32" } = options;
  // The small files first: what is wrong with them is known before gigabytes are read.
  const config = await readConfig(files);
  const definition = findModel(config);
  const tokenizer = await openTokenizer(files);
  const chatTemplate = await openChatTemplate(files, tokenizer.specialTokens);
  const generation = await readJsonFile(files, "generation_config.json") ?? {};
  const configJson = await readJsonFile(files, "config.json") ?? {};

  using checkpoint = await openCheckpoint(files);
  const weights = createWeights(checkpoint, device);
  const decoder = decoderOf(definition(device, weights, config), config.text("model_type"));
  const contextLength = contextOf(decoder, options.contextLength);
  const before = device.memoryInUse;
  const report = await weights.load({
    ...(options.weights && { weights: options.weights }),
    ...(signal && { signal }),
    ...(onProgress && { onProgress }),
  });
  const stopIds = stopIdsOf(generation, configJson, tokenizer);
  return new LanguageModel({
    info: {
      name: files.label,
      modelType: config.text("model_type"),
      facts: decoder.facts,
      parameters: report.parameters,
      weights: report.weights,
      cache,
      device: device.name,
      threads: device.limits.threads,
      contextLength,
      bytes: device.memoryInUse - before,
      chat: chatTemplate ? "template" : "continuation",
    },
    device,
    decoder,
    tokenizer,
    chatTemplate,
    stopIds,
    chatStopIds: chatStopIdsOf(stopIds, chatTemplate?.source, tokenizer),
    sampling: samplingOf(generation),
  });
}

function decoderOf(model: Model, type: string): Decoder {
  if (model.kind === "decoder") return model;
  const what = model.kind === "encoder" ? "an encoder, which writes no text" : "an encoder with a decoder";
  throw new TypeError(`Cannot generate text with model_type "${type}": it is ${what}: take a decoder`);
}

function contextOf({ facts }: Decoder, wanted: number | undefined): number | undefined {
  if (wanted === undefined) return facts.contextLength;
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
