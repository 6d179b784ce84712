/**
 * Cached self-attention and the ways in which checkpoints store its projections.
 *
 * @module
 */
import type { AttentionMask, AttentionSpec } from "../device/attention_spec.ts";
import type { Device, Tensor } from "../device/device.ts";
import type { DecoderLayer } from "./decoder.ts";
import { cachesOf } from "./layer_state.ts";
import type { Apply, Config, Weights } from "./model.ts";
import { type Rope, rotate } from "./rope.ts";
import type { Sizes } from "./sizes.ts";

/**
 * h [rows, hiddenSize] → queries [rows, heads · headDim], keys and values [rows, kvHeads · headDim], and
 * back.
 */
export interface Projections {
  readonly q: Apply;
  readonly k: Apply;
  readonly v: Apply;
  readonly o: Apply;
}

/** Projections, positions and score rules of one attention layer. */
export interface SelfAttentionParts extends Projections {
  readonly spec: AttentionSpec;
  /** Absent in layers whose positions are not rotated. */
  readonly rope?: Rope | undefined;
  /** Norms over each head's queries and keys after they are rotated. */
  readonly rotatedNorms?: { readonly queries: Apply; readonly keys: Apply };
  /** f32 [heads], see `AttentionSpec.sinkLogits`. */
  readonly sinkLogits?: () => Tensor;
}

/**
 * h [rows, hiddenSize] → [rows, hiddenSize]: appends h's keys and values to the cache, then attends
 * over it.
 */
export function selfAttention(device: Device, parts: SelfAttentionParts): DecoderLayer {
  const { q, k, v, o, rope, rotatedNorms, sinkLogits } = parts;
  let spec = parts.spec;
  return (h, states, batch) => {
    const { segments } = batch, caches = cachesOf(states);
    let queries = q(h); // [rows, heads · headDim]
    let keys = k(h); // [rows, kvHeads · headDim]
    if (rope) ({ queries, keys } = rotate(device, rope, { queries, keys, segments }));
    if (rotatedNorms) {
      queries = rotatedNorms.queries(queries);
      keys = rotatedNorms.keys(keys);
    }
    const { window } = spec.mask;
    if (window) caches.forEach((cache) => cache.keepWindow(window.left));
    device.append(caches, keys, v(h), segments);
    if (sinkLogits && !spec.sinkLogits) spec = { ...spec, sinkLogits: sinkLogits() };
    return o(device.attention(queries, segments, { caches }, spec));
  };
}

/** Causal; with a window, each token sees itself and the `window` − 1 tokens before it. */
export function causal(window?: number): AttentionMask {
  return window === undefined ? { causal: true } : { causal: true, window: { left: window - 1, right: 0 } };
}

/** Clamps a projection's result to ± `clip_qkv`, where the config has it. */
export function clipFromConfig(device: Device, config: Config): (project: Apply) => Apply {
  if (!config.has("clip_qkv")) return (project) => project;
  const clip = config.float("clip_qkv");
  return (project) => (x) => device.clamp(project(x), -clip, clip);
}

/** `q_proj`, `k_proj`, `v_proj`, and `o_proj` or another name. */
export function separateProjections(
  w: Weights,
  { hiddenSize, heads, kvHeads, headDim }: Sizes,
  { qkvBias = false, oBias = false, oName = "o_proj" }: {
    readonly qkvBias?: boolean;
    readonly oBias?: boolean;
    readonly oName?: string;
  } = {},
): Projections {
  return {
    q: w.linear("q_proj", { in: hiddenSize, out: heads * headDim, bias: qkvBias }),
    k: w.linear("k_proj", { in: hiddenSize, out: kvHeads * headDim, bias: qkvBias }),
    v: w.linear("v_proj", { in: hiddenSize, out: kvHeads * headDim, bias: qkvBias }),
    o: w.linear(oName, { in: heads * headDim, out: hiddenSize, bias: oBias }),
  };
}

/**
 * Queries, keys and values of one fused matrix. Its rows are either all q, all k, all v ("stacked"), or for
 * each kv head the q of its group, then its k, then its v ("grouped").
 */
export function fusedProjections(
  w: Weights,
  { hiddenSize, heads, kvHeads, headDim }: Sizes,
  { qkv, order, ...options }: {
    readonly qkv: string;
    readonly order: "stacked" | "grouped";
    readonly bias?: boolean;
    readonly transpose?: boolean;
  },
): Omit<Projections, "o"> {
  const groups = order === "stacked" ? 1 : kvHeads;
  const queries = heads * headDim / groups, keys = kvHeads * headDim / groups;
  const every = queries + 2 * keys; // rows of a group
  const part = (from: number, rows: number) =>
    w.linear(qkv, {
      in: hiddenSize,
      out: rows * groups,
      rows: { from, to: from + rows, every },
      ...options,
    });
  return { q: part(0, queries), k: part(queries, keys), v: part(queries + keys, keys) };
}
