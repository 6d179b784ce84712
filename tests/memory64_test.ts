/** More than 4 GiB in one WASM memory. Every place holds other numbers, so that a wrong address shows. */
import assert from "node:assert/strict";
import { openWasmDevice } from "../runtime/device/wasm/device.ts";

/** Six matrices of 1.07 GB. */
const COUNT = 6, ROWS = 65536, COLUMNS = 4096;
/** A prime, so that no two rows begin alike. */
const PERIOD = 1_000_003;
/** Memory of the matrices and of the test itself. */
const NEEDED = 9e9;

const available = Deno.systemMemoryInfo().available;
if (available < NEEDED) {
  console.warn(`memory64 is skipped: ${(available / 1e9).toFixed(1)} GB are free, not 9`);
}

/** Number (row, column) of matrix `i`. */
const number = (i: number, row: number, column: number) =>
  ((i * ROWS * COLUMNS + row * COLUMNS + column) % PERIOD) / PERIOD;

function* chunksOf(i: number, pattern: Float32Array): Generator<Uint8Array> {
  for (let at = i * ROWS * COLUMNS, left = ROWS * COLUMNS; left > 0;) {
    const part = pattern.subarray(at % PERIOD, at % PERIOD + left);
    yield new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
    at += part.length;
    left -= part.length;
  }
}

Deno.test({
  name: "weights of 6.4 GB are all in their place",
  ignore: available < NEEDED,
  async fn() {
    await using device = await openWasmDevice({ bits: 64 });
    const pattern = Float32Array.from({ length: PERIOD }, (_, i) => i / PERIOD);
    const matrices = [];
    for (let i = 0; i < COUNT; i++) {
      const source = { dtype: "f32", chunks: chunksOf(i, pattern) } as const;
      matrices.push(await device.upload("f32", [ROWS, COLUMNS], source));
    }
    assert.ok(device.memoryInUse > 6.4e9, `${device.memoryInUse} bytes are in use`);
    for (const [i, matrix] of matrices.entries()) {
      // A row of x that is 1 in one place picks a column of the matrix.
      for (const column of [0, 1234, COLUMNS - 1]) {
        const x = new Float32Array(COLUMNS);
        x[column] = 1;
        const y = await device.step(() =>
          device.read(device.linear(device.constant([1, COLUMNS], x), matrix))
        );
        for (let row = 0; row < ROWS; row += 997) {
          const wanted = Math.fround(number(i, row, column));
          assert.equal(y[row], wanted, `matrix ${i}, row ${row}, column ${column}`);
        }
      }
    }
  },
});

Deno.test("a device with 32-bit addresses says what does not fit", async () => {
  await using device = await openWasmDevice({ bits: 32, threads: 1 });
  await assert.rejects(
    device.upload("f32", [ROWS * 5, COLUMNS], { dtype: "f32", chunks: [] }),
    (error: Error) => error instanceof RangeError && /5\.37 GB.*use smaller weights/s.test(error.message),
  );
});
