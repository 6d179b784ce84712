/**
 * Types of tensors in GGUF files: how many numbers a block holds, the bytes that it takes, and how it is
 * decoded.
 *
 * @module
 */
import { decodeIq4Nl, decodeIq4Xs, decodeMxfp4 } from "./codebooks.ts";
import { decodeQ2K, decodeQ3K, decodeQ4K, decodeQ5K, decodeQ6K } from "./k_quants.ts";
import { decodeQ4_0, decodeQ4_1, decodeQ5_0, decodeQ5_1, decodeQ8_0 } from "./small_blocks.ts";

/** Decodes `count` blocks that begin at `from` in `bytes`; their numbers go to `out` from `to` on. */
export type DecodeBlocks = (bytes: Uint8Array, blocks: Blocks) => void;

/** Where blocks are, and where their numbers go. */
export interface Blocks {
  readonly from: number;
  readonly count: number;
  readonly out: Float32Array;
  readonly to: number;
}

/** One type. */
export interface BlockType {
  /** As llama.cpp names it: F32, Q8_0, Q4_K, … */
  readonly name: string;
  /** Numbers in a block; 1 for plain numbers. */
  readonly numbers: number;
  /** Bytes of a block. */
  readonly bytes: number;
  /** Undefined for plain numbers, and for types that do not load. */
  readonly decode?: DecodeBlocks;
}

const PLAIN = new Set(["F32", "F16", "BF16"]);

/** By the number that files have. Numbers that are not here were taken back or never given. */
const TYPES: ReadonlyMap<number, BlockType> = new Map<number, BlockType>([
  [0, { name: "F32", numbers: 1, bytes: 4 }],
  [1, { name: "F16", numbers: 1, bytes: 2 }],
  [2, { name: "Q4_0", numbers: 32, bytes: 18, decode: decodeQ4_0 }],
  [3, { name: "Q4_1", numbers: 32, bytes: 20, decode: decodeQ4_1 }],
  [6, { name: "Q5_0", numbers: 32, bytes: 22, decode: decodeQ5_0 }],
  [7, { name: "Q5_1", numbers: 32, bytes: 24, decode: decodeQ5_1 }],
  [8, { name: "Q8_0", numbers: 32, bytes: 34, decode: decodeQ8_0 }],
  [9, { name: "Q8_1", numbers: 32, bytes: 36 }],
  [10, { name: "Q2_K", numbers: 256, bytes: 84, decode: decodeQ2K }],
  [11, { name: "Q3_K", numbers: 256, bytes: 110, decode: decodeQ3K }],
  [12, { name: "Q4_K", numbers: 256, bytes: 144, decode: decodeQ4K }],
  [13, { name: "Q5_K", numbers: 256, bytes: 176, decode: decodeQ5K }],
  [14, { name: "Q6_K", numbers: 256, bytes: 210, decode: decodeQ6K }],
  [15, { name: "Q8_K", numbers: 256, bytes: 292 }],
  [16, { name: "IQ2_XXS", numbers: 256, bytes: 66 }],
  [17, { name: "IQ2_XS", numbers: 256, bytes: 74 }],
  [18, { name: "IQ3_XXS", numbers: 256, bytes: 98 }],
  [19, { name: "IQ1_S", numbers: 256, bytes: 50 }],
  [20, { name: "IQ4_NL", numbers: 32, bytes: 18, decode: decodeIq4Nl }],
  [21, { name: "IQ3_S", numbers: 256, bytes: 110 }],
  [22, { name: "IQ2_S", numbers: 256, bytes: 82 }],
  [23, { name: "IQ4_XS", numbers: 256, bytes: 136, decode: decodeIq4Xs }],
  [24, { name: "I8", numbers: 1, bytes: 1 }],
  [25, { name: "I16", numbers: 1, bytes: 2 }],
  [26, { name: "I32", numbers: 1, bytes: 4 }],
  [27, { name: "I64", numbers: 1, bytes: 8 }],
  [28, { name: "F64", numbers: 1, bytes: 8 }],
  [29, { name: "IQ1_M", numbers: 256, bytes: 56 }],
  [30, { name: "BF16", numbers: 1, bytes: 2 }],
  [34, { name: "TQ1_0", numbers: 256, bytes: 54 }],
  [35, { name: "TQ2_0", numbers: 256, bytes: 66 }],
  [39, { name: "MXFP4", numbers: 32, bytes: 17, decode: decodeMxfp4 }],
  [40, { name: "NVFP4", numbers: 64, bytes: 36 }],
]);

/** Names of the types that load. */
export const blockTypeNames: readonly string[] = [...TYPES.values()].filter(isLoadable).map(({ name }) =>
  name
);

/** The type with this number in files; undefined when there is none. */
export function blockTypeById(id: number): BlockType | undefined {
  return TYPES.get(id);
}

/** Whether tensors of this type load. */
export function isLoadable({ name, decode }: BlockType): boolean {
  return decode !== undefined || PLAIN.has(name);
}
