/**
 * llama.cpp, native, built for this machine: its own llama-bench.
 *
 * @module
 */
import { outputOf, type Peer, type Setting, WORK } from "./peer.ts";

const BENCH = `${WORK}/llama-build/bin/llama-bench`;

const CHOICES: readonly Choice[] = [
  { weights: "q8_0", bits: 8, cache: "f16", flash: 1 },
  { weights: "q8_0", bits: 8, cache: "q8_0", flash: 1 },
  { weights: "q8_0", bits: 8, cache: "f16", flash: 0 },
  { weights: "q4_0", bits: 4, cache: "f16", flash: 1 },
  { weights: "q4_0", bits: 4, cache: "q8_0", flash: 1 },
  { weights: "q4_0", bits: 4, cache: "f16", flash: 0 },
];

export const LLAMA_CPP: Peer = { name: "llama.cpp", wasm: false, settings: CHOICES.map(setting) };

interface Choice {
  readonly weights: string;
  readonly bits: number;
  readonly cache: string;
  /** 1: flash attention. */
  readonly flash: number;
}

function setting({ weights, bits, cache, flash }: Choice): Setting {
  return {
    label: `${weights}, ${cache} cache${flash ? "" : ", no flash attention"}`,
    bits,
    async measure(point, { threads, runs, steps, signal }) {
      const bench = async (what: Readonly<Record<string, number>>): Promise<number[]> => {
        const options = { m: `${WORK}/gguf/${weights}.gguf`, t: threads, r: runs, fa: flash, ...what };
        const args = Object.entries({ ...options, ctk: cache, ctv: cache, o: "jsonl" });
        const output = await outputOf(BENCH, args.flatMap(([name, value]) => [`-${name}`, `${value}`]), {
          signal,
        });
        return JSON.parse(output.trim().split("\n").at(-1)!).samples_ts;
      };
      return {
        prefill: point.prefill ? await bench({ p: point.tokens, n: 0 }) : [],
        decode: point.decode ? await bench({ p: 0, n: steps, d: point.tokens }) : [],
      };
    },
  };
}
