/**
 * LongT5: T5 v1.1 whose encoder looks at a window, and, in the transient-global variant, at a summary of
 * every block of the text: the normalized sum of the block's tokens, computed anew in each layer.
 *
 * - Paper: https://arxiv.org/abs/2112.07916
 * - Reference: transformers, models/longt5/modeling_longt5.py
 *
 * @module
 */
import type { AttentionMask, AttentionSpec } from "../device/attention_spec.ts";
import type { Device, KvCache, Segment, Tensor } from "../device/device.ts";
import {
  type AttentionGroup,
  encoder,
  type EncoderLayer,
  groupedAttention,
  groupSequences,
  lengthOf,
  packedKeys,
} from "./encoder.ts";
import type { Apply, Config, EncoderInput, Seq2Seq, Weights } from "./model.ts";
import type { Projections } from "./self_attention.ts";
import { sumOfBlocks, type TextBlocks, textBlocks } from "./text_blocks.ts";
import {
  bucketBias,
  t5Decoder,
  t5Embedding,
  t5FeedForwardLayer,
  t5Projections,
  type T5Sizes,
  t5Sizes,
} from "./t5_parts.ts";

interface Context {
  readonly segments: readonly Segment[];
  readonly groups: readonly AttentionGroup[];
  /** Transient-global only. */
  readonly blocks: TextBlocks | undefined;
}

/** LongT5 local and transient-global in all sizes. */
export function longt5(device: Device, weights: Weights, config: Config): Seq2Seq {
  config.only("encoder_attention_type", "local", "transient-global");
  const withSummaries = config.text("encoder_attention_type", "local") === "transient-global";
  const name = withSummaries ? "TransientGlobalSelfAttention" : "LocalSelfAttention";
  const sizes = t5Sizes(config);
  const { hiddenSize, heads, eps } = sizes;
  const radius = config.int("local_radius", 127), blockSize = config.int("global_block_size", 16);
  const window = { left: radius, right: radius };

  const shared = t5Embedding(weights, sizes);
  const w = weights.at("encoder");
  const table = (which: string) =>
    bucketBias(w, `block.0.layer.0.${name}.${which}.weight`, { ...sizes, bidirectional: true });
  const bias = table("relative_attention_bias");
  const globalBias = withSummaries ? table("global_relative_attention_bias") : undefined;

  /** The spec for sequences with this many summaries. */
  function groupOf(count: number): Omit<AttentionGroup, "members"> {
    const mask: AttentionMask = { causal: false, window, ...(count > 0 && { keepFirst: count }) };
    const plain = { heads, kvHeads: heads, scale: 1, mask };
    const spec: AttentionSpec = count === 0 ? { ...plain, bias: bias() } : {
      ...plain,
      bias: { ...bias(), summaries: { count, size: blockSize, table: globalBias!().table } },
    };
    return { spec, start: count };
  }

  function layer(w: Weights): EncoderLayer<Context> {
    const norm = w.rmsNorm("layer.0.layer_norm", hiddenSize, eps);
    const projections = t5Projections(w.at(`layer.0.${name}`), sizes);
    const summaryNorm = withSummaries
      ? w.rmsNorm(`layer.0.${name}.global_input_layer_norm`, hiddenSize, eps)
      : undefined;
    const feed = t5FeedForwardLayer(device, w.at("layer.1"), sizes);
    const attend = summaryNorm
      ? summarizedAttention(device, { ...projections, summaryNorm, sizes })
      : localAttention(device, projections);
    return (x, context) => feed(device.scope(() => device.add(x, attend(norm(x), context))));
  }

  const layers = w.list("block", sizes.encoderLayers, layer);
  const output = w.rmsNorm("final_layer_norm", hiddenSize, eps);
  const encoderKind = `window of ${2 * radius + 1}${
    withSummaries ? ` and a summary every ${blockSize} tokens` : ""
  }`;
  return {
    ...t5Decoder(device, weights, { config, sizes, shared, memoryHeads: heads, encoder: encoderKind }),
    encode: encoder<Context>(device, {
      prepare({ segments }: EncoderInput) {
        const countOf = (segment: Segment) => withSummaries ? Math.floor(lengthOf(segment) / blockSize) : 0;
        return {
          segments,
          groups: groupSequences(segments, { keyOf: countOf, groupOf }),
          blocks: withSummaries ? textBlocks(device, segments, blockSize) : undefined,
        };
      },
      embed: ({ ids }) => shared(ids),
      layers,
      output,
    }),
  };
}

type Attend = (h: Tensor, context: Context) => Tensor;

function localAttention(device: Device, { q, k, v, o }: Projections): Attend {
  return (h, { segments, groups }) => {
    const over = packedKeys({ keys: k(h), values: v(h), segments });
    return o(groupedAttention(device, q(h), { segments, groups, over }));
  };
}

/**
 * The keys of a sequence are its summaries, then its tokens, in a cache that lasts for one layer.
 */
function summarizedAttention(
  device: Device,
  { q, k, v, o, summaryNorm, sizes: { heads, headDim } }: Projections & {
    readonly summaryNorm: Apply;
    readonly sizes: T5Sizes;
  },
): Attend {
  return (h, { segments, groups, blocks }) => {
    const caches: KvCache[] = segments.map(() => device.createKvCache(heads, headDim, "f32"));
    const summaries = blocks && sumOfBlocks(device, h, blocks);
    if (summaries) {
      const s = summaryNorm(summaries); // [blocks of all sequences, hiddenSize]
      const { segments: at } = blocks;
      const has = at.flatMap(({ from, to }, i) => to > from ? [i] : []);
      device.append(has.map((i) => caches[i]!), k(s), v(s), has.map((i) => at[i]!));
    }
    const keysAt = segments.map((segment, i) => ({ ...segment, start: caches[i]!.length }));
    device.append(caches, k(h), v(h), keysAt);
    const over = (members: readonly number[]) => ({ caches: members.map((i) => caches[i]!) });
    const result = o(groupedAttention(device, q(h), { segments, groups, over }));
    for (const cache of caches) cache.free();
    return result;
  };
}
