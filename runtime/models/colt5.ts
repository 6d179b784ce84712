/**
 * CoLT5: conditional computation. Every token takes a light branch; a router per branch chooses the few that
 * also take the heavy one.
 *
 * - Paper: https://arxiv.org/abs/2303.09752; no checkpoint was published; the layout is ours and follows T5
 *   v1.1
 * - Per encoder layer, h = RMSNorm(x): x += Light(h) for all; x[Iq] += λq · Heavy(h[Iq], keys and values of
 *   λkv · h[Ikv]); then h = RMSNorm(x): x += LightFF(h); x[Im] += λm · HeavyFF(h[Im])
 *
 * @module
 */
import type { AttentionSpec } from "../device/attention_spec.ts";
import type { Device, Segment, Tensor } from "../device/device.ts";
import { encoder, type EncoderLayer } from "./encoder.ts";
import type { Config, Seq2Seq, Weights } from "./model.ts";
import { bucketBias, t5Decoder, t5Embedding, t5FeedForward, t5Projections, t5Sizes } from "./t5_parts.ts";

interface Context {
  readonly segments: readonly Segment[];
  readonly light: AttentionSpec;
  readonly heavy: AttentionSpec;
}

export function colt5(device: Device, weights: Weights, config: Config): Seq2Seq {
  const sizes = t5Sizes(config);
  const { hiddenSize, headDim, eps } = sizes;
  const lightHeads = config.int("num_light_heads"), heavyHeads = config.int("num_heavy_heads");
  const radius = config.int("local_radius");
  const divisor = {
    queries: config.int("routed_query_divisor"),
    keys: config.int("routed_kv_divisor"),
    feed: config.int("routed_mlp_divisor"),
  };
  config.only("routing_epsilon", 1);
  config.only("routing_iterations", 50);

  const shared = t5Embedding(weights, sizes);
  const w = weights.at("encoder");
  const table = (branch: string, heads: number) =>
    bucketBias(w, `relative_attention_bias_${branch}.weight`, { ...sizes, heads, bidirectional: true });
  const lightBias = table("light", lightHeads), heavyBias = table("heavy", heavyHeads);

  function attentionLayer(w: Weights): EncoderLayer<Context> {
    const norm = w.rmsNorm("layer_norm", hiddenSize, eps);
    const light = t5Projections(w.at("LightSelfAttention"), {
      hiddenSize,
      heads: lightHeads,
      kvHeads: lightHeads,
      headDim,
    });
    const heavy = t5Projections(w.at("HeavySelfAttention"), {
      hiddenSize,
      heads: heavyHeads,
      kvHeads: heavyHeads,
      headDim,
    });
    const queryRouter = w.tensor("router_query.weight", [hiddenSize]);
    const keyRouter = w.tensor("router_kv.weight", [hiddenSize]);
    return (x, { segments, ...spec }) => {
      const h = norm(x); // [tokens, hiddenSize]
      const withLight = device.scope(() => {
        const every = { keys: light.k(h), values: light.v(h), at: segments };
        return device.add(x, light.o(device.attention(light.q(h), segments, every, spec.light)));
      });

      const queries = device.route(h, queryRouter(), divisor.queries, segments);
      const chosen = device.route(h, keyRouter(), divisor.keys, segments);
      const g = device.multiply(device.gather(h, chosen.rows), chosen.weights); // [chosen, hiddenSize]
      const over = { keys: heavy.k(g), values: heavy.v(g), at: chosen };
      const q = heavy.q(device.gather(h, queries.rows));
      const update = heavy.o(device.attention(q, queries, over, spec.heavy)); // [queries, hiddenSize]
      return device.scatterAdd(withLight, queries.rows, queries.weights, update);
    };
  }

  function feedForwardLayer(w: Weights): EncoderLayer<Context> {
    const norm = w.rmsNorm("layer_norm", hiddenSize, eps);
    const branch = (name: string, key: string) =>
      t5FeedForward(device, w.at(name), { ...sizes, intermediate: config.int(key) });
    const light = branch("LightDenseReluDense", "d_ff_light"),
      heavy = branch("HeavyDenseReluDense", "d_ff_heavy");
    const router = w.tensor("router.weight", [hiddenSize]);
    return (x, { segments }) => {
      const h = norm(x); // [tokens, hiddenSize]
      const withLight = device.scope(() => device.add(x, light(h)));
      const { rows, weights } = device.route(h, router(), divisor.feed, segments);
      return device.scatterAdd(withLight, rows, weights, heavy(device.gather(h, rows)));
    };
  }

  const layers = w.list("block", sizes.encoderLayers, (w): EncoderLayer<Context> => {
    const attend = attentionLayer(w.at("layer.0")), feed = feedForwardLayer(w.at("layer.1"));
    return (x, context) => feed(device.scope(() => attend(x, context)), context);
  });
  const output = w.rmsNorm("final_layer_norm", hiddenSize, eps);
  let specs: Omit<Context, "segments"> | undefined;

  return {
    ...t5Decoder(device, weights, {
      config,
      sizes,
      shared,
      memoryHeads: 1, // multi-query, so that long memories stay small
      encoder: `window of ${
        2 * radius + 1
      }, one in ${divisor.queries} tokens attends to one in ${divisor.keys}`,
    }),
    encode: encoder<Context>(device, {
      prepare({ segments }) {
        specs ??= {
          light: {
            heads: lightHeads,
            kvHeads: lightHeads,
            scale: 1,
            bias: lightBias(),
            mask: { causal: false, window: { left: radius, right: radius } },
          },
          heavy: {
            heads: heavyHeads,
            kvHeads: heavyHeads,
            scale: 1,
            bias: heavyBias(),
            mask: { causal: false },
          },
        };
        return { segments, ...specs };
      },
      embed: ({ ids }): Tensor => shared(ids),
      layers,
      output,
    }),
  };
}
