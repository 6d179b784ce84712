/** Encoders against what transformers computes for the same checkpoints, in f64 and on every device. */
import assert from "node:assert/strict";
import type { Device } from "../runtime/device/device.ts";
import type { Files } from "../runtime/load/files.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { F32_TOLERANCE, verifyCheckpoint } from "../runtime/judge/verify.ts";
import { fixtureNames, fixturePath } from "./fixtures.ts";
import { loadFixture } from "./load_fixture.ts";
import { ReferenceDevice } from "./reference/device.ts";
import { testDevices } from "./test_devices.ts";

const ENCODERS = [
  "bert",
  "distilbert",
  "electra",
  "mpnet",
  "albert",
  "nomic-bert",
  "eurobert",
  "modernbert",
  "bigbird",
  "bigbird-full",
  "longformer",
]
  .filter((name) => fixtureNames.includes(name));

/**
 * A tiny RobertaForMaskedLM with a padding token in its reference's middle, and what transformers 4.57.6
 * gives.
 */
const ROBERTA = new URL("goldens/roberta", import.meta.url).pathname;

async function check(name: string, device: Device, path = fixturePath(name)): Promise<void> {
  await checkFiles(name, device, await openFolder(path));
}

async function checkFiles(name: string, device: Device, files: Files): Promise<void> {
  const { maxAbsError, maxAbsReference } = await verifyCheckpoint(files, device, { weights: "f32" });
  const share = maxAbsError / maxAbsReference;
  assert.ok(share <= F32_TOLERANCE, `${name} on ${device.name} is off by ${share} of the largest number`);
}

Deno.test("roberta under its task's name gives transformers' hidden states in f64", () => {
  return check("roberta", new ReferenceDevice(), ROBERTA);
});

/** The config keys of Nomic BERT's authors, which its first checkpoints have, with the fixture's sizes. */
const NOMIC = {
  model_type: "nomic_bert",
  ...{ n_embd: 64, n_head: 4, n_inner: 144, n_layer: 3, n_positions: 256, vocab_size: 384 },
  ...{ type_vocab_size: 2, layer_norm_epsilon: 1e-12, activation_function: "swiglu" },
  ...{ rotary_emb_base: 1000, rotary_emb_fraction: 1, rotary_emb_interleaved: false },
  ...{ rotary_emb_scale_base: null, rotary_scaling_factor: null, causal: false, prenorm: false },
  ...{ qkv_proj_bias: false, mlp_fc1_bias: false, mlp_fc2_bias: false, use_rms_norm: false },
};

async function nomicFiles(config: Readonly<Record<string, unknown>>): Promise<Files> {
  const files = await openFolder(fixturePath("nomic-bert"));
  const text = (name: string) => {
    return name === "config.json" ? Promise.resolve(JSON.stringify(config)) : files.text(name);
  };
  return { label: "nomic", list: () => files.list(), text, open: (name) => files.open(name) };
}

Deno.test({
  name: "nomic-bert under its authors' config keys gives the same, and refuses what changes it",
  ignore: !fixtureNames.includes("nomic-bert"),
  async fn() {
    await checkFiles("nomic-bert", new ReferenceDevice(), await nomicFiles(NOMIC));
    for (const [key, value] of Object.entries({ prenorm: true, rotary_scaling_factor: 2, causal: true })) {
      const files = await nomicFiles({ ...NOMIC, [key]: value });
      const load = checkFiles("nomic-bert", new ReferenceDevice(), files);
      await assert.rejects(load, new RegExp(`${key} is ${value}, which is not supported`));
    }
  },
});

for (const name of ENCODERS) {
  Deno.test(`${name} gives transformers' hidden states in f64`, () => check(name, new ReferenceDevice()));
  for (const { name: deviceName, missing, open } of testDevices) {
    Deno.test({
      name: `${name} gives transformers' hidden states on ${deviceName}`,
      ignore: missing !== undefined,
      sanitizeOps: false,
      sanitizeResources: false,
      fn: async () => await check(name, await open()),
    });
  }

  Deno.test(`${name} encodes several sequences in one pass as one by one`, async () => {
    const { device, model } = await loadFixture(name, "encoder");
    // Long enough for sparse attention, short enough for dense, equal lengths, one token.
    const lengths = [100, 17, 100, 1];
    let row = 0;
    const segments = lengths.map((length) => ({ from: row, to: row += length, start: 0 }));
    const ids = Uint32Array.from({ length: row }, (_, i) => 5 + (i * i + 3 * i) % 300);
    const globalRows = name === "longformer" ? [0, 40, 100, 150, 217] : [];
    const encode = (input: Parameters<typeof model.encode>[0]) =>
      device.step(() => device.read(model.encode(input)));
    const together = await encode({ ids, segments, globalRows });
    const { hiddenSize } = model.facts;
    for (const { from, to } of segments) {
      const alone = await encode({
        ids: ids.slice(from, to),
        segments: [{ from: 0, to: to - from, start: 0 }],
        globalRows: globalRows.filter((row) => from <= row && row < to).map((row) => row - from),
      });
      alone.forEach((v, i) => {
        const difference = Math.abs(v - together[from * hiddenSize + i]!);
        // The same sums in f64, written to f32 in between at most once.
        assert.ok(difference < 1e-6, `row ${from + Math.floor(i / hiddenSize)} is off by ${difference}`);
      });
    }
  });
}
