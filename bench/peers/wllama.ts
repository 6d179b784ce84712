/**
 * wllama: llama.cpp as WebAssembly, in Chromium.
 *
 * @module
 */
import { runInPage } from "./browser.ts";
import { randomText } from "./checkpoint.ts";
import type { Peer, Rates, Setting } from "./peer.ts";

export const WLLAMA: Peer = {
  name: "wllama",
  wasm: true,
  settings: [
    setting({ weights: "f32", bits: 32, cache: "f16" }),
    setting({ weights: "f32", bits: 32, cache: "f32" }),
    setting({ weights: "q8_0", bits: 8, cache: "f32" }),
    setting({ weights: "q4_0", bits: 4, cache: "f32" }),
  ],
};

function setting({ weights, bits, cache }: { weights: string; bits: number; cache: string }): Setting {
  return {
    label: `${weights}, ${cache} cache`,
    bits,
    async measure({ tokens, prefill, decode }, { threads, runs, steps, signal }) {
      const asked = Math.max(1, tokens);
      const argument = {
        model: `/gguf/${weights}.gguf`,
        prompts: Array.from({ length: runs }, (_, run) => randomText(asked, run)),
        threads,
        context: Math.ceil((asked + steps + 64) / 256) * 256,
        steps: decode ? steps : 1,
        cache,
      };
      const { prompt, rates } = await runInPage(complete, { argument, signal });
      if (prompt !== asked) {
        throw new Error(`Cannot compare: wllama read ${prompt} tokens, expected ${asked}`);
      }
      return { prefill: prefill ? rates.prefill : [], decode: decode ? rates.decode : [] };
    },
  };
}

interface Argument {
  readonly model: string;
  readonly prompts: readonly string[];
  readonly threads: number;
  readonly context: number;
  readonly steps: number;
  readonly cache: string;
}

/** Runs in the page: nothing outside of it is there. */
async function complete(
  { model, prompts, threads, context, steps, cache }: Argument,
): Promise<{ prompt: number; rates: Rates }> {
  const folder = "/js/node_modules/@wllama/wllama/esm";
  const { Wllama } = await import(`${folder}/index.js`);
  const wllama = new Wllama({ default: `${folder}/wasm/wllama.wasm` }, { suppressNativeLog: true });
  wllama.setCompat(null);
  await wllama.loadModel([await (await fetch(model)).blob()], {
    n_ctx: context,
    n_threads: threads,
    n_gpu_layers: 0,
    n_parallel: 1,
    n_batch: 2048,
    n_ubatch: 512,
    flash_attn: true,
    cache_type_k: cache,
    cache_type_v: cache,
    warmup: true,
  });
  if (!wllama.isMultithread()) throw new Error("Cannot compare: wllama runs on one thread here");
  const rates = { prefill: [] as number[], decode: [] as number[] };
  let read = 0;
  for (const prompt of prompts) {
    const options = { max_tokens: steps, temperature: 0, top_k: 1, ignore_eos: true, cache_prompt: false };
    const { timings } = await wllama.createCompletion({ prompt, ...options });
    read = timings.prompt_n;
    rates.prefill.push(timings.prompt_per_second);
    rates.decode.push(timings.predicted_per_second);
  }
  return { prompt: read, rates };
}
