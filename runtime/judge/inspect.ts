/**
 * What a checkpoint is and what it needs, from config.json and the headers of its weights: nothing is loaded,
 * so the model may be larger than this machine.
 *
 * @module
 */
import type { CacheDType, Device, WeightDType } from "../device/device.ts";
import { readConfig } from "../load/config.ts";
import type { Files } from "../load/files.ts";
import { openCheckpoint, type TensorInfo } from "../load/safetensors.ts";
import { weightBytes } from "../load/weight_loader.ts";
import { createWeights } from "../load/weights.ts";
import type { Model, ModelFacts } from "../models/model.ts";
import { findModel, modelTypeOf } from "../models/registry.ts";
import { LAYOUTS } from "../device/layouts.ts";
import { cacheBytesPerToken } from "../write/sequence.ts";

/** Parts of a model that parameters are counted by. */
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
  /** Formats in the files, and numbers in each. */
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
 * tensors.
 *
 * @example
 * ```ts
 * const { facts, parameters } = await inspectCheckpoint(await openFolder("./SmolLM2-135M-Instruct"));
 * console.log(facts.attention, parameters);
 * ```
 */
export async function inspectCheckpoint(files: Files): Promise<Inspection> {
  const config = await readConfig(files);
  const define = findModel(config);
  using checkpoint = await openCheckpoint(files);
  // A definition only declares until it runs, and it never runs here.
  const model = define(NO_DEVICE, createWeights(checkpoint, NO_DEVICE), config);
  const tensors = [...checkpoint.tensors];

  const parts: Partial<Record<Part, number>> = {};
  const dtypes: Record<string, number> = {};
  let parameters = 0, fileBytes = 0;
  for (const [name, info] of tensors) {
    const numbers = count(name, info), part = partOf(name);
    parts[part] = (parts[part] ?? 0) + numbers;
    if (numbers > 0) dtypes[info.dtype] = (dtypes[info.dtype] ?? 0) + numbers;
    parameters += numbers;
    fileBytes += info.end - info.begin;
  }
  const inMemory = (dtype: WeightDType) =>
    tensors.reduce(
      (sum, [name, info]) => sum + weightBytes(formatOf(name, info, dtype), count(name, info)),
      0,
    );
  const { facts, kind } = model;
  return {
    name: files.label,
    modelType: modelTypeOf(config),
    kind,
    facts,
    parameters,
    parts,
    dtypes,
    fileBytes,
    weightBytes: {
      f32: inMemory("f32"),
      f16: inMemory("f16"),
      bf16: inMemory("bf16"),
      q8: inMemory("q8"),
      q4: inMemory("q4"),
    },
    cacheBytesPerToken: kind === "encoder" ? undefined : {
      f32: cacheBytesPerToken(WASM_PAGES, facts, "f32"),
      f16: cacheBytesPerToken(WASM_PAGES, facts, "f16"),
      q8: cacheBytesPerToken(WASM_PAGES, facts, "q8"),
    },
  };
}

const WASM_PAGES: Pick<Device, "pageBytes"> = {
  pageBytes: (kvHeads, headDim, dtype) => LAYOUTS.wasm.page({ kvHeads, headDim, valueDim: headDim, dtype }),
};

const NO_DEVICE = new Proxy({}, {
  get(_, name) {
    throw new Error(
      `Cannot inspect: the model's definition uses the device (${String(name)}) before it runs`,
    );
  },
}) as Device;

/** Numbers in a tensor. MXFP4 packs two into a byte of `…_blocks`; its scales belong to them. */
function count(name: string, { shape, dtype }: TensorInfo): number {
  if (dtype === "U8" && name.endsWith("_scales")) return 0;
  return shape.reduce((product, n) => product * n, dtype === "U8" && name.endsWith("_blocks") ? 2 : 1);
}

/**
 * Vectors stay f32, as do matrices whose rows do not divide into blocks; embedding and output are q8 at
 * least.
 */
function formatOf(name: string, { shape, dtype }: TensorInfo, wanted: WeightDType): WeightDType {
  if (shape.length < 2) return "f32";
  const columns = dtype === "U8" ? 32 : shape.at(-1)!;
  if ((wanted === "q8" || wanted === "q4") && columns % 32 !== 0) return "f32";
  return wanted === "q4" && ["embedding", "output"].includes(partOf(name)) ? "q8" : wanted;
}

/** By the names that families give their tensors. */
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
