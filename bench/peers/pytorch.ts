/**
 * PyTorch on the CPU, through transformers: `pytorch.py` measures.
 *
 * @module
 */
import { outputOf, type Peer, type Setting, WORK } from "./peer.ts";

const SCRIPT = decodeURIComponent(new URL("pytorch.py", import.meta.url).pathname);

export const PYTORCH: Peer = {
  name: "PyTorch",
  wasm: false,
  settings: [setting("float32", 32), setting("bfloat16", 16), setting("int8", 8)],
};

function setting(weights: string, bits: number): Setting {
  return {
    label: weights,
    bits,
    async measure({ tokens, prefill, decode }, { threads, runs, steps, signal }) {
      const plan = { model: `${WORK}/model`, weights, threads, tokens, runs, steps: decode ? steps : 0 };
      const output = await outputOf(`${WORK}/python/bin/python`, [SCRIPT, JSON.stringify(plan)], {
        signal,
        env: { HF_HUB_OFFLINE: "1" },
      });
      const rates = JSON.parse(output.trim().split("\n").at(-1)!);
      return { prefill: prefill ? rates.prefill : [], decode: rates.decode };
    },
  };
}
