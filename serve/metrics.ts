/**
 * Counts and times for Prometheus, and for routers of requests, in its text format
 * (https://prometheus.io/docs/instrumenting/exposition_formats/).
 *
 * @module
 */
import type { Done } from "../runtime/language_model.ts";
import type { Engine } from "./engine.ts";

/** Seconds: from a cached beginning to a book that is read. */
const SECONDS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000];

/** One metric with one value for each set of labels. */
class Metric {
  readonly #name: string;
  readonly #head: string;
  readonly #values = new Map<string, number>();

  constructor(name: string, type: "counter" | "gauge", help: string) {
    this.#name = `lakh_${name}`;
    this.#head = headOf(this.#name, type, help);
  }

  add(amount: number, labels = ""): void {
    this.#values.set(labels, (this.#values.get(labels) ?? 0) + amount);
  }

  set(value: number): void {
    this.#values.set("", value);
  }

  text(): string {
    const values = this.#values.size > 0 ? [...this.#values] : [["", 0] as const];
    return this.#head + values.map(([labels, value]) => `${this.#name}${labels} ${value}\n`).join("");
  }
}

/** How many of the values are at most so large. */
class Histogram {
  readonly #name: string;
  readonly #head: string;
  readonly #counts = SECONDS.map(() => 0);
  #sum = 0;
  #count = 0;

  constructor(name: string, help: string) {
    this.#name = `lakh_${name}`;
    this.#head = headOf(this.#name, "histogram", help);
  }

  observe(value: number): void {
    this.#sum += value;
    this.#count++;
    SECONDS.forEach((most, i) => {
      if (value <= most) this.#counts[i]!++;
    });
  }

  text(): string {
    const name = this.#name;
    const buckets = SECONDS.map((most, i) => `${name}_bucket{le="${most}"} ${this.#counts[i]}\n`).join("");
    const ends =
      `${name}_bucket{le="+Inf"} ${this.#count}\n${name}_sum ${this.#sum}\n${name}_count ${this.#count}\n`;
    return this.#head + buckets + ends;
  }
}

const headOf = (name: string, type: string, help: string) =>
  `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;

/** What is counted. Names begin with lakh_. */
export class Metrics {
  readonly contentType = "text/plain; version=0.0.4; charset=utf-8";
  readonly #requests = new Metric("requests_total", "counter", "Requests answered, by path and status.");
  readonly #promptTokens = new Metric(
    "prompt_tokens_total",
    "counter",
    "Tokens of prompts that were read, without cached ones.",
  );
  readonly #cachedTokens = new Metric(
    "cached_tokens_total",
    "counter",
    "Tokens of prompts that had been read before.",
  );
  readonly #tokens = new Metric("generated_tokens_total", "counter", "Tokens of answers.");
  readonly #promptSeconds = new Metric("prompt_seconds_total", "counter", "Time in which prompts were read.");
  readonly #decodeSeconds = new Metric(
    "decode_seconds_total",
    "counter",
    "Time in which answers were written.",
  );
  readonly #running = new Metric("requests_running", "gauge", "Generations that run or wait now.");
  readonly #waiting = new Metric("requests_waiting", "gauge", "Those of them that wait for memory.");
  readonly #kept = new Metric(
    "kept_tokens",
    "gauge",
    "Tokens of earlier texts whose keys and values are kept.",
  );
  readonly #memory = new Metric("memory_bytes", "gauge", "Bytes of weights and caches on the device.");
  readonly #firstToken = new Histogram(
    "time_to_first_token_seconds",
    "From a request to the first text of its answer.",
  );

  request(path: string, status: number): void {
    // The paths are those of the endpoints: no quotes are in them.
    this.#requests.add(1, `{path="${path}",status="${status}"}`);
  }

  firstToken(seconds: number): void {
    this.#firstToken.observe(seconds);
  }

  answered({ promptTokens, reusedTokens, tokens, prefillSeconds, decodeSeconds }: Done): void {
    this.read(promptTokens - reusedTokens);
    this.#cachedTokens.add(reusedTokens);
    this.#tokens.add(tokens);
    this.#promptSeconds.add(prefillSeconds);
    this.#decodeSeconds.add(decodeSeconds);
  }

  /** Tokens that were read, for vectors too. */
  read(tokens: number): void {
    this.#promptTokens.add(tokens);
  }

  text(engine: Engine | undefined): string {
    this.#running.set(engine?.requests ?? 0);
    this.#waiting.set(engine?.status.waiting ?? 0);
    this.#kept.set(engine?.status.keptTokens ?? 0);
    this.#memory.set(engine?.memoryInUse ?? 0);
    return [
      this.#requests,
      this.#promptTokens,
      this.#cachedTokens,
      this.#tokens,
      this.#promptSeconds,
      this.#decodeSeconds,
      this.#running,
      this.#waiting,
      this.#kept,
      this.#memory,
      this.#firstToken,
    ].map((metric) => metric.text()).join("");
  }
}
