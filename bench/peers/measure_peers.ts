/**
 * Measures every setting of every peer, one after the other, and spends no time on what can not be the
 * fastest.
 *
 * @module
 */
import { median } from "../../runtime/judge/bench/measure.ts";
import type { Conditions, Peer, Point } from "./peer.ts";
import { type Cell, rateOf, round, type Row, standsFor } from "./table.ts";

/** How time grows with length, to guess what the next one will cost: between linear and quadratic. */
const GROWTH = 1.7;
/** A setting below this share of another one is not tried at the next length. */
const CLOSE = 0.85;
/** Beyond any guess: ends what hangs. */
const PATIENCE = 5;

export interface Plan extends Omit<Conditions, "signal"> {
  readonly points: readonly Point[];
  /** A run that is expected to take longer is measured once; one of twice this is left out. */
  readonly mostSeconds: number;
}
export interface Measured {
  readonly rows: readonly Row[];
  /** The most that other programs used of the cores before a measurement. */
  readonly busyCores: number;
}

export async function measurePeers(
  peers: readonly Peer[],
  { plan, say }: { plan: Plan; say: (line: string) => void },
): Promise<Measured> {
  const points = [...plan.points].sort((a, b) => a.tokens - b.tokens);
  const rows: Row[] = [];
  let busyCores = 0;
  for (const peer of peers) {
    let open = peer.settings.map((setting): Row => ({ peer, setting, cells: new Map() }));
    rows.push(...open);
    for (const point of points) {
      for (const row of open) {
        const busy = await coresInUse();
        busyCores = Math.max(busyCores, busy);
        await fill(row, point, plan);
        const found = columnsOf(point).map((column) => `${column}: ${words(row.cells.get(column)!)}`).join(
          ", ",
        );
        say(`${peer.name}, ${row.setting.label}, ${found} (others: ${busy.toFixed(1)} cores)`);
      }
      const known = latestColumns(points, point);
      if (known.length > 0) open = open.filter((row) => !isBeaten(row, known, open));
    }
  }
  return { rows, busyCores };
}

function columnsOf({ tokens, prefill, decode }: Point): string[] {
  return [...prefill ? [`prefill ${tokens}`] : [], ...decode ? [`decode ${tokens}`] : []];
}

function words(cell: Cell): string {
  return "rate" in cell ? `${cell.rate.toFixed(1)} tokens/s` : cell.missing;
}

/** Measures one setting at one point; what went wrong is the cell's text. */
async function fill({ setting, cells }: Row, point: Point, plan: Plan): Promise<void> {
  const set = (cell: (what: "prefill" | "decode") => Cell) => {
    if (point.prefill) cells.set(`prefill ${point.tokens}`, cell("prefill"));
    if (point.decode) cells.set(`decode ${point.tokens}`, cell("decode"));
  };
  const seconds = expectedSeconds(cells, point.tokens);
  if (seconds > 2 * plan.mostSeconds) {
    return set(() => ({ missing: `left out, about ${Math.ceil(seconds / 60)} minutes a run` }));
  }
  const runs = seconds > plan.mostSeconds ? 1 : plan.runs;
  const signal = AbortSignal.timeout(1000 * PATIENCE * runs * (plan.mostSeconds + 60));
  try {
    const rates = await setting.measure(point, { threads: plan.threads, steps: plan.steps, runs, signal });
    set((what) => ({ rate: round(median(rates[what])), runs }));
  } catch (error) {
    set(() => ({
      missing: `failed: ${(error instanceof Error ? error.message : `${error}`).slice(0, 300)}`,
    }));
  }
}

/** Of one run, from the longest prefill so far; 0 when nothing is known. */
function expectedSeconds(cells: ReadonlyMap<string, Cell>, tokens: number): number {
  let seconds = 0;
  for (const [column, cell] of cells) {
    const [what, length] = column.split(" ");
    if (what !== "prefill" || !("rate" in cell)) continue;
    seconds = Number(length) / cell.rate * (tokens / Number(length)) ** GROWTH;
  }
  return seconds;
}

/** The longest prefill and the deepest decode up to a point; none while one of them is still to come. */
function latestColumns(points: readonly Point[], until: Point): string[] {
  const columns: string[] = [];
  for (const what of ["prefill", "decode"] as const) {
    const asked = points.filter((point) => point[what]);
    const latest = asked.findLast(({ tokens }) => tokens <= until.tokens);
    if (latest) columns.push(`${what} ${latest.tokens}`);
    else if (asked.length > 0) return [];
  }
  return columns;
}

/**
 * Whether a setting that stands for the same comparisons, or for more of them, is much faster in every
 * column.
 */
function isBeaten(row: Row, columns: readonly string[], open: readonly Row[]): boolean {
  return open.some((other) =>
    other !== row && standsFor(other, row.setting.bits) &&
    columns.every((column) => rateOf(row, column) < CLOSE * rateOf(other, column))
  );
}

/** Cores that are in use, over one second in which nothing is measured; 0 where the system does not tell. */
async function coresInUse(): Promise<number> {
  const [before, start] = [busySeconds(), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, 1000));
  return (busySeconds() - before) * 1000 / (performance.now() - start);
}

/** Of all cores since the start: user, nice, system, irq, softirq and steal of /proc/stat, in its 1/100 s. */
function busySeconds(): number {
  try {
    const line = Deno.readTextFileSync("/proc/stat").split("\n")[0]!;
    const [user, nice, system, , , irq, softirq, steal] = line.trim().split(/\s+/).slice(1).map(Number);
    return (user! + nice! + system! + irq! + softirq! + steal!) / 100;
  } catch {
    return 0;
  }
}
