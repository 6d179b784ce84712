/**
 * Compares a loaded model with the outputs in its checkpoint's reference.safetensors.
 *
 * Tensors there: `input_ids` i64 [1, tokens]; for decoders `logits` f32 [1, tokens, vocabulary] and `greedy`
 * i64 [1, n], the likeliest continuation of the first `prompt_len` ids (in reference.json); for encoders
 * `hidden` f32 [1, tokens, hidden]; for encoder-decoders `decoder_input_ids`, with `logits` and `greedy` of
 * the decoder.
 *
 * @module
 */
import type { CacheDType, Device, KvCache, WeightDType } from "../device/device.ts";
import { fitting, parseJsonObject, readConfig } from "../load/config.ts";
import type { Files } from "../load/files.ts";
import { type HostTensor, openCheckpoint, readTensors } from "../load/safetensors.ts";
import { createWeights, type LoadOptions } from "../load/weights.ts";
import { cachesOf, type LayerState } from "../models/layer_state.ts";
import type { Decoder, Encoder, Model, Seq2Seq } from "../models/model.ts";
import { findModel } from "../models/registry.ts";
import { leastCosine, type Quality, qualityOf } from "./quality.ts";
import { prefillChunk, Sequence } from "../write/sequence.ts";

const FILE = "reference.safetensors";

/**
 * Largest |error| that passes in f32, in parts of the largest |reference|: sums in another order, over
 * layers.
 */
export const F32_TOLERANCE = 2e-4;

/**
 * Mean KL to the reference that passes in other formats, in nats. Twice what they cost on real models (q8
 * with a q8 cache 0.004, see docs/real-models.md): more is a fault, or a checkpoint that cannot stand the
 * rounding. 4 bits cost small models 0.2 and more, which a user should know before taking them.
 */
export const MOST_KL: Readonly<Record<WeightDType, number>> = {
  f32: 1e-2,
  f16: 1e-3,
  bf16: 1e-2,
  q8: 1e-2,
  q4: 0.1,
};
/** The same for encoders, whose hidden states are compared: the least cosine of a row. */
export const LEAST_COSINE: Readonly<Record<WeightDType, number>> = {
  f32: 0.9999,
  f16: 0.9999,
  bf16: 0.999,
  q8: 0.999,
  q4: 0.95,
};

/** What a model should compute. */
export interface Reference {
  readonly ids: Uint32Array;
  /** Logits row by row, or hidden states. */
  readonly output: Float32Array;
  readonly kind: Model["kind"];
  /** For encoder-decoders: what the decoder reads. */
  readonly decoderIds: Uint32Array | undefined;
  readonly greedy: Uint32Array | undefined;
  /** Of `ids`: tokens with global attention, for the encoders that have it. */
  readonly globalRows: readonly number[];
  /** `greedy` continues this many ids of `ids`. */
  readonly promptLength: number;
}

/** How near a model's outputs are. */
export interface Agreement {
  readonly maxAbsError: number;
  readonly maxAbsReference: number;
  /** Undefined when the reference has no continuation. */
  readonly greedyEqual: boolean | undefined;
}

/** How near outputs are, as the one number that decides. */
export type Closeness =
  | { readonly kind: "logits"; readonly quality: Quality }
  | { readonly kind: "hidden"; readonly leastCosine: number };

/** The same for a checkpoint. */
export interface Verification extends Agreement {
  /** The format of matrices. */
  readonly weights: WeightDType;
  readonly closeness: Closeness;
  /** Whether the outputs are what they should be; see {@linkcode verifyCheckpoint}. */
  readonly ok: boolean;
  /**
   * Where a smaller format is too far off: how far the checkpoint is in f32, and with its weights rounded but
   * computed in f32, which tells whether rounding costs that much or the arithmetic does.
   */
  readonly parts?: { readonly f32: Closeness; readonly rounded: Closeness };
}

/** Reads `reference.safetensors` and `reference.json`. Throws an Error that names what is missing. */
export async function readReference(files: Files): Promise<Reference> {
  const path = `${files.label}/${FILE}`;
  if (!(await files.list()).includes(FILE)) {
    throw new Error(
      `Cannot verify "${files.label}": there is no ${FILE} in it, so there is nothing to compare with`,
    );
  }
  const tensors = await readTensors(files, FILE);
  const need = (name: string): HostTensor => {
    const tensor = tensors[name];
    if (!tensor) throw new Error(`Cannot verify "${path}": tensor "${name}" is missing`);
    return tensor;
  };
  const ids = (tensor: HostTensor) => Uint32Array.from(tensor.data as ArrayLike<number | bigint>, Number);
  const text = await files.text("reference.json");
  const json = text === undefined ? {} : parseJsonObject(`${files.label}/reference.json`, text);

  const kind = tensors.hidden ? "encoder" : tensors.decoder_input_ids ? "seq2seq" : "decoder";
  const output = need(kind === "encoder" ? "hidden" : "logits").data;
  if (!(output instanceof Float32Array)) throw new Error(`Cannot verify "${path}": its outputs are not F32`);
  const promptLength = json.prompt_len;
  if (kind === "decoder" && tensors.greedy && typeof promptLength !== "number") {
    throw new Error(
      `Cannot verify "${files.label}": reference.json does not say prompt_len, which "greedy" continues`,
    );
  }
  return {
    kind,
    ids: ids(need("input_ids")),
    output,
    decoderIds: tensors.decoder_input_ids && ids(tensors.decoder_input_ids),
    greedy: tensors.greedy && ids(tensors.greedy),
    globalRows: Array.isArray(json.global_attention) ? json.global_attention.map(Number) : [],
    promptLength: typeof promptLength === "number" ? promptLength : 0,
  };
}

/**
 * Loads the checkpoint onto a device that is open, compares, and gives its memory back. Throws as loading
 * does, and an Error when there is nothing to compare with.
 *
 * In f32 it is ok when the largest error is within {@linkcode F32_TOLERANCE} and the continuation is equal.
 * In other formats it is ok when the mean KL to the reference is within {@linkcode MOST_KL} (encoders: the
 * least cosine within {@linkcode LEAST_COSINE}), which is what a format costs its users. Some checkpoints
 * cannot stand their weights being rounded, tiny random ones above all: `parts` tells that from a fault of
 * the arithmetic.
 *
 * @example
 * ```ts
 * await using device = await openDevice({ device: "wasm" });
 * const { ok, maxAbsError } = await verifyCheckpoint(await openFolder("./dir"), device, { weights: "f32" });
 * ```
 */
export async function verifyCheckpoint(
  files: Files,
  device: Device,
  { cache = "f32", ...options }: LoadOptions & { readonly cache?: CacheDType } = {},
): Promise<Verification> {
  const reference = await readReference(files);
  const read = await readConfig(files);
  const define = findModel(read);
  using checkpoint = await openCheckpoint(files);
  const config = fitting(read, checkpoint);
  const run = async (how: LoadOptions, cache: CacheDType) => {
    const loader = createWeights(checkpoint, device);
    const model = define(device, loader, config);
    const { weights } = await loader.load(how);
    try {
      return { weights, outputs: await outputsOf(model, reference, { device, cache }) };
    } finally {
      loader.free();
    }
  };
  const { weights, outputs } = await run(options, cache);
  const agreement = agreementOf(outputs, reference), closeness = closenessOf(outputs, reference);
  if (weights === "f32" && cache === "f32") {
    const near = agreement.maxAbsError <= F32_TOLERANCE * agreement.maxAbsReference;
    return { ...agreement, weights, closeness, ok: near && agreement.greedyEqual !== false };
  }
  if (isClose(closeness, weights)) return { ...agreement, weights, closeness, ok: true };
  const plain = await run({ ...options, weights: "f32" }, "f32");
  const exact = await run({ ...options, rounded: true }, "f32");
  const parts = {
    f32: closenessOf(plain.outputs, reference),
    rounded: closenessOf(exact.outputs, reference),
  };
  return { ...agreement, weights, closeness, ok: false, parts };
}

function closenessOf({ output }: Outputs, reference: Reference): Closeness {
  const { ids, decoderIds } = reference;
  if (reference.kind === "encoder") {
    const size = reference.output.length / ids.length;
    return { kind: "hidden", leastCosine: leastCosine(output, reference.output, size) };
  }
  return { kind: "logits", quality: qualityOf(output, reference.output, decoderIds ?? ids) };
}

function isClose(closeness: Closeness, weights: WeightDType): boolean {
  return closeness.kind === "logits"
    ? closeness.quality.meanKl <= MOST_KL[weights]
    : closeness.leastCosine >= LEAST_COSINE[weights];
}

/**
 * Runs the model on the reference's ids and compares. The continuation is decoded step by step from the
 * cache. Throws an Error when the model's outputs have another shape or hold NaN.
 */
export async function verifyModel(model: Model, reference: Reference, where: Where): Promise<Agreement> {
  return agreementOf(await outputsOf(model, reference, where), reference);
}

function agreementOf({ output, greedy }: Outputs, reference: Reference): Agreement {
  return {
    ...distance(output, reference.output),
    greedyEqual: greedy && equal(greedy, reference.greedy!),
  };
}

async function outputsOf(model: Model, reference: Reference, where: Where): Promise<Outputs> {
  if (model.kind !== reference.kind) {
    throw new Error(
      `Cannot verify: the model is of kind "${model.kind}", ${FILE} is of kind "${reference.kind}"`,
    );
  }
  if (model.kind === "encoder") {
    return { output: await encode(model, reference, where.device), greedy: undefined };
  }
  return model.kind === "decoder"
    ? await runDecoder(model, reference, where)
    : await runSeq2Seq(model, reference, where);
}

interface Outputs {
  readonly output: Float32Array;
  readonly greedy: readonly number[] | undefined;
}

interface Where {
  readonly device: Device;
  readonly cache: CacheDType;
}

function encode(model: Encoder, { ids, globalRows }: Reference, device: Device): Promise<Float32Array> {
  const segments = [{ from: 0, to: ids.length, start: 0 }];
  return device.step(() => device.read(model.encode({ ids, segments, globalRows })));
}

async function runDecoder(model: Decoder, reference: Reference, { device, cache }: Where): Promise<Outputs> {
  const sequence = new Sequence(device, model, cache);
  try {
    const { ids, greedy, promptLength, output: { length } } = reference;
    const output = new Float32Array(length);
    let filled = 0;
    for (let from = 0; from < ids.length; from += prefillChunk) {
      const chunk = ids.subarray(from, from + prefillChunk);
      const logits = await sequence.pass(chunk, Uint32Array.from(chunk, (_, i) => i));
      checkRoom(filled + logits.length, length);
      output.set(logits, filled);
      filled += logits.length;
    }
    checkRoom(filled, length, "exactly");
    sequence.truncate(0);
    if (!greedy) return { output, greedy: undefined };
    const prompt = ids.subarray(0, promptLength);
    // transformers' dynamic frequencies stay those of the longest text that was read: here the whole one,
    // just before.
    const grown = model.facts.changesBeyond !== undefined && { promptLength: ids.length };
    return {
      output,
      greedy: await continueGreedily(
        greedy.length,
        (i, id) =>
          i === 0 ? sequence.read(prompt, { ...grown }) : sequence.decode(Uint32Array.of(id), { ...grown }),
      ),
    };
  } finally {
    sequence.free();
  }
}

async function runSeq2Seq(model: Seq2Seq, reference: Reference, { device, cache }: Where): Promise<Outputs> {
  const { ids, decoderIds, greedy } = reference;
  const opened: KvCache[] = [];
  const keep = (states: readonly LayerState[]) => {
    const caches = cachesOf(states);
    opened.push(...caches);
    return caches;
  };
  try {
    const memory = await device.step(async () => {
      const hidden = model.encode({ ids, segments: [{ from: 0, to: ids.length, start: 0 }] });
      const caches = keep(model.createMemory(hidden, cache));
      await device.flush();
      return caches.map((layer) => [layer]);
    });
    const pass = (
      caches: readonly KvCache[],
      ids: Uint32Array,
      { start, rows }: { start: number; rows: Uint32Array },
    ) =>
      device.step(() =>
        device.read(model.forward({
          ids,
          segments: [{ from: 0, to: ids.length, start }],
          states: caches.map((layer) => [layer]),
          logitRows: device.constant([rows.length], rows),
          memory,
        }))
      );

    const full = keep(model.createStates(cache));
    const output = await pass(full, decoderIds!, {
      start: 0,
      rows: Uint32Array.from(decoderIds!, (_, i) => i),
    });
    checkRoom(output.length, reference.output.length, "exactly");
    if (!greedy) return { output, greedy: undefined };
    const stepwise = keep(model.createStates(cache));
    return {
      output,
      greedy: await continueGreedily(
        greedy.length,
        (i, id) =>
          pass(stepwise, Uint32Array.of(i === 0 ? model.decoderStart : id), {
            start: i,
            rows: Uint32Array.of(0),
          }),
      ),
    };
  } finally {
    for (const cache of opened) cache.free();
  }
}

/**
 * `count` ids, each the likeliest after the ones before it. `next` gives the logits after id number i.
 */
async function continueGreedily(
  count: number,
  next: (i: number, id: number) => Promise<Float32Array>,
): Promise<number[]> {
  const ids: number[] = [];
  for (let i = 0; i < count; i++) ids.push(likeliest(await next(i, ids.at(-1) ?? -1)));
  return ids;
}

function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id;
  return best;
}

function distance(
  output: Float32Array,
  expected: Float32Array,
): { maxAbsError: number; maxAbsReference: number } {
  checkRoom(output.length, expected.length, "exactly");
  let maxAbsError = 0, maxAbsReference = 0;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(output[i]! - expected[i]!);
    if (!Number.isFinite(error)) {
      throw new Error(`Cannot verify: output ${i} is ${output[i]}, ${expected[i]} was expected`);
    }
    maxAbsError = Math.max(maxAbsError, error);
    maxAbsReference = Math.max(maxAbsReference, Math.abs(expected[i]!));
  }
  return { maxAbsError, maxAbsReference };
}

function checkRoom(found: number, expected: number, how: "exactly" | "at most" = "at most"): void {
  if (how === "exactly" ? found === expected : found <= expected) return;
  throw new Error(`Cannot verify: the model gives ${found} numbers, ${FILE} has ${expected}`);
}

function equal(a: readonly number[], b: Uint32Array): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}
