/** What a machine can give, from what systems and control groups say. */
import assert from "node:assert/strict";
import { openWasmDevice } from "../runtime/device/open_device.ts";
import { openEmbedded } from "../runtime/embedded.ts";
import { loadModel } from "../runtime/load_model.ts";
import { checkRoom, memoryLeft } from "../runtime/machine_memory.ts";

const GIB = 2 ** 30, RESERVE = 160 * 2 ** 20;
const system = (available: number | undefined, files: Record<string, string> = {}) => ({
  available,
  read: (path: string) => files[path],
});

Deno.test("memoryLeft() takes the least of the system and of every control group above the process", () => {
  assert.equal(memoryLeft(system(8 * GIB)), 8 * GIB - RESERVE);
  assert.equal(memoryLeft(system(undefined)), undefined);
  const version2 = (limit: string) => ({
    "/proc/self/cgroup": "0::/system.slice/lakh.service\n",
    "/sys/fs/cgroup/system.slice/memory.max": limit,
    "/sys/fs/cgroup/system.slice/memory.current": `${2 * GIB}\n`,
    "/sys/fs/cgroup/system.slice/memory.stat": `anon 5\ninactive_file ${GIB}\n`,
    "/sys/fs/cgroup/system.slice/lakh.service/memory.max": "max\n",
    "/sys/fs/cgroup/system.slice/lakh.service/memory.current": "5\n",
  });
  assert.equal(memoryLeft(system(8 * GIB, version2(`${3 * GIB}\n`))), 2 * GIB - RESERVE);
  assert.equal(memoryLeft(system(GIB, version2(`${3 * GIB}\n`))), GIB - RESERVE);
  assert.equal(memoryLeft(system(8 * GIB, version2("max\n"))), 8 * GIB - RESERVE);
  // In a container the group of the process is mounted as the root.
  const container = {
    "/proc/self/cgroup": "4:cpu:/x\n3:memory:/docker/abc\n",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": `${GIB}\n`,
    "/sys/fs/cgroup/memory/memory.usage_in_bytes": `${GIB / 4}\n`,
    "/sys/fs/cgroup/memory/memory.stat": `cache 9\ninactive_file 7\ntotal_inactive_file 0\n`,
  };
  assert.equal(memoryLeft(system(8 * GIB, container)), 0.75 * GIB - RESERVE);
  const without = { ...container, "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n" };
  assert.equal(memoryLeft(system(8 * GIB, without)), 8 * GIB - RESERVE);
});

Deno.test("memoryLeft() survives nonsense, and leaves room for a small model", () => {
  const nonsense = {
    "/proc/self/cgroup": "0::/../../etc\nx\n0:::\n1:memory:/\n",
    "/sys/fs/cgroup/memory.max": "many\n",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "-1\n",
    "/sys/fs/cgroup/memory/memory.usage_in_bytes": "0\n",
  };
  assert.equal(memoryLeft(system(4 * GIB, nonsense)), 4 * GIB - RESERVE);
  assert.equal(memoryLeft(system(1000)), 256 * 2 ** 20);
});

Deno.test("a device takes no more than the machine gives, and goes on after it has refused", async () => {
  const device = await openWasmDevice({ threads: 1, machineBytes: 64 << 20 });
  assert.equal(device.limits.memoryBytes, 64 << 20);
  const model = await loadModel(await openEmbedded(), device, { weights: "f32", cache: "f32" });
  const long = "The lamp burned low in the hall. ".repeat(3000);
  await assert.rejects(async () => {
    for await (const _ of model.generate(long, { maxTokens: 1 }));
  }, RangeError);
  let text = "";
  for await (const piece of model.generate("Once upon", { maxTokens: 3 })) text += piece.text;
  assert.notEqual(text, "");
  await model.close();
});

Deno.test("weights that do not fit are refused with the format that does", () => {
  const model = { name: "org/big", weightBytes: { f32: 28e9, f16: 14e9, bf16: 14e9, q8: 7.4e9, q4: 4e9 } };
  checkRoom(model, "q8", 7.4e9);
  assert.throws(() => checkRoom(model, "q8", 5e9), {
    name: "RangeError",
    message: 'Cannot open "org/big": its weights take 7.4 GB as q8, there is memory for 5.0 GB: ' +
      "open it with weights q4 (4.0 GB)",
  });
  assert.throws(
    () => checkRoom(model, "f32", 3e9),
    /even q4 takes 4.0 GB: take a smaller model, or a machine/,
  );
});
