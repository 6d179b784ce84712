/**
 * Checkpoints that look like others and are of another kind: weights packed by a quantizer, and heads that
 * classify. They are refused by name, with what to take instead.
 *
 * @module
 */
import type { Config, ModelDefinition } from "./model.ts";

/** `quant_method` of config.json, and what people call it. */
const PACKERS: Readonly<Record<string, string>> = {
  ...{ gptq: "GPTQ", awq: "AWQ", bitsandbytes: "bitsandbytes", fp8: "FP8", fbgemm_fp8: "FP8 (FBGEMM)" },
  ...{ hqq: "HQQ", aqlm: "AQLM", eetq: "EETQ", exl2: "EXL2", quanto: "Quanto", torchao: "torchao" },
  ...{ "compressed-tensors": "compressed-tensors (vLLM)", bitnet: "BitNet", quark: "Quark", higgs: "HIGGS" },
};

const INSTEAD =
  "take the checkpoint that it was made from, which is quantized to q8 or q4 while it loads, or a GGUF file of it";

/**
 * Throws an Error for weights in a packed format that does not load. MXFP4, GPT-OSS's own, does. MLX has its
 * bits under `quantization`, all others have a `quant_method`.
 */
export function refusePacked(config: Config): void {
  const mlx = config.object("quantization");
  if (mlx.has("bits") || mlx.has("group_size")) {
    throw new Error(
      `Cannot load the weights: config.json has "quantization": they are packed by MLX: ${INSTEAD}`,
    );
  }
  if (!config.has("quantization_config")) return;
  const method = config.object("quantization_config").text("quant_method", "");
  if (method === "mxfp4") return;
  const name = Object.hasOwn(PACKERS, method) ? PACKERS[method] : `"${method}", which lakh does not know`;
  throw new Error(
    method === ""
      ? `Cannot load the weights: config.json has "quantization_config" without a quant_method: ${INSTEAD}`
      : `Cannot load the weights: quantization_config.quant_method is "${method}": they are packed by ${name}: ${INSTEAD}`,
  );
}

const HEADS = /For(SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice|RewardModel)$/;

/**
 * The definition, with a better error for a decoder whose head classifies: it has no output layer to write
 * with. Encoders load without their head.
 */
export function refuseHeads(config: Config, define: ModelDefinition): ModelDefinition {
  const architecture = config.texts("architectures", []).find((name) => HEADS.test(name));
  if (architecture === undefined) return define;
  const refusal = (cause?: unknown) =>
    new Error(
      `Cannot load a ${architecture}: its head classifies or scores texts, and it writes none: take the model with ` +
        "a language model head (…ForCausalLM)",
      { cause },
    );
  return (device, weights, given) => {
    let model: ReturnType<ModelDefinition>;
    try {
      model = define(device, weights, given);
    } catch (error) {
      // Without an output layer its weights are missing.
      throw /lm_head|embed_out|output/.test((error as Error).message) ? refusal(error) : error;
    }
    if (model.kind === "decoder") throw refusal();
    return model;
  };
}
