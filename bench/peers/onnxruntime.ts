/**
 * onnxruntime on the CPU: as WebAssembly in Chromium, and natively as a Node add-on. transformers.js runs on
 * the same two.
 *
 * The model comes from onnxruntime-genai's builder: grouped-query attention with its cache is one operation,
 * and q8 and q4 weights are multiplied in blocks of 32 by integers (accuracy level 4).
 *
 * @module
 */
import { runInPage } from "./browser.ts";
import { CONFIG } from "./checkpoint.ts";
import { outputOf, type Peer, type Rates, type Setting, WORK } from "./peer.ts";

/**
 * Tokens read at once: scores are kept for all of them, and more than these would not fit into WebAssembly.
 */
const CHUNK = 512;
const MODULES = "js/node_modules";

type Run = (argument: Argument, signal: AbortSignal) => Promise<Rates>;

interface Argument {
  readonly module: string;
  /** Folder of the model; for the web its address. */
  readonly model: string;
  /**
   * Whether the cache is one buffer that grows in place, which WebAssembly can not have: all is copied in and
   * out.
   */
  readonly inPlace: boolean;
  readonly threads: number;
  readonly tokens: number;
  readonly runs: number;
  readonly steps: number;
  readonly chunk: number;
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabulary: number;
}

const inPage: Run = (argument, signal) => {
  const module = `/${MODULES}/onnxruntime-web/dist/ort.wasm.min.mjs`;
  const web = { ...argument, module, model: `/onnx/${argument.model}`, inPlace: false };
  return runInPage(complete, { argument: web, signal });
};

const inNode: Run = async (argument, signal) => {
  const module = `${WORK}/${MODULES}/onnxruntime-node/dist/index.js`;
  const native = { ...argument, module, model: `${WORK}/onnx/${argument.model}`, inPlace: true };
  const script = `console.log(JSON.stringify(await (${complete})(${JSON.stringify(native)})))`;
  return JSON.parse(await outputOf("node", ["--input-type=module", "--eval", script], { signal }));
};

export const ONNXRUNTIME_WEB: Peer = { name: "onnxruntime-web", wasm: true, settings: settings(inPage) };
export const ONNXRUNTIME_NODE: Peer = { name: "onnxruntime-node", wasm: false, settings: settings(inNode) };

function settings(run: Run): Setting[] {
  return ([["f32", 32], ["q8", 8], ["q4", 4]] as const).map(([weights, bits]) => ({
    label: `${weights}, f32 cache`,
    bits,
    async measure({ tokens, prefill, decode }, { threads, runs, steps, signal }) {
      const argument = {
        module: "",
        model: weights,
        inPlace: false,
        threads,
        tokens: Math.max(1, tokens),
        runs,
        steps: decode ? steps : 0,
        chunk: CHUNK,
        layers: CONFIG.num_hidden_layers,
        kvHeads: CONFIG.num_key_value_heads,
        headDim: CONFIG.head_dim,
        vocabulary: CONFIG.vocab_size,
      };
      const rates = await run(argument, signal);
      return { prefill: prefill ? rates.prefill : [], decode: decode ? rates.decode : [] };
    },
  }));
}

/** Sent as text to a page and to Node: nothing outside of it is there. */
async function complete(argument: Argument): Promise<Rates> {
  const { model, inPlace, threads, tokens, runs, steps, chunk, layers, kvHeads, headDim, vocabulary } =
    argument;
  const loaded = await import(argument.module);
  const ort = loaded.default ?? loaded;
  const options: Record<string, unknown> = { graphOptimizationLevel: "all" };
  if (inPlace) {
    Object.assign(options, { executionProviders: ["cpu"], intraOpNumThreads: threads, interOpNumThreads: 1 });
  } else {
    ort.env.wasm.numThreads = threads;
    const data = `${model}/model.onnx.data`;
    Object.assign(options, {
      executionProviders: ["wasm"],
      externalData: [{ path: "model.onnx.data", data }],
    });
  }
  const session = await ort.InferenceSession.create(`${model}/model.onnx`, options);

  const names = Array.from({ length: layers }, (_, layer) => [`${layer}.key`, `${layer}.value`]).flat();
  const capacity = inPlace ? tokens + steps : 0;
  const empty = () =>
    Object.fromEntries(names.map((name) => {
      const zeros = new Float32Array(kvHeads * capacity * headDim);
      return [name, new ort.Tensor("float32", zeros, [1, kvHeads, capacity, headDim])];
    }));
  const int64 = (numbers: number[]) =>
    new ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
  let cache = empty(), past = 0;
  const read = async (count: number, seed: number) => {
    for (const end = past + count; past < end;) {
      const length = Math.min(chunk, end - past);
      const feeds: Record<string, unknown> = {
        input_ids: int64(
          Array.from({ length }, (_, i) => ((past + i) * 7919 + seed * 104729 + 11) % vocabulary),
        ),
        attention_mask: int64(new Array(past + length).fill(1)),
      };
      const fetches: Record<string, unknown> = { logits: null };
      for (const name of names) {
        feeds[`past_key_values.${name}`] = cache[name];
        fetches[`present.${name}`] = inPlace ? cache[name] : null;
      }
      const results = await session.run(feeds, fetches);
      if (!inPlace) cache = Object.fromEntries(names.map((name) => [name, results[`present.${name}`]]));
      if (!(results.logits.data.length % vocabulary === 0)) throw new Error("Cannot compare: no logits came");
      past += length;
    }
  };
  const perSecond = async (count: number, body: () => Promise<void>) => {
    const start = performance.now();
    await body();
    return count / (performance.now() - start) * 1000;
  };

  const rates = { prefill: [] as number[], decode: [] as number[] };
  await read(Math.min(tokens, 64), 0);
  for (let run = 0; run < runs; run++) {
    cache = empty();
    past = 0;
    rates.prefill.push(await perSecond(tokens, () => read(tokens, run)));
    const decode = async () => {
      for (let step = 0; step < steps; step++) await read(1, step);
    };
    if (steps > 0) rates.decode.push(await perSecond(steps, decode));
  }
  return rates;
}
