/**
 * Counts and times for Prometheus, and for those who route requests by them.
 *
 * @module
 */
import type { Done } from "../runtime/language_model.ts";
import { Counter, Gauge, Histogram, Registry } from "./deps.ts";
import type { Engine } from "./engine.ts";

/** Seconds: from a cached beginning to a book that is read. */
const SECONDS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000];

/** What is counted. Names begin with lakh_. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #requests = this.#make(Counter, "requests_total", "Requests answered, by path and status.", [
    "path",
    "status",
  ]);
  readonly #promptTokens = this.#make(
    Counter,
    "prompt_tokens_total",
    "Tokens of prompts that were read, without cached ones.",
  );
  readonly #cachedTokens = this.#make(
    Counter,
    "cached_tokens_total",
    "Tokens of prompts that had been read before.",
  );
  readonly #tokens = this.#make(Counter, "generated_tokens_total", "Tokens of answers.");
  readonly #promptSeconds = this.#make(Counter, "prompt_seconds_total", "Time in which prompts were read.");
  readonly #decodeSeconds = this.#make(
    Counter,
    "decode_seconds_total",
    "Time in which answers were written.",
  );
  readonly #running = this.#make(Gauge, "requests_running", "Generations that run or wait now.");
  readonly #memory = this.#make(Gauge, "memory_bytes", "Bytes of weights and caches on the device.");
  readonly #firstToken: Histogram;

  constructor() {
    this.#firstToken = new Histogram({
      name: "lakh_time_to_first_token_seconds",
      help: "From a request to the first text of its answer.",
      buckets: SECONDS,
      registers: [this.#registry],
    });
  }

  request(path: string, status: number): void {
    this.#requests.inc({ path, status: String(status) });
  }

  firstToken(seconds: number): void {
    this.#firstToken.observe(seconds);
  }

  answered({ promptTokens, reusedTokens, tokens, prefillSeconds, decodeSeconds }: Done): void {
    this.read(promptTokens - reusedTokens);
    this.#cachedTokens.inc(reusedTokens);
    this.#tokens.inc(tokens);
    this.#promptSeconds.inc(prefillSeconds);
    this.#decodeSeconds.inc(decodeSeconds);
  }

  /** Tokens that were read, for vectors too. */
  read(tokens: number): void {
    this.#promptTokens.inc(tokens);
  }

  /** In Prometheus' text format. */
  async text(engine: Engine | undefined): Promise<string> {
    this.#running.set(engine?.requests ?? 0);
    this.#memory.set(engine?.memoryInUse ?? 0);
    return await this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  #make<M>(
    kind: new (
      configuration: { name: string; help: string; labelNames: string[]; registers: Registry[] },
    ) => M,
    name: string,
    help: string,
    labelNames: string[] = [],
  ): M {
    return new kind({ name: `lakh_${name}`, help, labelNames, registers: [this.#registry] });
  }
}
