/** Arguments of WASM kernels by name. */
import assert from "node:assert/strict";
import { Signature } from "../runtime/device/wasm/signature.ts";
import { openWasmDevice } from "../runtime/device/wasm/device.ts";

const rope = () => new Signature("rope(x,head_dim,pairing:half|interleaved,causal)");

Deno.test("Signature.write() puts values where the kernel reads them, whatever their order", () => {
  const expected = [7, 16, 1, 1], values = { x: 7, headDim: 16, pairing: "interleaved", causal: true };
  const { x, ...rest } = values;
  for (const given of [values, { ...rest, x }]) {
    const words = new Float64Array(6);
    rope().write(given, words, 1);
    assert.deepEqual([...words], [0, ...expected, 0]);
  }
});

Deno.test("Signature.write() refuses names that are missing or unknown, and choices that are not declared", () => {
  const write = (values: Record<string, number | string | boolean>) =>
    rope().write(values, new Float64Array(4), 0);
  const values = { x: 1, headDim: 2, pairing: "half", causal: false };
  assert.throws(() => write({ x: 1, headDim: 2, pairing: "half" }), {
    name: "TypeError",
    message: /^Cannot record rope: its argument causal is missing/,
  });
  assert.throws(() => write({ headDim: 2, pairing: "half", causal: false }), /its argument x is missing/);
  assert.throws(() => write({ ...values, dim: 4 }), /^TypeError: Cannot record rope: it has no argument dim/);
  assert.throws(
    () => write({ ...values, pairing: "both" }),
    /pairing is "both": give one of half, interleaved/,
  );
  assert.throws(() => write({ ...values, x: "half" }), /x is "half": give a number/);
});

Deno.test({
  name: "the recorder refuses a kernel that does not exist, and leaves no half of a command",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using device = await openWasmDevice({ threads: 1 });
    const { recorder } = device.backend;
    const result = await device.step(async () => {
      const x = device.constant([1, 4], Float32Array.of(1, 2, 3, 4));
      assert.throws(() => recorder.record("scael", {}), /^TypeError: Cannot record scael: no kernel/);
      assert.throws(() => recorder.record("scale", { x: 0, count: 4, factor: 2 }), /y is missing/);
      assert.throws(() => recorder.table("route_segment", [{ from: 0 }]), /to is missing/);
      return await device.read(device.scale(x, 2));
    });
    assert.deepEqual([...result], [2, 4, 6, 8]);
  },
});

Deno.test({
  name: "commands may be recorded while others run, and uploads come in between",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using device = await openWasmDevice({ threads: 2 });
    const ones = () => [new Uint8Array(Float32Array.from({ length: 4096 }, () => 1).buffer)];
    const results = await device.step(async () => {
      const x = device.constant([64, 64], new Float32Array(4096).fill(1));
      const reads: Promise<Float32Array>[] = [];
      for (let i = 1; i <= 5; i++) {
        const weight = device.upload("f32", [64, 64], { dtype: "f32", chunks: ones() });
        reads.push(device.read(device.scale(x, i))); // not awaited
        const y = device.linear(device.scale(x, i), await weight);
        reads.push(device.read(y));
      }
      return await Promise.all(reads);
    });
    assert.deepEqual(results.map((numbers) => numbers[17]), [1, 64, 2, 128, 3, 192, 4, 256, 5, 320]);
  },
});
