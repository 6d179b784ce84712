/**
 * How fast lakh has been: `bench/history.jsonl`, one run of `lakh bench` a line.
 *
 * - `deno task bench:record [options of lakh bench]` runs the bench on this machine and appends its result.
 * - `deno task bench:compare [--fail-below 10]` compares the last run with the one before it on the same
 *   machine, by device, shape and format. Percent of the roof is what counts: the roofs are measured in the
 *   same run, so a machine that is slower today does not look like slower code. It fails when a number has
 *   fallen by more than 10 points.
 *
 * @module
 */
import { parseArgs } from "node:util";

const HISTORY = new URL("../bench/history.jsonl", import.meta.url);

type ByTokens = Readonly<Record<"prefill" | "decode", Readonly<Record<string, number>>>>;

/** One line. */
export interface Entry extends ByTokens {
  /** ISO 8601, UTC. */
  readonly date: string;
  readonly commit: string;
  /** Processor and threads, or the GPU. */
  readonly machine: string;
  readonly device: string;
  readonly shape: string;
  readonly weights: string;
  readonly roofs: Readonly<Record<string, number | null>>;
  readonly percent_of_roof: ByTokens;
}

/** A number that both runs have. */
export interface Change {
  /** "prefill 512" */
  readonly what: string;
  /** Percent of the roof. */
  readonly before: number;
  readonly after: number;
  readonly tokensPerSecond: number;
}

/** The runs of a text of lines. Throws an Error that names a line which is not one. */
export function readHistory(text: string): Entry[] {
  return text.split("\n").flatMap((line, i) => {
    if (line.trim() === "") return [];
    try {
      const entry: Entry = JSON.parse(line);
      if (!entry.percent_of_roof?.prefill || !entry.machine) throw new Error("it is not a run");
      return [entry];
    } catch (cause) {
      throw new Error(`Cannot read "bench/history.jsonl": line ${i + 1} is not a run of lakh bench`, {
        cause,
      });
    }
  });
}

/** What changed in the last run since the one before it that is comparable; undefined without such. */
export function changesIn(
  history: readonly Entry[],
): { readonly entries: [Entry, Entry]; changes: Change[] } | undefined {
  const after = history.at(-1);
  const before = history.slice(0, -1).findLast((entry) =>
    (["machine", "device", "shape", "weights"] as const).every((key) => entry[key] === after?.[key])
  );
  if (!before || !after) return undefined;
  const changes = (["prefill", "decode"] as const).flatMap((kind) =>
    Object.entries(after.percent_of_roof[kind]).flatMap(([at, percent]) => {
      const old = before.percent_of_roof[kind][at];
      if (old === undefined) return [];
      return [{ what: `${kind} ${at}`, before: old, after: percent, tokensPerSecond: after[kind][at]! }];
    })
  );
  return { entries: [before, after], changes };
}

async function record(options: readonly string[]): Promise<void> {
  const run = async (command: string, args: readonly string[]) => {
    const { success, stdout } = await new Deno.Command(command, { args: [...args], stderr: "inherit" })
      .output();
    if (!success) throw new Error(`Cannot record: ${command} ${args[0]} failed`);
    return new TextDecoder().decode(stdout).trim();
  };
  const output = await run(Deno.execPath(), ["run", "-A", "cli.ts", "bench", "--json", ...options]);
  const result = JSON.parse(output.split("\n").at(-1)!);
  const entry = {
    date: new Date().toISOString(),
    commit: await run("git", ["describe", "--always", "--dirty"]),
    machine: result.gpu ?? `${await processor()}, ${result.threads} threads`,
    ...result,
  };
  await Deno.writeTextFile(HISTORY, `${JSON.stringify(entry)}\n`, { append: true });
  console.log(`${entry.machine}: ${entry.device} ${entry.shape} ${entry.weights} at ${entry.commit}`);
}

async function processor(): Promise<string> {
  try {
    const model = (await Deno.readTextFile("/proc/cpuinfo")).match(/^model name\s*: (.+)$/m)?.[1];
    if (model) return model;
  } catch {
    // Only Linux has this file.
  }
  return `${Deno.build.os} ${Deno.build.arch}`;
}

async function compare(limit: number): Promise<void> {
  let text = "";
  try {
    text = await Deno.readTextFile(HISTORY);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const found = changesIn(readHistory(text));
  if (!found) {
    console.log("There are no two runs of this machine, device, shape and format: deno task bench:record");
    return;
  }
  const { entries: [before, after], changes } = found;
  console.log(`${after.machine}: ${after.device} ${after.shape} ${after.weights}`);
  console.log(
    `${before.commit} (${before.date.slice(0, 10)}) → ${after.commit} (${after.date.slice(0, 10)})`,
  );
  for (const { what, before, after, tokensPerSecond } of changes) {
    const cells = [before, after].map((x) => `${x.toFixed(1)} %`.padStart(8));
    console.log(`${what.padEnd(14)} ${cells.join(" → ")} of the roof, ${tokensPerSecond} tokens/s`);
  }
  const worse = changes.filter(({ before, after }) => before - after > limit);
  if (worse.length === 0) return;
  console.error(`slower by more than ${limit} % of the roof: ${worse.map(({ what }) => what).join(", ")}`);
  Deno.exit(1);
}

if (import.meta.main) {
  const [command, ...options] = Deno.args;
  if (command === "record") await record(options);
  else {
    const { values } = parseArgs({
      args: options,
      options: { "fail-below": { type: "string", default: "10" } },
    });
    await compare(Number(values["fail-below"]));
  }
}
