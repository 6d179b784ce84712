/**
 * Repeats what docs/reliability.md tells: damaged and hostile files, hubs and networks that misbehave,
 * signals, threads that die, memory that is short, and what a server does in a day.
 *
 *   deno task faults          some minutes
 *   deno task faults --long   sixty times the inputs, 10,000 openings, 100,000 chats: some hours
 *
 * A failure names its seed; LAKH_SEED=… repeats it.
 *
 * @module
 */
import { parseArgs } from "node:util";

/** Of tests/, in the order in which the page tells of them. */
const TESTS = [
  "session_file_test.ts",
  "file_faults_test.ts",
  "config_faults_test.ts",
  "load_safetensors_test.ts",
  "validate_test.ts",
  "hub_download_test.ts",
  "hub_faults_test.ts",
  "atomic_file_test.ts",
  "terminal_test.ts",
  "permissions_test.ts",
  "machine_memory_test.ts",
  "device_faults_test.ts",
  "endurance_test.ts",
];

const { values } = parseArgs({ options: { long: { type: "boolean", default: false } } });
const { code } = await new Deno.Command(Deno.execPath(), {
  args: [
    "test",
    "-A",
    ...TESTS.map((name) => decodeURIComponent(new URL(`../tests/${name}`, import.meta.url).pathname)),
  ],
  env: values.long ? { LAKH_FAULTS: "long" } : {},
}).spawn().status;
Deno.exit(code);
