/**
 * Builds, installs and converts everything that `run.ts` measures, into the work folder. What is there stays:
 * run it again after an interruption.
 *
 *     deno run -A bench/peers/setup.ts [--python FOLDER]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { writeHuggingFaceFolder } from "./checkpoint.ts";
import { writeGguf } from "./gguf.ts";
import { WORK } from "./peer.ts";

const LLAMA_CPP = "0.3.36", SOURCE = `llama_cpp_python-${LLAMA_CPP}`;
const NPM = ["@wllama/wllama@3.8.1", "onnxruntime-web@1.30.0", "onnxruntime-node@1.30.0"];
const TORCH = ["torch", "transformers==4.57.6", "safetensors", "numpy"];
/** The builder of ONNX models and what it imports; 0.11 is the last whose transformers is the one above. */
const ONNX = [
  "onnxruntime-genai==0.11.4",
  "onnx==1.23.2",
  "onnx-ir==1.1.0",
  "onnxruntime==1.32.0",
  "protobuf==7.36.2",
  "ml-dtypes==0.6.0",
  "flatbuffers==25.12.19",
];
/** Compilers at once. */
const JOBS = "2";

const { values } = parseArgs({ options: { python: { type: "string" } } });
const python = `${WORK}/python/bin/python`;
await Deno.mkdir(WORK, { recursive: true });

await make("python", async (path) => {
  if (values.python !== undefined) return await Deno.symlink(await Deno.realPath(values.python), path);
  await run("python3", ["-m", "venv", path]);
  await run(`${path}/bin/python`, ["-m", "pip", "install", "--quiet", ...TORCH]);
});
await make("model/tokenizer_config.json", () => writeHuggingFaceFolder(`${WORK}/model`));

await make(`${SOURCE}.tar.gz`, async () => {
  const source = ["--no-deps", "--no-binary", "llama-cpp-python", `llama-cpp-python==${LLAMA_CPP}`];
  await run(python, ["-m", "pip", "download", "--quiet", "--dest", WORK, ...source]);
});
await make("llama-build/bin/llama-bench", async () => {
  await run("tar", ["xzf", `${SOURCE}.tar.gz`]);
  const off = ["BUILD_SHARED_LIBS", "LLAMA_OPENSSL", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES"];
  off.push("LLAMA_BUILD_SERVER", "LLAMA_BUILD_APP", "LLAMA_BUILD_UI");
  const options = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", ...off.map((name) => `-D${name}=OFF`)];
  await run("cmake", ["-S", `${SOURCE}/vendor/llama.cpp`, "-B", "llama-build", ...options]);
  const targets = ["--target", "llama-bench", "llama-quantize"];
  await run("cmake", ["--build", "llama-build", "--parallel", JOBS, ...targets]);
});
await make("gguf/f32.gguf", (path) => writeGguf(path));
for (const type of ["q8_0", "q4_0"]) {
  await make(`gguf/${type}.gguf`, async (path) => {
    await run("llama-build/bin/llama-quantize", ["gguf/f32.gguf", path, type, JOBS]);
  });
}

await make("js/node_modules", async () => {
  await Deno.mkdir(`${WORK}/js`, { recursive: true });
  await Deno.writeTextFile(`${WORK}/js/package.json`, `{ "private": true }\n`);
  // Scripts would fetch libraries for GPUs.
  await run("npm", ["install", "--prefix", "js", "--no-audit", "--no-fund", "--ignore-scripts", ...NPM]);
});
await make("python-packages", async () => {
  await run(python, ["-m", "pip", "install", "--quiet", "--no-deps", "--target", "python-packages", ...ONNX]);
});
for (const [name, precision] of [["f32", "fp32"], ["q4", "int4"]] as const) {
  await make(`onnx/${name}`, async (path) => {
    const options = ["prune_lm_head=true", "hf_token=false", "hf_remote=false"];
    const args = ["-i", "model", "-o", path, "-c", "onnx-cache", "-p", precision, "-e", "cpu"];
    await run(python, ["-m", "onnxruntime_genai.models.builder", ...args, "--extra_options", ...options]);
  });
}
await make("onnx/q8", async (path) => {
  await Deno.mkdir(path);
  const files = ["--input_model", "onnx/f32/model.onnx", "--output_model", `${path}/model.onnx`];
  const options = ["--bits", "8", "--block_size", "32", "--symmetric", "True", "--accuracy_level", "4"];
  await run(python, ["-m", "onnxruntime.quantization.matmul_nbits_quantizer", ...files, ...options]);
});
await Deno.writeTextFile(`${WORK}/ready`, "");
console.log("Set up. Measure: deno run -A bench/peers/run.ts");

/**
 * Makes a file or folder of the work folder where it is missing; `body` writes to another path, so that none
 * is half.
 */
async function make(name: string, body: (path: string) => Promise<void>): Promise<void> {
  const path = `${WORK}/${name}`;
  if (await Deno.stat(path).catch(() => undefined)) return;
  console.log(`making ${name}`);
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  const part = `${path}.part`;
  await Deno.remove(part, { recursive: true }).catch(() => undefined);
  await body(part);
  if (await Deno.stat(part).catch(() => undefined)) await Deno.rename(part, path);
}

/** Runs a program in the work folder, behind everybody else on this machine. */
async function run(program: string, args: readonly string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("nice", {
    args: ["-n", "19", program, ...args],
    cwd: WORK,
    env: { PYTHONPATH: "python-packages", HF_HUB_OFFLINE: "1" },
  }).output();
  if (success) return;
  await Deno.stderr.write(stderr);
  throw new Error(`Cannot set up: "${program} ${args.join(" ")}" failed, see above`);
}
