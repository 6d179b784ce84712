/**
 * "gemma", "gemma2" and "gemma3", the part of it that reads and writes text. llama.cpp adds the one to the
 * norms that these checkpoints store less one.
 *
 * @module
 */
import {
  type Architecture,
  commonConfig,
  type ConfigSource,
  type Json,
  type Names,
  renamed,
  rmsEps,
  ropeConfig,
  shortest,
} from "./architecture.ts";
import { LLAMA_NAMES } from "./llama.ts";

const lessOne = (name: string) => renamed(name, { plus: -1 });
const LAYER = "model.layers.N";

/** The first Gemma has the norms of Llama. */
const NAMES: Names = {
  ...LLAMA_NAMES,
  output_norm: lessOne("model.norm"),
  "blk.N.attn_norm": lessOne(`${LAYER}.input_layernorm`),
  "blk.N.ffn_norm": lessOne(`${LAYER}.post_attention_layernorm`),
};

/** Later ones have norms before and after. */
const NAMES_2: Names = {
  ...NAMES,
  "blk.N.attn_q_norm": lessOne(`${LAYER}.self_attn.q_norm`),
  "blk.N.attn_k_norm": lessOne(`${LAYER}.self_attn.k_norm`),
  "blk.N.post_attention_norm": lessOne(`${LAYER}.post_attention_layernorm`),
  "blk.N.ffn_norm": lessOne(`${LAYER}.pre_feedforward_layernorm`),
  "blk.N.post_ffw_norm": lessOne(`${LAYER}.post_feedforward_layernorm`),
};

export const gemma: Architecture = {
  async config(source) {
    return { model_type: "gemma", ...await gemmaConfig(source) };
  },
  names: NAMES,
};

export const gemma2: Architecture = {
  async config(source) {
    const { metadata: m, key } = source;
    return {
      model_type: "gemma2",
      ...await gemmaConfig(source),
      query_pre_attn_scalar: queryScalar(source, 46),
      sliding_window: m.int(key("attention.sliding_window")),
      attn_logit_softcapping: shortest(m.float(key("attn_logit_softcapping"), 50)),
      final_logit_softcapping: shortest(m.float(key("final_logit_softcapping"), 30)),
    };
  },
  names: NAMES_2,
};

export const gemma3: Architecture = {
  async config(source) {
    const { metadata: m, key } = source;
    return {
      model_type: "gemma3_text",
      ...await gemmaConfig(source),
      query_pre_attn_scalar: queryScalar(source, 62),
      sliding_window: m.int(key("attention.sliding_window")),
      rope_local_base_freq: shortest(m.float(key("rope.freq_base_swa"), 10_000)),
      ...patternOf(source, 6),
      ...(m.has(key("final_logit_softcapping")) && {
        final_logit_softcapping: shortest(m.float(key("final_logit_softcapping"))),
      }),
    };
  },
  names: NAMES_2,
};

async function gemmaConfig(source: ConfigSource): Promise<Json> {
  return {
    ...commonConfig(source),
    ...await ropeConfig(source),
    rms_norm_eps: rmsEps(source),
    hidden_act: "gelu_pytorch_tanh",
    hidden_activation: "gelu_pytorch_tanh",
  };
}

/**
 * What scores are divided by the root of, which files do not say: the size of a head, but in the 27B of each
 * generation, known by its layers, the width that a head has of the whole.
 */
function queryScalar({ metadata: m, key, sizes }: ConfigSource, layersOf27B: number): number {
  const is27B = m.int(key("block_count")) === layersOf27B;
  return is27B ? m.int(key("embedding_length")) / sizes.heads : sizes.headDim;
}

/** Which layers see a window, where the file says: every n-th does not, or a flag for each layer. */
export function patternOf({ metadata: m, key }: ConfigSource, usual: number): Json {
  const name = key("attention.sliding_window_pattern");
  if (!m.has(name)) return { sliding_window_pattern: usual };
  const flags = m.list(name);
  if (flags === undefined) return { sliding_window_pattern: m.int(name) };
  return { layer_types: flags.map((slides) => slides ? "sliding_attention" : "full_attention") };
}
