/**
 * The definition for each `model_type` of a config. No other code looks at it (a lint rule checks that).
 *
 * @module
 */
import { albert } from "./albert.ts";
import { bart } from "./bart.ts";
import { bert, roberta } from "./bert.ts";
import { bigBird } from "./big_bird.ts";
import { bigBirdPegasus } from "./bigbird_pegasus.ts";
import { bloom } from "./bloom.ts";
import { cohere, cohere2 } from "./cohere.ts";
import { colt5 } from "./colt5.ts";
import { distilbert } from "./distilbert.ts";
import { electra } from "./electra.ts";
import { ernie4_5 } from "./ernie4_5.ts";
import { exaone4 } from "./exaone4.ts";
import { eurobert } from "./eurobert.ts";
import { falcon } from "./falcon.ts";
import { gemma } from "./gemma.ts";
import { gemma2 } from "./gemma2.ts";
import { gemma3, gemma3Multimodal } from "./gemma3.ts";
import { glm4 } from "./glm4.ts";
import { gpt2 } from "./gpt2.ts";
import { gptBigcode } from "./gpt_bigcode.ts";
import { gptNeo } from "./gpt_neo.ts";
import { gptNeox } from "./gpt_neox.ts";
import { gptOss } from "./gpt_oss.ts";
import { granite } from "./granite.ts";
import { hunyuanDense } from "./hunyuan.ts";
import { led } from "./led.ts";
import { llama } from "./llama.ts";
import { m2m100 } from "./m2m_100.ts";
import { marian } from "./marian.ts";
import { mbart } from "./mbart.ts";
import { mistral } from "./mistral.ts";
import { mixtral } from "./mixtral.ts";
import { longformer } from "./longformer.ts";
import { longt5 } from "./longt5.ts";
import type { Config, ModelDefinition } from "./model.ts";
import { modernbert } from "./modernbert.ts";
import { mpnet } from "./mpnet.ts";
import { mpt } from "./mpt.ts";
import { nearest } from "./nearest.ts";
import { nemotron } from "./nemotron.ts";
import { nomicBert } from "./nomic_bert.ts";
import { olmo } from "./olmo.ts";
import { olmo2, olmo3 } from "./olmo2.ts";
import { olmoe } from "./olmoe.ts";
import { opt } from "./opt.ts";
import { pegasus } from "./pegasus.ts";
import { phi } from "./phi.ts";
import { phi3 } from "./phi3.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3, qwen3Moe } from "./qwen3.ts";
import { seedOss } from "./seed_oss.ts";
import { smollm3 } from "./smollm3.ts";
import { stablelm } from "./stablelm.ts";
import { starcoder2 } from "./starcoder2.ts";
import { t5, umt5 } from "./t5.ts";
import { xglm } from "./xglm.ts";
import { refuseHeads, refusePacked } from "./refused_checkpoints.ts";

const MODELS = {
  albert,
  bart,
  bert,
  big_bird: bigBird,
  bigbird_pegasus: bigBirdPegasus,
  bloom,
  camembert: roberta,
  cohere,
  cohere2,
  colt5,
  distilbert,
  electra,
  ernie4_5,
  exaone4,
  eurobert,
  falcon,
  gemma,
  gemma2,
  gemma3: gemma3Multimodal,
  gemma3_text: gemma3,
  glm4,
  gpt2,
  gpt_bigcode: gptBigcode,
  gpt_neo: gptNeo,
  gpt_neox: gptNeox,
  gpt_oss: gptOss,
  granite,
  hunyuan_v1_dense: hunyuanDense,
  led,
  llama,
  longformer,
  longt5,
  m2m_100: m2m100,
  marian,
  mbart,
  ministral: mistral,
  mistral,
  mixtral,
  modernbert,
  mpnet,
  mpt,
  nemotron,
  nomic_bert: nomicBert,
  olmo,
  olmo2,
  olmo3,
  olmoe,
  opt,
  pegasus,
  phi,
  phi3,
  qwen2,
  qwen3,
  qwen3_moe: qwen3Moe,
  roberta,
  seed_oss: seedOss,
  smollm3,
  stablelm,
  starcoder2,
  t5,
  umt5,
  xglm,
  "xlm-roberta": roberta,
} satisfies Record<string, ModelDefinition>;

/** Every `model_type` that loads, sorted. */
export const modelTypes: readonly string[] = Object.keys(MODELS).sort();

/** What a config calls its family, for messages and reports. */
export function modelTypeOf(config: Config): string {
  return config.text("model_type");
}

/**
 * The definition for a config.
 *
 * @throws RangeError for an unknown `model_type`, with the nearest known one and all of them
 * @throws Error for weights in a packed format that does not load (GPTQ, AWQ, MLX, FP8, …)
 * @example
 * ```ts
 * const model = findModel(config)(device, weights, config);
 * ```
 */
export function findModel(config: Config): ModelDefinition {
  const type = modelTypeOf(config);
  refusePacked(config);
  if (Object.hasOwn(MODELS, type)) return refuseHeads(config, MODELS[type as keyof typeof MODELS]);
  const near = nearest(type, modelTypes);
  throw new RangeError(
    `Cannot load model_type "${type}": ${near ? `the nearest that loads is "${near}"; ` : ""}` +
      `supported are ${modelTypes.join(", ")}`,
  );
}
