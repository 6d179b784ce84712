/**
 * lakh runs long-context transformer models from their Hugging Face checkpoints, on WebGPU or WASM, in one
 * program.
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
 * @example Vectors
 * ```ts ignore
 * import { openEncoder } from "@lakh/lakh";
 *
 * using model = await openEncoder("sentence-transformers/all-MiniLM-L6-v2");
 * const [lamp, light] = await model.embed(["a lamp", "a light in the window"], { normalize: true });
 * const { hidden, shape } = await model.encode("a lamp"); // [tokens, hiddenSize]
 * ```
 * @example A summary, by an encoder-decoder
 * ```ts ignore
 * import { openModel } from "@lakh/lakh";
 *
 * using model = await openModel("./long-t5-tglobal-base-16384-book-summary");
 * const book = await Deno.readTextFile("great-gatsby.txt");
 * for await (const piece of model.generate(book, { numBeams: 4, truncate: "end" })) console.log(piece.text);
 * ```
 *
 * @module
 */
import configuration from "./deno.json" with { type: "json" };

export { openEncoder, openModel, type OpenOptions } from "./runtime/open_model.ts";
export type { EndlessWindow } from "./runtime/write/endless_window.ts";
export type { LoadModelOptions } from "./runtime/load_model.ts";
export {
  type ChatOptions,
  type Done,
  type EvaluationOptions,
  type GenerateOptions,
  LanguageModel,
  type Logits,
  type Piece,
} from "./runtime/language_model.ts";
export type { DeviceState, ModelInfo } from "./runtime/model_info.ts";
export type { BatcherCounts } from "./runtime/write/batcher.ts";
export type { SchedulerStatus } from "./runtime/write/scheduler.ts";
export type { CacheChoice } from "./runtime/write/sequence.ts";
export type { ModelStatus } from "./runtime/write/writer.ts";
export type { TokenLogprob, WrittenLogprob } from "./runtime/write/logprobs.ts";
export { QueueFullError } from "./runtime/write/scheduler.ts";
export type { Evaluation, PositionLoss } from "./runtime/judge/evaluate.ts";
export type { Quality } from "./runtime/judge/quality.ts";
export {
  type EmbedOptions,
  type EncodeOptions,
  type EncoderInfo,
  EncoderModel,
  type HiddenStates,
} from "./runtime/encoder_model.ts";
export type { BeamOptions } from "./runtime/write/beam_search.ts";
export type { WriteOptions } from "./runtime/write/write_ids.ts";
export type { ConstraintOptions, OnLogits } from "./runtime/write/constraints.ts";
export type { Pooling, SentenceConfig } from "./runtime/sentence_config.ts";
export type { AnswerOptions, GrammarOptions, PieceParts } from "./runtime/structured_answer.ts";
export type { Tool, ToolChoice } from "./runtime/text/tools.ts";
export type { SessionContent } from "./runtime/write/session_file.ts";
export type { GenerateResult, StopReason } from "./runtime/write/generate.ts";
export type { SamplingOptions } from "./runtime/write/sampler.ts";
export type { CacheDType, WeightDType } from "./runtime/device/device.ts";
export type { DeviceChoice } from "./runtime/device/open_device.ts";
export type { WeightChoice } from "./runtime/load/weights.ts";
export type { ModelFacts, Positions } from "./runtime/models/model.ts";
export type { OnProgress, Progress } from "./runtime/progress.ts";
export type { Files, RandomAccessFile } from "./runtime/load/files.ts";
export type { Checkpoint, TensorInfo } from "./runtime/load/safetensors.ts";
export type { TokenIds } from "./runtime/validate.ts";
export { memoryFiles } from "./runtime/load/memory_files.ts";
export type { Message, RenderOptions } from "./runtime/text/chat_template.ts";
export type { SpecialTokens, TextStream, Tokenizer } from "./runtime/text/tokenizer.ts";

/** lakh's version, e.g. "0.1.0". */
export const version: string = configuration.version;
