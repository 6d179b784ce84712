/**
 * The architectures that load, by "general.architecture".
 *
 * @module
 */
import { nearest } from "../../../models/nearest.ts";
import { short } from "../../safetensors_header.ts";
import type { Architecture } from "./architecture.ts";
import { bert } from "./bert.ts";
import { bloom } from "./bloom.ts";
import { falcon } from "./falcon.ts";
import { gemma, gemma2, gemma3 } from "./gemma.ts";
import { gpt2, starcoder } from "./gpt2.ts";
import { gptNeox } from "./gpt_neox.ts";
import { gptOss } from "./gpt_oss.ts";
import { llama } from "./llama.ts";
import {
  cohere2,
  commandR,
  granite,
  olmo,
  olmo2,
  olmoe,
  smollm3,
  stablelm,
  starcoder2,
} from "./llama_kin.ts";
import { mpt } from "./mpt.ts";
import { phi2, phi3 } from "./phi.ts";
import { qwen2, qwen3, qwen3Moe } from "./qwen.ts";
import { t5 } from "./t5.ts";

const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  bert,
  bloom,
  cohere2,
  "command-r": commandR,
  falcon,
  gemma,
  gemma2,
  gemma3,
  gpt2,
  "gpt-oss": gptOss,
  gptneox: gptNeox,
  granite,
  llama,
  mpt,
  olmo,
  olmo2,
  olmoe,
  phi2,
  phi3,
  qwen2,
  qwen3,
  qwen3moe: qwen3Moe,
  smollm3,
  stablelm,
  starcoder,
  starcoder2,
  t5,
};

/** Names of the architectures that load, sorted. */
export const architectureNames: readonly string[] = Object.keys(ARCHITECTURES).sort();

/** The architecture of that name. `path` is for the error, which names the nearest and all. */
export function findArchitecture(name: string, path: string): Architecture {
  if (Object.hasOwn(ARCHITECTURES, name)) return ARCHITECTURES[name]!;
  const near = nearest(name, architectureNames);
  throw new RangeError(
    `Cannot load "${path}": its architecture is "${short(name)}": ` +
      `${near ? `the nearest that loads is "${near}"; ` : ""}those that load are ${
        architectureNames.join(", ")
      }`,
  );
}
