/**
 * `lakh bench`: how fast this machine is, and each operation and a whole model on it.
 *
 * @module
 */
import { type BenchSettings, loadShape } from "../runtime/judge/bench/end_to_end.ts";
import { peakResidentMegabytes } from "../runtime/judge/bench/measure.ts";
import { measureOperations } from "../runtime/judge/bench/operations.ts";
import { measureRoofs, type Roofs } from "../runtime/judge/bench/roofs.ts";
import { type ShapeName, SHAPES } from "../runtime/judge/bench/shapes.ts";
import { openWasmDevice, openWebGpuDevice } from "../runtime/device/open_device.ts";
import { benchGpu } from "./bench_gpu.ts";
import { measureSpeeds, rounded } from "./bench_speeds.ts";
import { command, EXIT, UsageError } from "./command.ts";
import { MODEL_OPTIONS } from "./model_options.ts";
import { writeOut } from "./terminal.ts";

const { weights, cache, threads } = MODEL_OPTIONS;

export default command({
  name: "bench",
  summary:
    "Measures what this machine can do at most, each operation, and a whole model with random weights.",
  words: "",
  about: [
    "Roofs: f32 multiply-adds and int8 dots from registers, and reading memory, by number of threads. Operations are",
    "given in percent of the roof that bounds them, measured in the same run. The last line is JSON.",
  ].join("\n"),
  options: {
    shape: {
      type: "choice",
      choices: Object.keys(SHAPES),
      help: "shape of the model; default smollm2-135m",
    },
    weights: { ...weights, help: "format of the weights in memory; default q8" },
    cache,
    threads,
    prefill: { type: "integer", value: "TOKENS", min: 1, many: true, help: "lengths; default 512 and 4096" },
    decode: { type: "integer", value: "DEPTH", min: 0, many: true, help: "depths; default 0 and 4096" },
    operations: {
      type: "text",
      value: "NAME",
      help: "only operations whose name contains this, and no model",
    },
    device: { type: "choice", choices: ["wasm", "webgpu"], help: "default wasm" },
    profile: {
      type: "flag",
      help: "with webgpu: time, GB/s, GFLOP/s and percent of the roof of each operation",
    },
    quick: { type: "flag", help: "less of everything: under 45 seconds" },
    json: { type: "flag", help: "nothing but the last line" },
  },
  examples: [
    ["lakh bench", "all of it, some minutes"],
    ["lakh bench --quick --json", "for scripts"],
    ["lakh bench --operations attention", "one kind of operation"],
    ["lakh bench --device webgpu --profile", "a GPU, and where its time goes"],
    ["lakh bench --weights q4 --prefill 16k --decode 16k", "one length, one depth"],
  ],

  async run(values) {
    const say = (line: string) => values.json || writeOut(`${line}\n`);
    const runs = values.quick ? 1 : 3;
    const shape = (values.shape ?? "smollm2-135m") as ShapeName;
    const chosen = (values.weights ?? "q8") as "auto" | "f32" | "f16" | "q8" | "q4";
    const count = values.threads ?? navigator.hardwareConcurrency;
    const settings: BenchSettings = {
      prefill: values.prefill.length > 0 ? values.prefill : [512, 4096],
      decode: values.decode.length > 0 ? values.decode : [0, 4096],
      steps: values.quick ? 16 : 64,
      runs,
      cache: values.cache ?? "auto",
    };
    if (values.profile && values.device !== "webgpu") {
      throw new UsageError("Cannot profile: --profile is for a GPU: add --device webgpu");
    }
    if (values.device === "webgpu") {
      await using device = await openWebGpuDevice();
      const profile = values.profile === true;
      const result = await benchGpu(device, { shape, weights: chosen, settings, profile }, say);
      writeOut(`${JSON.stringify(result)}\n`);
      return EXIT.ok;
    }

    let roofs: Roofs | undefined;
    say(`threads   f32 GFLOP/s   int8 GOP/s   read GB/s`);
    for (const threads of new Set(values.quick ? [count] : [1, count])) {
      await using device = await openWasmDevice({ threads });
      roofs = await measureRoofs(device, values.quick ? 3 : 5);
      const cells = [roofs.f32Gflops, roofs.int8Gops, roofs.readGbs].map((x) => x.toFixed(1));
      say(
        `${threads.toString().padStart(7)}${cells[0]!.padStart(14)}${cells[1]!.padStart(13)}${
          cells[2]!.padStart(12)
        }`,
      );
    }
    if (!(values.quick || values.json) || values.operations !== undefined) {
      await using device = await openWasmDevice({ threads: count });
      const only = values.operations;
      for await (
        const { name, value, unit, percentOfRoof } of measureOperations(device, { roofs: roofs!, runs, only })
      ) {
        say(
          `${name.padEnd(64)} ${value.toFixed(1).padStart(7)} ${unit.padEnd(8)} ${
            percentOfRoof.toFixed(0).padStart(4)
          } %`,
        );
      }
      if (only !== undefined) return EXIT.ok;
    }

    await using device = await openWasmDevice({ threads: count });
    const loaded = await loadShape(device, shape, chosen);
    const speeds = await measureSpeeds(device, { ...loaded, settings, shape, roofs: roofs! }, say);
    writeOut(
      `${
        JSON.stringify({
          shape,
          device: "wasm",
          weights: chosen,
          threads: count,
          roofs: {
            f32_gflops: rounded(roofs!.f32Gflops),
            int8_gops: rounded(roofs!.int8Gops),
            read_gbs: rounded(roofs!.readGbs),
          },
          ...speeds,
          peak_rss_mb: Math.round(peakResidentMegabytes()),
        })
      }\n`,
    );
    return EXIT.ok;
  },
});
