/** Weights in f32, 4 bytes each. */
import { plainFormat } from "./format.ts";

export const f32 = plainFormat("f32", 4);
