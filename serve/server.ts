/**
 * The server's life: it listens while the model loads, answers, and on a signal ends after a grace
 * period for running answers.
 *
 * @module
 */
import { createApp, notReady } from "./app.ts";
import type { ServerContext, ServerSettings } from "./context.ts";
import { Engine, type EngineOptions } from "./engine.ts";
import { Guard, type GuardOptions } from "./guard.ts";
import { Metrics } from "./metrics.ts";

/** How a server is started. */
export interface ServerOptions {
  readonly host: string;
  /** 0 for any that is free. */
  readonly port: number;
  readonly guard: GuardOptions;
  readonly settings: ServerSettings;
  readonly engine: EngineOptions;
  /** Seconds that answers may still take when the server ends. */
  readonly drainSeconds: number;
}

/** A server that listens. */
export interface Server {
  /** Where: "http://127.0.0.1:8080". */
  readonly url: string;
  /** Settles when the model is loaded; fails when it cannot be. */
  readonly ready: Promise<Engine>;
  /**
   * Takes nothing new, lets answers finish, at most for `drainSeconds`, and gives memory and threads back.
   */
  close(): Promise<void>;
}

/** Starts a server, which answers 503 until its model is loaded. Throws when the address is taken. */
export function startServer(options: ServerOptions): Server {
  const ending = new AbortController();
  let engine: Engine | undefined, closing = false;
  const context: ServerContext = {
    guard: new Guard(options.guard),
    metrics: new Metrics(),
    settings: options.settings,
    ending: ending.signal,
    loaded: () => engine,
    engine() {
      if (closing) throw notReady("ending");
      if (!engine) throw notReady("loading");
      return engine;
    },
    signalOf: (request) => AbortSignal.any([request.signal, ending.signal]),
  };
  const { hostname, server } = listen(options, createApp(context));
  const ready = Engine.open(options.engine).then(async (opened) => {
    if (!closing) return engine = opened;
    await opened.close();
    throw notReady("ending");
  });
  // A failure rejects `ready` for callers that wait; without one it is no unhandled rejection.
  ready.catch(() => {});
  let closed: Promise<void> | undefined;
  return {
    url: `http://${hostname}:${(server.addr as Deno.NetAddr).port}`,
    ready,
    close: () =>
      closed ??= (async () => {
        closing = true;
        const timer = setTimeout(() => ending.abort(notReady("ending")), options.drainSeconds * 1000);
        await server.shutdown();
        clearTimeout(timer);
        ending.abort(notReady("ending"));
        await ready.catch(() => {});
        await engine?.close();
      })(),
  };
}

function listen(
  { host, port }: ServerOptions,
  handler: (request: Request) => Promise<Response>,
): { readonly hostname: string; readonly server: Deno.HttpServer } {
  try {
    const server = Deno.serve({ hostname: host, port, onListen: () => {} }, handler);
    return { hostname: host.includes(":") ? `[${host}]` : host, server };
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) {
      throw new Error(
        `Cannot listen on port ${port}: another program does: give another --port, or 0 for any that is free`,
        { cause: error },
      );
    }
    if (error instanceof Deno.errors.AddrNotAvailable) {
      throw new Error(
        `Cannot listen on "${host}": this machine has no such address: give 127.0.0.1, or 0.0.0.0 for all that it has`,
        { cause: error },
      );
    }
    throw error;
  }
}
