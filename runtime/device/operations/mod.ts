/**
 * Every operation of a device, once: what it takes, what it gives, what it costs. No backend says it again.
 *
 * @module
 */
import { append, type AppendArgs, attention, type AttentionArgs } from "./attention.ts";
import {
  chooseExperts,
  type ChooseExpertsArgs,
  combineExperts,
  type CombineExpertsArgs,
  embed,
  type EmbedArgs,
  expertLinear,
  type ExpertLinearArgs,
  linear,
  type LinearArgs,
  route,
  type RouteArgs,
} from "./linear.ts";
import type { Operation } from "./operation.ts";
import {
  activate,
  type ActivateArgs,
  add,
  clamp,
  type ClampArgs,
  gather,
  type GatherArgs,
  layerNorm,
  multiply,
  type NormArgs,
  type PairArgs,
  rmsNorm,
  rope,
  type RopeArgs,
  scale,
  type ScaleArgs,
  scatterAdd,
  type ScatterAddArgs,
  slice,
  type SliceArgs,
  topK,
  type TopKArgs,
} from "./rows.ts";

/** Arguments of every operation, by its name. */
export interface OperationArgs {
  readonly embed: EmbedArgs;
  readonly linear: LinearArgs;
  readonly rmsNorm: NormArgs;
  readonly layerNorm: NormArgs;
  readonly rope: RopeArgs;
  readonly append: AppendArgs;
  readonly attention: AttentionArgs;
  readonly activate: ActivateArgs;
  readonly multiply: PairArgs;
  readonly add: PairArgs;
  readonly scale: ScaleArgs;
  readonly clamp: ClampArgs;
  readonly slice: SliceArgs;
  readonly gather: GatherArgs;
  readonly route: RouteArgs;
  readonly scatterAdd: ScatterAddArgs;
  readonly chooseExperts: ChooseExpertsArgs;
  readonly expertLinear: ExpertLinearArgs;
  readonly combineExperts: CombineExpertsArgs;
  readonly topK: TopKArgs;
}

export type OperationName = keyof OperationArgs;

/** The table of operations. */
export const operations: { readonly [K in OperationName]: Operation<OperationArgs[K]> } = {
  embed,
  linear,
  rmsNorm,
  layerNorm,
  rope,
  append,
  attention,
  activate,
  multiply,
  add,
  scale,
  clamp,
  slice,
  gather,
  route,
  scatterAdd,
  chooseExperts,
  expertLinear,
  combineExperts,
  topK,
};
