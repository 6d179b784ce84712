/**
 * Measures lakh and other runtimes in one run on one shape, and prints how many times as fast lakh is.
 *
 *     deno run -A bench/peers/run.ts --help
 *
 * @module
 */
import { parseArgs } from "node:util";
import { SHAPE } from "./checkpoint.ts";
import { LAKH } from "./lakh.ts";
import { LLAMA_CPP } from "./llama_cpp.ts";
import { measurePeers } from "./measure_peers.ts";
import { ONNXRUNTIME_NODE, ONNXRUNTIME_WEB } from "./onnxruntime.ts";
import { type Peer, WORK } from "./peer.ts";
import { PYTORCH } from "./pytorch.ts";
import { ratios, round, tableOf } from "./table.ts";
import { WLLAMA } from "./wllama.ts";

const PEERS: readonly Peer[] = [LAKH, LLAMA_CPP, WLLAMA, ONNXRUNTIME_WEB, ONNXRUNTIME_NODE, PYTORCH];
const NAMES = PEERS.map(({ name }) => name).join(", ");
const HELP = `Usage: deno run -A bench/peers/run.ts [options]

  --prefill LENGTHS   default 512,4096,16384
  --decode DEPTHS     default 0,4096,16384
  --only NAMES        some of ${NAMES}
  --threads N         default 2
  --runs N            medians of 3, or 1; default 3
  --steps N           decode steps of a run; default 32
  --most MINUTES      a run that would take longer is done once, one of twice this not at all; default 4
  --quick             32 tokens, 4 steps, one run: does everything work?`;
/** Cores that others may use before the figures are worth little. */
const QUIET = 0.2;

const { values } = parseArgs({
  options: {
    prefill: { type: "string" },
    decode: { type: "string" },
    only: { type: "string" },
    threads: { type: "string", default: "2" },
    runs: { type: "string" },
    steps: { type: "string" },
    most: { type: "string", default: "4" },
    quick: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log(HELP);
  Deno.exit();
}
const whole = (text: string): number => {
  if (!/^\d+$/.test(text)) throw new TypeError(`Cannot measure "${text}": expected a whole number`);
  return Number(text);
};
const prefill = (values.prefill ?? (values.quick ? "32" : "512,4096,16384")).split(",").map(whole);
const decode = (values.decode ?? (values.quick ? "0,32" : "0,4096,16384")).split(",").map(whole);
const runs = whole(values.runs ?? (values.quick ? "1" : "3"));
if (runs !== 1 && runs !== 3) throw new RangeError(`Cannot measure ${runs} times: lakh bench does 1 or 3`);
if (!await Deno.stat(`${WORK}/ready`).catch(() => undefined)) {
  throw new Error(`Cannot measure: "${WORK}" is not set up: run deno run -A bench/peers/setup.ts first`);
}

const peers = values.only === undefined ? PEERS : values.only.split(",").map((name) => {
  const peer = PEERS.find((peer) => peer.name === name);
  if (!peer) throw new TypeError(`Cannot measure "${name}": expected some of ${NAMES}`);
  return peer;
});
const plan = {
  points: [...new Set([...prefill, ...decode])].map((tokens) => ({
    tokens,
    prefill: prefill.includes(tokens),
    decode: decode.includes(tokens),
  })),
  threads: whole(values.threads),
  runs,
  steps: whole(values.steps ?? (values.quick ? "4" : "32")),
  mostSeconds: 60 * Number(values.most),
};
const start = performance.now();
const { rows, busyCores } = await measurePeers(peers, { plan, say: (line) => console.error(line) });

const columns = [...prefill.map((n) => `prefill ${n}`), ...decode.map((n) => `decode ${n}`)];
console.log(`\n${SHAPE}, ${plan.threads} threads, medians of ${runs}\n\n${tableOf(rows, columns)}`);
if (busyCores > QUIET) {
  console.log(`Other programs used up to ${busyCores.toFixed(1)} cores: measure again on a quiet machine.\n`);
}
console.log(JSON.stringify({
  shape: SHAPE,
  threads: plan.threads,
  runs,
  minutes: round((performance.now() - start) / 60_000),
  busy_cores: round(busyCores, 2),
  rates: Object.fromEntries(
    rows.map(({ peer, setting, cells }) => [`${peer.name}, ${setting.label}`, Object.fromEntries(cells)]),
  ),
  ratios: ratios(rows, columns),
}));
