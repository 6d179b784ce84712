/**
 * lakh itself on WASM, through the command that users have.
 *
 * @module
 */
import { outputOf, type Peer, type Setting } from "./peer.ts";

const CLI = decodeURIComponent(new URL("../../cli.ts", import.meta.url).pathname);

export const LAKH: Peer = {
  name: "lakh",
  wasm: true,
  settings: [
    setting({ weights: "q8", bits: 8, cache: "f32" }),
    setting({ weights: "q8", bits: 8, cache: "q8" }),
    setting({ weights: "q4", bits: 4, cache: "f32" }),
    setting({ weights: "q4", bits: 4, cache: "q8" }),
  ],
};

function setting({ weights, bits, cache }: { weights: string; bits: number; cache: string }): Setting {
  return {
    label: `${weights}, ${cache} cache`,
    bits,
    /** `lakh bench` takes medians of three runs by itself, or one with --quick. */
    async measure({ tokens, prefill, decode }, { threads, runs, signal }) {
      const args = ["run", "-A", CLI, "bench", "--json", "--weights", weights, "--cache", cache];
      args.push("--threads", `${threads}`, ...(runs === 1 ? ["--quick"] : []));
      // Left out, both would be measured at their default lengths.
      args.push("--prefill", `${prefill ? tokens : 1}`, "--decode", `${decode ? tokens : 0}`);
      const result = JSON.parse(
        (await outputOf(Deno.execPath(), args, { signal })).trim().split("\n").at(-1)!,
      );
      return {
        prefill: prefill ? [result.prefill[tokens]] : [],
        decode: decode ? [result.decode[tokens]] : [],
      };
    },
  };
}
