/**
 * lakh runs long-context transformer models from their Hugging Face checkpoints, on WebGPU or WASM, in one program.
 *
 * @example Text
 * ```ts ignore
 * import { openModel } from "@lakh/lakh";
 *
 * using model = await openModel("./dir", { weights: "q8", contextLength: 100_000 });
 * for await (const piece of model.chat([{ role: "user", content: "Who lit the lamp?" }])) {
 *   console.log(piece.text);
 * }
 * ```
 * @example Numbers
 * ```ts
 * import { openModel } from "@lakh/lakh";
 *
 * using model = await openModel();
 * const ids = model.tokenizer.encode("Once upon a time");
 * const { logits, shape } = await model.logits(ids); // [tokens, vocabulary]
 * ```
 *
 * @module
 */
import configuration from "./deno.json" with { type: "json" };

export { openModel, type OpenOptions } from "./runtime/open_model.ts";
export type { LoadModelOptions } from "./runtime/load_model.ts";
export {
  type ChatOptions,
  type DeviceState,
  type Done,
  type EvaluationOptions,
  type GenerateOptions,
  LanguageModel,
  type Logits,
  type ModelInfo,
  type Piece,
} from "./runtime/language_model.ts";
export type { Evaluation, PositionLoss } from "./runtime/evaluate.ts";
export type { GenerateResult, StopReason } from "./runtime/generate.ts";
export type { SamplingOptions } from "./runtime/sampler.ts";
export type { CacheDType, WeightDType } from "./runtime/device/device.ts";
export type { DeviceChoice } from "./runtime/device/open_device.ts";
export type { WeightChoice } from "./runtime/load/weights.ts";
export type { ModelFacts } from "./runtime/models/model.ts";
export type { OnProgress, Progress } from "./runtime/progress.ts";
export type { Files, RandomAccessFile } from "./runtime/load/files.ts";
export { memoryFiles } from "./runtime/load/memory_files.ts";
export type { Message, RenderOptions } from "./runtime/text/chat_template.ts";
export type { SpecialTokens, TextStream, Tokenizer } from "./runtime/text/tokenizer.ts";

/** lakh's version, e.g. "0.1.0". */
export const version: string = configuration.version;
