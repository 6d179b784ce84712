/**
 * What a checkpoint is and what it needs, from config.json and the headers of its weights: nothing is loaded,
 * so the model may be larger than this machine.
 *
 * @module
 */
import type { CacheDType, WeightDType } from "../device/device.ts";
import { fitting, readConfig } from "../load/config.ts";
import type { Files } from "../load/files.ts";
import { openCheckpoint, type TensorInfo } from "../load/safetensors.ts";
import { countOf, formatOf, weightBytes } from "../load/weight_formats.ts";
import { createWeights } from "../load/weights.ts";
import type { Model, ModelFacts } from "../models/model.ts";
import { findModel, modelTypeOf } from "../models/registry.ts";
import { cacheBytesPerToken } from "../write/sequence.ts";
import { CountingDevice } from "./counting_device.ts";

/** Parts of a model, by which parameters are counted. */
export type Part = "embedding" | "attention" | "feed-forward" | "experts" | "norms" | "output" | "other";

/** What {@linkcode inspectCheckpoint} finds. */
export interface Inspection {
  readonly name: string;
  /** `model_type` of config.json. */
  readonly modelType: string;
  readonly kind: Model["kind"];
  readonly facts: ModelFacts;
  readonly parameters: number;
  /** Numbers by part; parts without any are absent. */
  readonly parts: Readonly<Partial<Record<Part, number>>>;
  /** Numbers in the files, by format. */
  readonly dtypes: Readonly<Record<string, number>>;
  /** Bytes of the weights in the files. */
  readonly fileBytes: number;
  /** Bytes of the weights in memory, by format. */
  readonly weightBytes: Readonly<Record<WeightDType, number>>;
  /** Bytes of keys and values a token, by format; undefined for encoders, which keep none. */
  readonly cacheBytesPerToken: Readonly<Record<CacheDType, number>> | undefined;
}

/**
 * Reads headers only. Throws as loading does for what does not load: unknown types, unsupported keys, missing
 * and unread tensors.
 *
 * @example
 * ```ts
 * const { facts, parameters } = await inspectCheckpoint(await openFolder("./SmolLM2-135M-Instruct"));
 * console.log(facts.attention, parameters);
 * ```
 */
export async function inspectCheckpoint(files: Files): Promise<Inspection> {
  const read = await readConfig(files);
  using checkpoint = await openCheckpoint(files);
  const config = fitting(read, checkpoint);
  const device = new CountingDevice("wasm"), weights = createWeights(checkpoint, device);
  const { facts, kind } = findModel(config)(device, weights, config);
  weights.rejectUnread();

  const parts: Partial<Record<Part, number>> = {};
  const add = <K extends string>(to: Partial<Record<K, number>>, key: K, count: number) =>
    to[key] = (to[key] ?? 0) + count;
  for (const { name, shape } of weights.declared) add(parts, partOf(name), countOf(shape));
  const dtypes: Record<string, number> = {};
  for (const [name, info] of checkpoint.tensors) {
    if (numbersIn(name, info) > 0) add(dtypes, info.stored ?? info.dtype, numbersIn(name, info));
  }
  const inMemory = (dtype: WeightDType) =>
    sum(weights.declared.map((one) => weightBytes(formatOf(one, dtype), countOf(one.shape))));
  return {
    name: files.label,
    modelType: modelTypeOf(config),
    kind,
    facts,
    parameters: sum(Object.values(parts)),
    parts,
    dtypes,
    fileBytes: sum([...checkpoint.tensors.values()].map(({ begin, end }) => end - begin)),
    weightBytes: {
      f32: inMemory("f32"),
      f16: inMemory("f16"),
      bf16: inMemory("bf16"),
      q8: inMemory("q8"),
      q4: inMemory("q4"),
    },
    cacheBytesPerToken: kind === "encoder" ? undefined : {
      f32: cacheBytesPerToken(device, facts, "f32"),
      f16: cacheBytesPerToken(device, facts, "f16"),
      q8: cacheBytesPerToken(device, facts, "q8"),
    },
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, n) => total + n, 0);
}

/** Numbers in a tensor of a file. MXFP4 packs two into a byte of `…_blocks`; its scales belong to them. */
function numbersIn(name: string, { shape, dtype }: TensorInfo): number {
  if (dtype === "U8" && name.endsWith("_scales")) return 0;
  return countOf(shape) * (dtype === "U8" && name.endsWith("_blocks") ? 2 : 1);
}

/** The part that a tensor belongs to, by the names that families use. */
function partOf(name: string): Part {
  if (/(^|\.)(lm_head|embed_out|output_projection|cls|final_logits_bias)\b/.test(name)) return "output";
  if (/norm|(^|\.)ln_|layernorm/i.test(name)) return "norms";
  if (/(^|\.)(experts?|router|block_sparse_moe)(\.|_|$)/.test(name)) return "experts";
  if (/attn|attention|SelfAttention|EncDecAttention/i.test(name)) return "attention";
  if (
    /mlp|ffn|feed_forward|DenseReluDense|(^|\.)(fc\d?|fc_in|fc_out|intermediate|output|dense\w*)\.|FF/i.test(
      name,
    )
  ) {
    return "feed-forward";
  }
  if (/embed|wte|wpe|shared|word|position/i.test(name)) return "embedding";
  return "other";
}
