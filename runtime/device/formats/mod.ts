/**
 * The weight formats, and the cache formats, by name.
 *
 * @module
 */
import type { CacheDType, WeightDType } from "../tensor.ts";
import { bf16 } from "./bf16.ts";
import { f16 } from "./f16.ts";
import { f32 } from "./f32.ts";
import type { WeightFormat } from "./format.ts";
import { q4 } from "./q4.ts";
import { q8 } from "./q8.ts";

/** Every resident format. */
export const FORMATS: { readonly [K in WeightDType]: WeightFormat } = { f32, f16, bf16, q8, q4 };

/** Every name of a format. */
export const WEIGHT_DTYPES = Object.keys(FORMATS) as readonly WeightDType[];

/** The formats to choose from, from large to small. */
export const WEIGHT_CHOICES = ["f32", "f16", "q8", "q4"] as const satisfies readonly WeightDType[];

/** Formats of keys and values, from large to small. */
export const CACHE_DTYPES = ["f32", "f16", "q8"] as const satisfies readonly CacheDType[];

/** Whether rows of a matrix in this format are blocks with scales. */
export function isQuantized(dtype: WeightDType): boolean {
  return FORMATS[dtype].block > 1;
}
