/** Weights in f16, 2 bytes each. */
import { plainFormat } from "./format.ts";

export const f16 = plainFormat("f16", 2);
