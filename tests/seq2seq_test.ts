/**
 * Encoder-decoders against what transformers computes for the same checkpoints, in f64 and on every device.
 */
import assert from "node:assert/strict";
import type { Device, Segment, Tensor } from "../runtime/device/device.ts";
import { openFolder } from "../runtime/load/folder.ts";
import { readTensors } from "../runtime/load/safetensors.ts";
import type { Seq2Seq } from "../runtime/models/model.ts";
import { F32_TOLERANCE, verifyCheckpoint } from "../runtime/judge/verify.ts";
import { fixtureNames, fixturePath } from "./fixtures.ts";
import { loadFixture } from "./load_fixture.ts";
import { ReferenceDevice } from "./reference/device.ts";
import { testDevices } from "./test_devices.ts";

const SEQ2SEQ = [
  "t5",
  "t5-v1.1",
  "longt5-local",
  "longt5-tglobal",
  "marian",
  "bigbird-pegasus",
  "colt5",
  "colt5-short",
  "umt5",
  "bart",
  "pegasus",
  "m2m100",
  "led",
].filter((name) => fixtureNames.includes(name));

/** Sums of the same numbers in f64, rounded to f32 once. */
const SAME = 1e-5;
/** CoLT5's weights and hidden states come from f32. */
const F32 = 1e-4;

/** Small checkpoints of families that have none among the fixtures. */
const SMALL = ["mbart"];
const familyPath = (name: string) =>
  decodeURIComponent(new URL(`families/${name}`, import.meta.url).pathname);

async function check(name: string, device: Device): Promise<void> {
  const files = await openFolder(SMALL.includes(name) ? familyPath(name) : fixturePath(name));
  const { maxAbsError, maxAbsReference, greedyEqual } = await verifyCheckpoint(files, device, {
    weights: "f32",
  });
  const share = maxAbsError / maxAbsReference;
  assert.ok(share <= F32_TOLERANCE, `${name} on ${device.name} is off by ${share} of the largest logit`);
  assert.equal(greedyEqual, true, `${name} on ${device.name} continues with other tokens`);
}

function draw(length: number): Uint32Array {
  return Uint32Array.from({ length }, (_, i) => 5 + (i * i + 3 * i) % 300);
}

function segmentsOf(lengths: readonly number[]): Segment[] {
  let row = 0;
  return lengths.map((length) => ({ from: row, to: row += length, start: 0 }));
}

function assertClose(actual: Float32Array, expected: Float32Array, message: string): void {
  assert.equal(actual.length, expected.length, message);
  actual.forEach((v, i) => {
    const difference = Math.abs(v - expected[i]!);
    assert.ok(
      difference <= SAME * (1 + Math.abs(expected[i]!)),
      `${message}: number ${i} is off by ${difference}`,
    );
  });
}

for (const name of [...SEQ2SEQ, ...SMALL]) {
  Deno.test(`${name} gives transformers' logits and tokens in f64`, () => check(name, new ReferenceDevice()));
  for (const { name: deviceName, missing, open } of testDevices) {
    Deno.test({
      name: `${name} gives transformers' logits and tokens on ${deviceName}`,
      ignore: missing !== undefined,
      sanitizeOps: false,
      sanitizeResources: false,
      fn: async () => await check(name, await open()),
    });
  }
}

for (const name of SEQ2SEQ) {
  Deno.test(`${name} encodes several sequences in one pass as one by one`, async () => {
    const { device, model } = await loadFixture(name, "seq2seq");
    const segments = segmentsOf([90, 7, 33, 90, 1]), ids = draw(221);
    const together = await device.step(() => device.read(model.encode({ ids, segments })));
    for (const { from, to } of segments) {
      const one = { ids: ids.slice(from, to), segments: segmentsOf([to - from]) };
      const alone = await device.step(() => device.read(model.encode(one)));
      const { hiddenSize } = model.facts;
      const message = `sequence of ${to - from}`;
      assertClose(alone, together.slice(from * hiddenSize, to * hiddenSize), message);
    }
  });

  Deno.test(`${name} decodes two sequences in one pass as one by one`, async () => {
    const { device, model } = await loadFixture(name, "seq2seq");
    const texts = [draw(70), draw(25).reverse()], before = device.memoryInUse;
    const memories = await device.step(async () => {
      const filled = texts.map((ids) => {
        return model.createMemory(model.encode({ ids, segments: segmentsOf([ids.length]) }), "f32");
      });
      await device.flush();
      return filled;
    });
    const passes = [[5, 3], [1, 1], [2, 1]];
    const run = async (which: readonly number[]): Promise<Float32Array[]> => {
      const caches = which.map(() => model.createStates("f32"));
      const logits: Float32Array[] = [];
      const length = which.map(() => 0);
      for (const counts of passes) {
        let row = 0;
        const segments = which.map((s, i): Segment => {
          const start = length[i]!;
          length[i] = start + counts[s]!;
          return { from: row, to: row += counts[s]!, start };
        });
        const ids = Uint32Array.from(
          which.flatMap((s, i) => [...draw(40).subarray(segments[i]!.start + 9 * s, length[i]! + 9 * s)]),
        );
        logits.push(
          await pass(device, model, {
            ids,
            segments,
            states: columns(caches),
            memory: columns(which.map((s) => memories[s]!)),
          }),
        );
      }
      for (const cache of caches.flat()) cache.free();
      return logits;
    };
    const together = await run([0, 1]), alone = [await run([0]), await run([1])];
    together.forEach((logits, i) => {
      const expected = Float32Array.from([...alone[0]![i]!, ...alone[1]![i]!]);
      assertClose(logits, expected, `pass ${i}`);
    });
    for (const cache of memories.flat()) cache.free();
    assert.equal(device.memoryInUse, before, "caches give their memory back");
  });
}

/** [sequence][layer] → [layer][sequence] */
function columns<T>(bySequence: readonly (readonly T[])[]): T[][] {
  return bySequence[0]!.map((_, layer) => bySequence.map((caches) => caches[layer]!));
}

/** Logits of every row. */
function pass(
  device: Device,
  model: Seq2Seq,
  batch: Omit<Parameters<Seq2Seq["forward"]>[0], "logitRows">,
): Promise<Float32Array> {
  return device.step(() => {
    const rows = Uint32Array.from(batch.ids, (_, i) => i);
    return device.read(model.forward({ ...batch, logitRows: device.constant([rows.length], rows) }));
  });
}

/** Records the routers' choices and the rows of each matrix product. */
class WatchedDevice extends ReferenceDevice {
  readonly routes: Promise<readonly [rows: Float32Array, weights: Float32Array]>[] = [];
  readonly rowsByOutput = new Map<number, number[]>();

  override route(...args: Parameters<Device["route"]>): ReturnType<Device["route"]> {
    const routed = super.route(...args);
    this.routes.push(Promise.all([this.read(routed.rows), this.read(routed.weights)]));
    return routed;
  }

  override linear(...args: Parameters<Device["linear"]>): Tensor {
    const [x, weight] = args, out = weight.shape[0]!;
    this.rowsByOutput.set(out, [...this.rowsByOutput.get(out) ?? [], x.shape[0]!]);
    return super.linear(...args);
  }
}

for (const name of ["colt5", "colt5-short"].filter((name) => fixtureNames.includes(name))) {
  Deno.test(`${name} routes the tokens of its reference, and the heavy branch computes no other`, async () => {
    const device = new WatchedDevice();
    const { model } = await loadFixture(name, "seq2seq", device);
    const tensors = await readTensors(await openFolder(fixturePath(name)), "reference.safetensors");
    const numbers = (tensor: string) => Float32Array.from(tensors[tensor]!.data as ArrayLike<bigint>, Number);
    const ids = Uint32Array.from(numbers("input_ids")), tokens = ids.length;
    await device.step(async () => {
      const hidden = await device.read(model.encode({ ids, segments: segmentsOf([tokens]) }));
      numbers("encoder_hidden").forEach((v, i) => {
        assert.ok(Math.abs(v - hidden[i]!) <= F32 * (1 + Math.abs(v)), `hidden ${i}`);
      });
    });
    const chosen = Math.max(1, Math.floor(tokens / 16)), layers = device.routes.length / 3;
    assert.deepEqual(device.rowsByOutput.get(576), new Array(2 * layers).fill(chosen)); // d_ff_heavy
    assert.deepEqual(device.rowsByOutput.get(72), new Array(2 * layers).fill(tokens)); // d_ff_light
    const [rows, weights] = await device.routes[0]!; // the queries of layer 0
    assert.deepEqual(rows, numbers("routed_query_indices"));
    numbers("routed_query_weights").forEach((v, i) => {
      assert.ok(Math.abs(v - weights[i]!) <= F32, `weight ${i} is ${weights[i]}, not ${v}`);
    });
  });
}
