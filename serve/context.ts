/**
 * What every endpoint gets.
 *
 * @module
 */
import type { Engine } from "./engine.ts";
import type { Guard } from "./guard.ts";
import type { Metrics } from "./metrics.ts";

/** How a server answers. */
export interface ServerSettings {
  /** Further names of the model in requests; the first one is reported. */
  readonly aliases: readonly string[];
  /** Seconds of silence after which a stream says that it lives. */
  readonly pingSeconds: number;
  /** Folder of saved sessions. */
  readonly sessions: string | undefined;
}

/** What every endpoint gets. */
export interface ServerContext {
  readonly guard: Guard;
  readonly metrics: Metrics;
  readonly settings: ServerSettings;
  /** Aborted when the server has no more time. */
  readonly ending: AbortSignal;
  /** Throws an ApiError while the model is loaded. */
  engine(): Engine;
  /** Undefined while it is. */
  loaded(): Engine | undefined;
  /** Aborted when the client goes or the server ends. */
  signalOf(request: Request): AbortSignal;
}
