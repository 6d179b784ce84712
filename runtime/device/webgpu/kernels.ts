/**
 * The shaders as kernels: source text, composed of an operation and shared pieces.
 *
 * The text declares its arguments, see declarations.ts. An input that is absent is bound to a 16-byte dummy,
 * so that a kernel has one layout; what else varies is an `override` constant.
 *
 * @module
 */
import activate from "../../../shaders/activate.wgsl" with { type: "text" };
import append from "../../../shaders/append.wgsl" with { type: "text" };
import appendQ8 from "../../../shaders/append_q8.wgsl" with { type: "text" };
import attention from "../../../shaders/attention.wgsl" with { type: "text" };
import attentionDecode from "../../../shaders/attention_decode.wgsl" with { type: "text" };
import attentionMerge from "../../../shaders/attention_merge.wgsl" with { type: "text" };
import chooseExperts from "../../../shaders/choose_experts.wgsl" with { type: "text" };
import clamp from "../../../shaders/clamp.wgsl" with { type: "text" };
import combineExperts from "../../../shaders/combine_experts.wgsl" with { type: "text" };
import embed from "../../../shaders/embed.wgsl" with { type: "text" };
import expertLinear from "../../../shaders/expert_linear.wgsl" with { type: "text" };
import gather from "../../../shaders/gather.wgsl" with { type: "text" };
import groupExperts from "../../../shaders/group_experts.wgsl" with { type: "text" };
import layerNorm from "../../../shaders/layer_norm.wgsl" with { type: "text" };
import libAttention from "../../../shaders/lib/attention.wgsl" with { type: "text" };
import norm from "../../../shaders/lib/norm.wgsl" with { type: "text" };
import flat from "../../../shaders/lib/flat.wgsl" with { type: "text" };
import quadF16 from "../../../shaders/lib/quad_f16.wgsl" with { type: "text" };
import quadF32 from "../../../shaders/lib/quad_f32.wgsl" with { type: "text" };
import quadQ8 from "../../../shaders/lib/quad_q8.wgsl" with { type: "text" };
import reduce from "../../../shaders/lib/reduce.wgsl" with { type: "text" };
import stage from "../../../shaders/lib/stage.wgsl" with { type: "text" };
import tileExperts from "../../../shaders/lib/tile_experts.wgsl" with { type: "text" };
import tileRows from "../../../shaders/lib/tile_rows.wgsl" with { type: "text" };
import weightBf16 from "../../../shaders/lib/weight_bf16.wgsl" with { type: "text" };
import weightF16 from "../../../shaders/lib/weight_f16.wgsl" with { type: "text" };
import weightF32 from "../../../shaders/lib/weight_f32.wgsl" with { type: "text" };
import weightQ4 from "../../../shaders/lib/weight_q4.wgsl" with { type: "text" };
import weightQ8 from "../../../shaders/lib/weight_q8.wgsl" with { type: "text" };
import xScalar from "../../../shaders/lib/x_scalar.wgsl" with { type: "text" };
import xVec4 from "../../../shaders/lib/x_vec4.wgsl" with { type: "text" };
import linear from "../../../shaders/linear.wgsl" with { type: "text" };
import linearDecode from "../../../shaders/linear_decode.wgsl" with { type: "text" };
import linearF16 from "../../../shaders/linear_f16.wgsl" with { type: "text" };
import linearQ8 from "../../../shaders/linear_q8.wgsl" with { type: "text" };
import pairwise from "../../../shaders/pairwise.wgsl" with { type: "text" };
import packRowsF16 from "../../../shaders/pack_rows_f16.wgsl" with { type: "text" };
import packRowsQ8 from "../../../shaders/pack_rows_q8.wgsl" with { type: "text" };
import rmsNorm from "../../../shaders/rms_norm.wgsl" with { type: "text" };
import roofF16 from "../../../shaders/roof_f16.wgsl" with { type: "text" };
import roofF32 from "../../../shaders/roof_f32.wgsl" with { type: "text" };
import roofInt8 from "../../../shaders/roof_int8.wgsl" with { type: "text" };
import roofRead from "../../../shaders/roof_read.wgsl" with { type: "text" };
import rotateRows from "../../../shaders/rotate_rows.wgsl" with { type: "text" };
import rope from "../../../shaders/rope.wgsl" with { type: "text" };
import route from "../../../shaders/route.wgsl" with { type: "text" };
import scale from "../../../shaders/scale.wgsl" with { type: "text" };
import scatterAdd from "../../../shaders/scatter_add.wgsl" with { type: "text" };
import slice from "../../../shaders/slice.wgsl" with { type: "text" };
import topK from "../../../shaders/top_k.wgsl" with { type: "text" };
import type { CacheDType, WeightDType } from "../tensor.ts";
import { type Declarations, declarationsIn, structIn } from "./declarations.ts";

/** One shader module. */
export class Kernel {
  #declarations: Declarations | undefined;

  constructor(
    /** Unique; also the label in profiles and messages. */
    readonly name: string,
    readonly code: string,
  ) {}

  /** How it wants to be called; read from its text when first asked for. */
  get declarations(): Declarations {
    return this.#declarations ??= declarationsIn(this.code);
  }
}

function kernel(name: string, ...pieces: string[]): Kernel {
  return new Kernel(name, pieces.join("\n"));
}

function each<K extends string>(pieces: Record<K, string>, make: (key: K, piece: string) => Kernel) {
  return Object.fromEntries(
    Object.entries<string>(pieces).map(([key, piece]) => [key, make(key as K, piece)]),
  ) as Record<K, Kernel>;
}

const weights: Record<WeightDType, string> = {
  f32: weightF32,
  f16: weightF16,
  bf16: weightBf16,
  q8: weightQ8,
  q4: weightQ4,
};
const quads: Record<CacheDType, string> = { f32: quadF32, f16: quadF16, q8: quadQ8 };

/** Per weight format and by whether rows of x are whole vec4s. */
function perWeight(name: string, ...pieces: string[]) {
  return {
    vec4: each(weights, (dtype, piece) => kernel(`${name} ${dtype}`, flat, xVec4, piece, ...pieces)),
    scalar: each(
      weights,
      (dtype, piece) => kernel(`${name} ${dtype} unaligned`, flat, xScalar, piece, ...pieces),
    ),
  };
}

/** Structs of the lists that attention walks. */
export const structs = {
  item: structIn(libAttention, "Item"),
  list: structIn(libAttention, "List"),
  merge: structIn(attentionMerge, "Merge"),
  /** A row that `append` moves. */
  place: structIn(append, "Place"),
};
const readers = [structs.item.reader("work"), structs.list.reader("work")];

/** All kernels. */
export const kernels = {
  activate: kernel("activate", flat, activate),
  add: kernel("add", flat, pairwise),
  append: {
    f32: kernel("append f32", flat, quadF32, append),
    f16: kernel("append f16", flat, quadF16, append),
    q8: kernel("append q8", flat, quadQ8, appendQ8),
  },
  attention: each(
    quads,
    (dtype, piece) => kernel(`attention ${dtype}`, piece, libAttention, ...readers, attention),
  ),
  attentionDecode: each(
    quads,
    (dtype, piece) => kernel(`attention_decode ${dtype}`, piece, libAttention, ...readers, attentionDecode),
  ),
  attentionMerge: kernel("attention_merge", attentionMerge, structs.merge.reader("work")),
  chooseExperts: kernel("choose_experts", flat, chooseExperts),
  clamp: kernel("clamp", flat, clamp),
  combineExperts: kernel("combine_experts", flat, combineExperts),
  embed: each(weights, (dtype, piece) => kernel(`embed ${dtype}`, flat, piece, embed)),
  expertLinear: perWeight("expert_linear", stage, expertLinear),
  expertLinearTiles: perWeight("expert_linear_tiles", tileExperts, linear),
  gather: kernel("gather", flat, gather),
  groupExperts: kernel("group_experts", groupExperts),
  layerNorm: kernel("layer_norm", flat, reduce, norm, layerNorm),
  linear: perWeight("linear", tileRows, linear),
  linearDecode: perWeight("linear_decode", stage, linearDecode),
  linearF16: kernel("linear_f16 f16", linearF16),
  linearQ8: each(
    { q8: weightQ8, q4: weightQ4 },
    (dtype, piece) => kernel(`linear_q8 ${dtype}`, piece, linearQ8),
  ),
  multiply: kernel("multiply", flat, pairwise),
  packRowsF16: {
    vec4: kernel("pack_rows_f16", flat, xVec4, packRowsF16),
    scalar: kernel("pack_rows_f16 unaligned", flat, xScalar, packRowsF16),
  },
  packRowsQ8: kernel("pack_rows_q8", flat, xVec4, packRowsQ8),
  rmsNorm: kernel("rms_norm", flat, reduce, norm, rmsNorm),
  roofF16: kernel("roof_f16", roofF16),
  roofF32: kernel("roof_f32", roofF32),
  roofInt8: kernel("roof_int8", roofInt8),
  roofRead: kernel("roof_read", roofRead),
  rope: kernel("rope", flat, rope),
  rotateRows: kernel("rotate_rows", flat, rotateRows),
  route: kernel("route", flat, reduce, route),
  scale: kernel("scale", flat, scale),
  scatterAdd: kernel("scatter_add", flat, scatterAdd),
  slice: kernel("slice", flat, slice),
  topK: kernel("top_k", topK),
};

/** Every kernel, for tests. */
export function allKernels(): Kernel[] {
  const found: Kernel[] = [];
  const visit = (value: unknown) => {
    if (typeof value !== "object" || value === null) return;
    if (value instanceof Kernel) found.push(value);
    else Object.values(value).forEach(visit);
  };
  visit(kernels);
  return found;
}
