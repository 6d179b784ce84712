/**
 * Sizes of a decoder as configs name them.
 *
 * @module
 */
import type { Config, ModelFacts } from "./model.ts";

/** Sizes that most layers need. */
export interface Sizes {
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabulary: number;
}

/** Reads sizes under Llama's names, which most families use now. */
export function sizesFromConfig(config: Config): Sizes & { readonly intermediate: number } {
  const hiddenSize = config.int("hidden_size");
  const heads = config.int("num_attention_heads");
  const sizes = checkedSizes({
    hiddenSize,
    layers: config.int("num_hidden_layers"),
    heads,
    kvHeads: config.int("num_key_value_heads", heads),
    headDim: config.int("head_dim", hiddenSize / heads),
    vocabulary: config.int("vocab_size"),
  });
  return { ...sizes, intermediate: config.int("intermediate_size") };
}

/** Sizes of decoders whose heads all have keys of their own, under the names that a family gives them. */
export function multiHeadSizes(
  config: Config,
  names: { readonly hiddenSize: string; readonly heads: string; readonly layers: string },
): Sizes {
  const hiddenSize = config.int(names.hiddenSize), heads = config.int(names.heads);
  const [layers, vocabulary] = [config.int(names.layers), config.int("vocab_size")];
  return checkedSizes({ hiddenSize, layers, heads, kvHeads: heads, headDim: hiddenSize / heads, vocabulary });
}

/**
 * Returns the sizes unchanged when they make sense.
 *
 * @throws RangeError when one is not a positive integer, or `kvHeads` does not divide `heads`
 */
export function checkedSizes(sizes: Sizes): Sizes {
  for (const [name, size] of Object.entries(sizes)) {
    if (!(Number.isSafeInteger(size) && size > 0)) {
      throw new RangeError(
        `Cannot use this config: ${name} is ${size}: expected a whole number of 1 or more`,
      );
    }
  }
  const { heads, kvHeads } = sizes;
  if (heads % kvHeads !== 0) {
    throw new RangeError(
      `Cannot use this config: ${heads} heads cannot share ${kvHeads} heads of keys: expected a divisor`,
    );
  }
  return sizes;
}

/** The integer under the first of these keys that the config has: older configs use other names. */
export function intUnder(config: Config, ...keys: readonly string[]): number {
  return config.int(keys.find((key) => config.has(key)) ?? keys[0]!);
}

/** Facts of a model; `attention` continues "grouped-query, …". */
export function factsOf(
  { hiddenSize, layers, heads, kvHeads, headDim, vocabulary }: Sizes,
  {
    contextLength,
    contextIsHard = false,
    answerLength,
    positions,
    rereadBeyond,
    changesBeyond,
    attention,
  }: {
    readonly contextLength: number | undefined;
    readonly contextIsHard?: boolean;
    readonly answerLength?: number | undefined;
    readonly positions: ModelFacts["positions"];
    readonly rereadBeyond?: number | undefined;
    readonly changesBeyond?: number | undefined;
    readonly attention: string;
  },
): ModelFacts {
  const sharing = kvHeads === heads ? "multi-head" : kvHeads === 1 ? "multi-query" : "grouped-query";
  return {
    hiddenSize,
    layers,
    heads,
    kvHeads,
    headDim,
    vocabulary,
    contextLength,
    contextIsHard,
    answerLength,
    positions,
    rereadBeyond,
    changesBeyond,
    attention: `${sharing}, ${attention}`,
  };
}
