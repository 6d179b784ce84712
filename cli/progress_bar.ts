/**
 * One bar on stderr for work of more than a second: download, load, prefill. Without a terminal there is no
 * bar.
 *
 * @module
 */
import process from "node:process";
import type { Progress } from "../runtime/progress.ts";
import type { loadProgressBars } from "../runtime/deps.ts";
import { formatBytes, formatCount, formatDuration } from "./format.ts";
import { cosmetic } from "./terminal.ts";
import { TimeLeft } from "./time_left.ts";

/** Work that ends sooner shows no bar. */
const PATIENCE_MS = 1000;
/** After this time the rest can be estimated. */
const GLANCE_MS = 300;

/** Progress from the library, or from a bench. */
type Shown = Progress | {
  readonly phase: "measure";
  readonly done: number;
  readonly total: number;
  readonly unit: "flops";
};

/** Shows the progress of one phase after the other; dispose to clear the line. */
export interface ProgressBar extends Disposable {
  readonly onProgress: (progress: Shown) => void;
  /** Clears the line before other text is written. */
  clear(): void;
}

type Bar = InstanceType<Awaited<ReturnType<typeof loadProgressBars>>["SingleBar"]>;

/** A bar on a terminal; elsewhere a bar that shows nothing. */
export function openProgressBar(): ProgressBar {
  if (!Deno.stderr.isTerminal() || cosmetic("TERM") === "dumb") {
    return { onProgress: () => {}, clear: () => {}, [Symbol.dispose]: () => {} };
  }
  return new TerminalProgressBar();
}

class TerminalProgressBar implements ProgressBar {
  #phase: Shown["phase"] | undefined;
  #begin = 0;
  #estimate = new TimeLeft();
  #bar: Bar | undefined;
  #loading = false;
  /** Counts phases: a bar whose library loads too late belongs to an older phase and is not shown. */
  #turn = 0;

  readonly onProgress = (progress: Shown): void => {
    const { phase, done, total } = progress;
    if (phase !== this.#phase || done < this.#estimate.done) {
      this.clear();
      this.#phase = phase;
      this.#begin = performance.now();
      this.#estimate = new TimeLeft();
    }
    const elapsed = performance.now() - this.#begin;
    this.#estimate.add(done, elapsed);
    if (done >= total) return this.clear();
    const payload = describe(progress, this.#estimate);
    const long = elapsed > PATIENCE_MS ||
      elapsed > GLANCE_MS && elapsed + this.#estimate.left(total) > PATIENCE_MS;
    if (this.#bar) this.#bar.update(Math.floor((done / total) * BAR_STEPS), payload);
    else if (!this.#loading && long) this.#show(payload);
  };

  clear(): void {
    this.#turn++;
    this.#phase = undefined;
    this.#bar?.stop();
    this.#bar = undefined;
    this.#loading = false;
  }

  [Symbol.dispose](): void {
    this.clear();
  }

  async #show(payload: Record<string, string>): Promise<void> {
    this.#loading = true;
    const turn = this.#turn;
    const { SingleBar } = await (await import("../runtime/deps.ts")).loadProgressBars();
    if (turn !== this.#turn) return;
    this.#loading = false;
    this.#bar = new SingleBar({
      stream: process.stderr,
      format: "{phase} {bar} {percentage}% {amount}{speed}{left}",
      barCompleteChar: "█",
      barIncompleteChar: "░",
      barsize: Math.max(8, Math.min(30, (process.stderr.columns ?? 80) - TEXT_WIDTH)),
      clearOnComplete: true,
      // No cursor hiding, no line-wrap switch, no signal handlers: Ctrl-C must leave the terminal as it was.
      hideCursor: false,
      linewrap: true,
      gracefulExit: false,
      fps: 10,
    });
    this.#bar.start(BAR_STEPS, 0, payload);
  }
}

const BAR_STEPS = 1000;
/** "reading … 100% 100,000 of 100,000 tokens, 10,000 tokens/s, 59 min 59 s left" */
const TEXT_WIDTH = 72;

const VERBS = { download: "downloading", load: "loading", prefill: "reading", measure: "measuring" } as const;

function describe({ phase, done, total, unit }: Shown, estimate: TimeLeft): Record<string, string> {
  const perSecond = estimate.speed * 1000;
  const left = estimate.left(total);
  return {
    phase: VERBS[phase],
    amount: unit === "flops"
      ? ""
      : unit === "bytes"
      ? `${formatBytes(done)} of ${formatBytes(total)}`
      : `${formatCount(done)} of ${formatCount(total)} tokens`,
    speed: unit !== "flops" && perSecond > 0
      ? `, ${
        unit === "bytes" ? `${formatBytes(perSecond)}/s` : `${formatCount(Math.round(perSecond))} tokens/s`
      }`
      : "",
    left: Number.isFinite(left) ? `, ${formatDuration(left)} left` : "",
  };
}
