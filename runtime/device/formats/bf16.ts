/** Weights in bf16, 2 bytes each. */
import { plainFormat } from "./format.ts";

export const bf16 = plainFormat("bf16", 2);
