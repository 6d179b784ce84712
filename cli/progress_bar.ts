/**
 * One bar on stderr for what takes longer than a second: download, load, prefill. Nothing where stderr is no terminal.
 *
 * @module
 */
import process from "node:process";
import type { OnProgress, Progress } from "../runtime/progress.ts";
import type { loadProgressBars } from "../runtime/deps.ts";
import { formatBytes, formatCount, formatDuration } from "./format.ts";

/** What is over sooner shows no bar. */
const PATIENCE_MS = 1000;
/** After this time the rest can be estimated. */
const GLANCE_MS = 300;
/** Speed is an average that forgets what is older than about this. */
const MEMORY_MS = 3000;

/** Takes progress of one phase after the other; dispose to clear the line. */
export interface ProgressBar extends Disposable {
  readonly onProgress: OnProgress;
  /** Clears the line before other text is written. */
  clear(): void;
}

type Bar = InstanceType<Awaited<ReturnType<typeof loadProgressBars>>["SingleBar"]>;

/** A bar for a terminal; one that shows nothing elsewhere. */
export function openProgressBar(): ProgressBar {
  if (!Deno.stderr.isTerminal() || Deno.env.get("TERM") === "dumb") {
    return { onProgress: () => {}, clear: () => {}, [Symbol.dispose]: () => {} };
  }
  return new TerminalProgressBar();
}

class TerminalProgressBar implements ProgressBar {
  #phase: Progress["phase"] | undefined;
  #clock = new Stopwatch();
  #bar: Bar | undefined;
  #loading = false;
  /** Counts phases, so that a bar whose library arrives late knows that it is not wanted any more. */
  #turn = 0;

  readonly onProgress = (progress: Progress): void => {
    const { phase, done, total } = progress;
    if (phase !== this.#phase || done < this.#clock.done) {
      this.clear();
      this.#phase = phase;
      this.#clock = new Stopwatch();
    }
    this.#clock.add(done);
    if (done >= total) return this.clear();
    const payload = describe(progress, this.#clock);
    if (this.#bar) this.#bar.update(Math.floor((done / total) * BAR_STEPS), payload);
    else if (!this.#loading && this.#clock.worthABar(total)) this.#show(payload);
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
      barsize: 24,
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

/** Time and speed of one phase. */
class Stopwatch {
  done = 0;
  #begin = performance.now();
  #last = this.#begin;
  /** Units per millisecond. */
  speed = 0;

  add(done: number): void {
    const now = performance.now(), span = now - this.#last;
    if (span < 1) return;
    const weight = 1 - Math.exp(-span / MEMORY_MS);
    const current = (done - this.done) / span;
    // At the beginning the average of all is the better guess.
    const first = now - this.#begin < MEMORY_MS;
    this.speed = first ? done / (now - this.#begin) : this.speed + weight * (current - this.speed);
    this.done = done;
    this.#last = now;
  }

  worthABar(total: number): boolean {
    const elapsed = performance.now() - this.#begin;
    return elapsed > PATIENCE_MS || elapsed > GLANCE_MS && elapsed + this.left(total) > PATIENCE_MS;
  }

  /** Milliseconds. */
  left(total: number): number {
    return this.speed > 0 ? (total - this.done) / this.speed : Infinity;
  }
}

const VERBS = { download: "downloading", load: "loading", prefill: "reading" } as const;

function describe({ phase, done, total, unit }: Progress, clock: Stopwatch): Record<string, string> {
  const perSecond = clock.speed * 1000;
  const left = clock.left(total);
  return {
    phase: VERBS[phase],
    amount: unit === "bytes"
      ? `${formatBytes(done)} of ${formatBytes(total)}`
      : `${formatCount(done)} of ${formatCount(total)} tokens`,
    speed: perSecond > 0
      ? `, ${
        unit === "bytes" ? `${formatBytes(perSecond)}/s` : `${formatCount(Math.round(perSecond))} tokens/s`
      }`
      : "",
    left: Number.isFinite(left) ? `, ${formatDuration(left)} left` : "",
  };
}
