/**
 * Any family in any shape with random weights, through the loader of real checkpoints: the model's own
 * definition declares the names and shapes of the tensors.
 *
 * @module
 */
import type { Device, WeightDType } from "../../device/device.ts";
import { CountingDevice, type StepCount } from "../counting_device.ts";
import { parseConfig } from "../../load/config.ts";
import type { Files, RandomAccessFile } from "../../load/files.ts";
import { openCheckpoint } from "../../load/safetensors.ts";
import { createConfigWeights, createWeights, type WeightChoice } from "../../load/weights.ts";
import type { Model } from "../../models/model.ts";
import { findModel } from "../../models/registry.ts";

export type Json = Readonly<Record<string, unknown>>;

/** Loads a model of this config.json; dispose to give its memory back. */
export async function loadRandomModel(
  device: Device,
  { config: json, weights }: { readonly config: Json; readonly weights: WeightChoice },
): Promise<{ readonly model: Model; readonly weights: WeightDType } & Disposable> {
  const config = configOf(json);
  using checkpoint = await openCheckpoint(randomCheckpoint(json));
  const loader = createWeights(checkpoint, device);
  const model = findModel(config)(device, loader, config);
  const { weights: resident } = await loader.load({ weights });
  return { model, weights: resident, [Symbol.dispose]: () => loader.free() };
}

/** The same model on a device that only counts: what `body` computes and holds in one step. */
export async function countStep(
  { config: json, weights, device }: {
    readonly config: Json;
    readonly weights: WeightChoice;
    readonly device: "wasm" | "webgpu";
  },
  body: (model: Model, device: CountingDevice) => void,
): Promise<StepCount> {
  const counting = new CountingDevice(device), declared = createConfigWeights(counting);
  const config = configOf(json);
  const model = findModel(config)(counting, declared, config);
  await declared.load(weights);
  await counting.step(() => Promise.resolve(body(model, counting)));
  return counting.last;
}

function configOf(json: Json) {
  return parseConfig("random weights", JSON.stringify(json));
}

/**
 * A checkpoint that takes no memory: config.json and a model.safetensors whose bf16 numbers are made as they
 * are read (uniform, standard deviation 0.02, always the same).
 */
export function randomCheckpoint(config: Json): Files {
  const counting = new CountingDevice("wasm"), declared = createConfigWeights(counting);
  findModel(configOf(config))(counting, declared, configOf(config));
  let end = 0;
  const header: Record<string, unknown> = {};
  for (const [tensor, shape] of declared.files) {
    const begin = end;
    end += 2 * shape.reduce((a, b) => a * b, 1);
    header[tensor] = { dtype: "BF16", shape, data_offsets: [begin, end] };
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const head = new Uint8Array(8 + text.length);
  new DataView(head.buffer).setBigUint64(0, BigInt(text.length), true);
  head.set(text, 8);

  const file: RandomAccessFile = {
    size: head.length + end,
    read(offset, into) {
      for (let at = 0; at < into.length;) {
        const from = offset + at;
        const source = from < head.length
          ? head.subarray(from)
          : PATTERN.subarray((from - head.length) % PATTERN.length);
        const part = source.subarray(0, into.length - at);
        into.set(part, at);
        at += part.length;
      }
      return Promise.resolve();
    },
    close() {},
  };
  return {
    label: "random weights",
    list: () => Promise.resolve(["config.json", "model.safetensors"]),
    text: (file) => Promise.resolve(file === "config.json" ? JSON.stringify(config) : undefined),
    open: () => Promise.resolve(file),
  };
}

/** bf16 numbers; a prime count, so that rows of a matrix differ. */
const PATTERN = (() => {
  const bits = new Uint32Array(new Float32Array(1).buffer), float = new Float32Array(bits.buffer);
  const numbers = new Uint16Array(1_000_003);
  let state = 1;
  for (let i = 0; i < numbers.length; i++) {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    float[0] = (state / 2 ** 31) * 0.02 * Math.sqrt(3);
    numbers[i] = bits[0]! >>> 16;
  }
  return new Uint8Array(numbers.buffer);
})();
