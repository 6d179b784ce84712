/**
 * "gpt-oss". Its checkpoint has gate and up of an expert in one matrix, row by row in turns; the file has
 * two.
 *
 * @module
 */
import {
  type Architecture,
  commonConfig,
  type FileTensor,
  type Json,
  rmsEps,
  ropeConfig,
} from "./architecture.ts";
import type { Placed } from "../placed.ts";
import { interleave } from "../rows.ts";
import { patternOf } from "./gemma.ts";
import { LLAMA_NAMES } from "./llama.ts";

const LAYER = "model.layers.N", EXPERTS = `${LAYER}.mlp.experts`;

/** Matrices [experts, out, in] of the file under a name that ends neither in ".weight" nor in ".bias". */
function experts(pattern: string, together: (tensor: FileTensor) => Placed) {
  return (tensor: FileTensor) => {
    const placed = together(tensor), { shape } = placed;
    const full = tensor.name(pattern), bias = full.endsWith(".bias");
    const name = full.slice(0, full.lastIndexOf(".")) + (bias ? "_bias" : "");
    // The checkpoint holds [experts, in, out].
    const turned = { shape: [shape[0]!, shape[2]!, shape[1]!], transposed: true };
    return [[name, bias ? placed : { ...placed, ...turned }]] as const;
  };
}

/** Rows of gate and up in turns: of matrices their rows, of biases [experts, out] their numbers. */
function gateAndUp(gate: FileTensor): Placed {
  const suffix = gate.name("").slice(1);
  const up = gate.find(`blk.N.ffn_up_exps.${suffix}`);
  if (!up) {
    throw new Error(`Cannot load "${gate.name("blk.N.ffn_gate_exps")}": there is no ffn_up_exps beside it`);
  }
  const numbers = (placed: Placed) => {
    const { rows } = placed;
    // Of a bias each number is a row.
    return suffix === "bias" ? oneColumn(rows) : rows;
  };
  const shape = gate.shape.with(1, 2 * gate.shape[1]!);
  return { ...gate, shape, rows: interleave([numbers(gate), numbers(up)]) };
}

function oneColumn(rows: Placed["rows"]): Placed["rows"] {
  const { columns, type: { bytes } } = rows;
  return {
    ...rows,
    count: rows.count * columns,
    columns: 1,
    async read(from, to, into) {
      const first = Math.floor(from / columns), last = Math.ceil(to / columns);
      const buffer = new Uint8Array((last - first) * columns * bytes);
      await rows.read(first, last, buffer);
      into.set(buffer.subarray((from - first * columns) * bytes, (to - first * columns) * bytes));
    },
  };
}

export const gptOss: Architecture = {
  async config(source) {
    const { metadata: m, key } = source;
    const { rope_scaling: scaling, ...rope } = await ropeConfig(source);
    return {
      model_type: "gpt_oss",
      ...commonConfig(source),
      intermediate_size: m.int(key("expert_feed_forward_length")),
      ...rope,
      // The model was trained without rounding where the ramp lies, which the file does not say.
      rope_scaling: scaling && { ...scaling as Json, truncate: false },
      rms_norm_eps: rmsEps(source),
      attention_bias: true,
      num_local_experts: m.int(key("expert_count")),
      num_experts_per_tok: m.int(key("expert_used_count")),
      sliding_window: m.int(key("attention.sliding_window")),
      ...windowsOf(patternOf(source, 2)),
    };
  },
  names: {
    ...LLAMA_NAMES,
    "blk.N.post_attention_norm": `${LAYER}.post_attention_layernorm`,
    "blk.N.attn_sinks": (
      tensor,
    ) => [[tensor.name(`${LAYER}.self_attn.sinks`).replace(/\.weight$/, ""), tensor]],
    "blk.N.ffn_gate_inp": `${LAYER}.mlp.router`,
    "blk.N.ffn_gate_exps": experts(`${EXPERTS}.gate_up_proj`, gateAndUp),
    "blk.N.ffn_up_exps": null, // with gate
    "blk.N.ffn_down_exps": experts(`${EXPERTS}.down_proj`, (tensor) => tensor),
  },
};

/** Every other layer has a window, unless the file says which. */
function windowsOf(pattern: Json): Json {
  return pattern.layer_types ? { layer_types: pattern.layer_types } : {};
}
