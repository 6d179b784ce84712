/**
 * What a loaded model tells about itself.
 *
 * @module
 */
import type { CacheDType, WeightDType } from "./device/device.ts";
import type { ModelFacts } from "./models/model.ts";
import type { EndlessWindow } from "./write/endless_window.ts";

/** What a model is and what it takes. */
export interface ModelInfo {
  /** Folder, repository or "storyteller". */
  readonly name: string;
  /** `model_type` of config.json. */
  readonly modelType: string;
  /** A decoder goes on with a text; "seq2seq" reads one and writes another: a summary, a translation. */
  readonly kind: "decoder" | "seq2seq";
  /** Sizes and kinds, as the model's family tells them. */
  readonly facts: ModelFacts;
  /** Numbers in the weights. */
  readonly parameters: number;
  /** Format of the weight matrices in memory. */
  readonly weights: WeightDType;
  /**
   * Packed formats of the file that the weights were converted from, the one of most numbers first: Q4_K,
   * Q6_K, …
   */
  readonly stored?: readonly string[];
  /** Format of keys and values in memory. */
  readonly cache: CacheDType;
  /** Where it runs. */
  readonly device: "wasm" | "webgpu" | "reference";
  /** Why there, in words: "software GPU, not used", "as asked for". */
  readonly deviceReason?: string;
  /** Threads that compute; 1 on a GPU. */
  readonly threads: number;
  /**
   * Tokens of prompt and answer together at most, of the text that is read with "seq2seq"; undefined where
   * only memory limits it.
   */
  readonly contextLength: number | undefined;
  /** What of an endless text is held, when the model was opened with a window. */
  readonly window?: EndlessWindow;
  /** Bytes of the weights in memory. */
  readonly bytes: number;
  /** How `chat` writes a conversation: by the checkpoint's template, or as one running text (base models). */
  readonly chat: "template" | "continuation";
}

/** What a device tells about itself. */
export interface DeviceState {
  /** "reference" is the tests' own. */
  readonly name: "wasm" | "webgpu" | "reference";
  /** Bytes that weights and caches may take at most, threads, and whether f16 arithmetic is native. */
  readonly limits: { readonly memoryBytes: number; readonly threads: number; readonly f16: boolean };
  /** Bytes that they take now. */
  readonly memoryInUse: number;
}
