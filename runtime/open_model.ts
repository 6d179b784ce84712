/**
 * The composition root: find the files, open the device, load.
 *
 * @module
 */
import type { Device } from "./device/device.ts";
import { type DeviceChoice, openDevice } from "./device/open_device.ts";
import { embeddedContextLength, openEmbedded } from "./embedded.ts";
import type { EncoderModel } from "./encoder_model.ts";
import { inspectCheckpoint, type Inspection } from "./judge/inspect.ts";
import type { LanguageModel } from "./language_model.ts";
import type { Files } from "./load/files.ts";
import { openFolder } from "./load/folder.ts";
import { readOnce } from "./load/read_once.ts";
import { isModelName } from "./load/hub_cache.ts";
import { chooseWeightDType } from "./load/weights.ts";
import { loadEncoder, loadModel, type LoadModelOptions } from "./load_model.ts";
import { checkRoom, memoryLeft } from "./machine_memory.ts";
import { checkOptions, checkSource } from "./validate.ts";
import { chooseCacheDType } from "./write/sequence.ts";

/** Where and how a model runs. */
export interface OpenOptions extends Omit<LoadModelOptions, "draft"> {
  /**
   * A smaller decoder with the same tokenizer that guesses ahead: the same text, sooner where it guesses
   * well.
   */
  readonly draft?: string | Files;
  /** "auto" (default) takes a GPU where there is a real one, else WASM. */
  readonly device?: DeviceChoice;
  /** Worker threads of the WASM device. Default: one per processor. */
  readonly threads?: number;
  /** Never use the network: what is not in the cache is an error. */
  readonly offline?: boolean;
}

/**
 * Opens a model: a folder in Hugging Face form, a name `org/name[@revision]` to download, files of your own,
 * or, without a source, the embedded storyteller. It writes: a decoder goes on with a text, an
 * encoder-decoder summarizes or translates it. For vectors there is {@linkcode openEncoder}. Close it when
 * done, or declare it with `using`.
 *
 * Throws an Error in words when files are missing, damaged or not supported, and a RangeError when memory
 * does not suffice.
 *
 * @example The embedded model, which needs neither files nor a network
 * ```ts
 * using model = await openModel();
 * for await (const piece of model.generate("Once upon a time")) console.log(piece.text);
 * ```
 * @example A folder, with all options
 * ```ts
 * const model = await openModel("./SmolLM2-135M-Instruct", {
 *   device: "auto", weights: "q8", contextLength: 8192, onProgress: ({ done, total }) => console.log(done / total),
 * });
 * for await (const piece of model.chat([{ role: "user", content: "Hello!" }])) console.log(piece.text);
 * model.close();
 * ```
 */
export async function openModel(source?: string | Files, options: OpenOptions = {}): Promise<LanguageModel> {
  checkSource(source);
  checkOptions("open a model", options);
  const files = await findFiles(source, options);
  const { draft, ...others } = options;
  const usual = source === undefined ? { contextLength: embeddedContextLength } : {};
  const drafting = draft === undefined ? {} : { draft: await findFiles(draft, options) };
  return await open(files, { ...usual, ...others, ...drafting }, loadModel);
}

/**
 * Opens a model that turns texts into vectors: an encoder, the encoder of an encoder-decoder, or a folder of
 * sentence-transformers, with the pooling that it says. Sources, options and errors are those of
 * {@linkcode openModel}.
 *
 * @example
 * ```ts
 * using model = await openEncoder("sentence-transformers/all-MiniLM-L6-v2");
 * const [lamp, light, tax] = await model.embed(["a lamp", "a light in the window", "income tax"]);
 * ```
 */
export async function openEncoder(
  source: string | Files,
  options: Omit<OpenOptions, "draft" | "window" | "maxQueue"> = {},
): Promise<EncoderModel> {
  checkSource(source);
  checkOptions("open an encoder", options);
  return await open(await findFiles(source, options), options, loadEncoder);
}

/** Opens the device and loads; when that fails, nothing stays open. */
async function open<M>(
  source: Files,
  given: Omit<OpenOptions, "draft"> & LoadModelOptions,
  load: (files: Files, device: Device, options: LoadModelOptions) => Promise<M>,
): Promise<M> {
  using opened = await readOnce(source);
  using drafting = given.draft && await readOnce(given.draft);
  const { files } = opened, options = drafting ? { ...given, draft: drafting.files } : given;
  // Looked at first: what does not load is known before threads start, and how much memory it takes.
  const draftBytes = options.draft ? memoryOf(await inspectCheckpoint(options.draft), options) : 0;
  const inspection = await inspectCheckpoint(files);
  const memoryBytes = memoryOf(inspection, options) + draftBytes;
  let deviceReason = "";
  const onChoice = (reason: string) => deviceReason = reason;
  const device = await openDevice({
    device: options.device,
    threads: options.threads,
    memoryBytes,
    machineBytes: memoryLeft(),
    onChoice,
  });
  try {
    const dtype = chooseWeightDType(options.weights ?? "auto", inspection.parameters);
    checkRoom(inspection, dtype, device.limits.memoryBytes - device.memoryInUse);
    return await load(files, device, { ...options, deviceReason });
  } catch (error) {
    await device[Symbol.asyncDispose]();
    throw error;
  }
}

/** Tokens that memory is made ready for when the caller says nothing, however long the model's context is. */
const usualContext = 8192;

/** Bytes of weights and of keys and values, by which a device chooses how it addresses memory. */
function memoryOf(
  { weightBytes, cacheBytesPerToken, parameters, facts }: Inspection,
  { weights = "auto", cache = "auto", contextLength, window }: LoadModelOptions,
): number {
  const tokens = window?.length ?? contextLength ??
    Math.min(facts.contextLength ?? usualContext, usualContext);
  const dtype = chooseWeightDType(weights, parameters);
  return weightBytes[dtype] + (cacheBytesPerToken?.[chooseCacheDType(cache, dtype)] ?? 0) * tokens;
}

/** The files of a source as `openModel` takes it. */
export async function findFiles(
  source: string | Files | undefined,
  { offline, signal, onProgress }: Pick<OpenOptions, "offline" | "signal" | "onProgress"> = {},
): Promise<Files> {
  if (source === undefined) return await openEmbedded();
  if (typeof source !== "string") return source;
  if (!await isName(source)) return await openFolder(source);
  // The client is loaded only for downloads.
  const { downloadModel } = await import("./load/hub.ts");
  return await downloadModel(source, {
    ...(offline !== undefined && { offline }),
    ...(signal && { signal }),
    ...(onProgress && { onProgress }),
  });
}

/** Like `findFiles`, but a name on the hub is read by ranges instead of downloaded. */
export async function browseFiles(
  source: string | undefined,
  { offline, signal }: Pick<OpenOptions, "offline" | "signal"> = {},
): Promise<Files> {
  if (source === undefined || !await isName(source)) return await findFiles(source);
  const { browseModel } = await import("./load/hub_browse.ts");
  return await browseModel(source, { ...(offline !== undefined && { offline }), ...(signal && { signal }) });
}

/** "models/mine" may be both a name and a folder: what is on the disk is meant. */
async function isName(source: string): Promise<boolean> {
  return isModelName(source) && !(await exists(source));
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch {
    return false;
  }
}
