/**
 * Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): lines of data on a
 * response that stays open, and comments while there is nothing to say, so that clients and proxies see that
 * it lives.
 *
 * @module
 */

/** What writes events. */
export interface Events {
  /** One event with JSON data; `name` is its type. */
  send(data: unknown, name?: string): void;
  /** One event with this very text. */
  sendText(text: string): void;
}

const encoder = new TextEncoder();

/**
 * A response whose events `write` sends. `signal` of `write` is aborted when the client goes. What `write`
 * throws becomes an event by `onError`, since the status is out by then. A comment is sent after
 * `pingSeconds` of silence.
 */
export function eventStream(
  write: (events: Events, signal: AbortSignal) => Promise<void>,
  { pingSeconds, onError, headers = {} }: {
    readonly pingSeconds: number;
    readonly onError: (error: unknown, events: Events) => void;
    readonly headers?: Readonly<Record<string, string>>;
  },
): Response {
  const gone = new AbortController();
  let timer: ReturnType<typeof setInterval>, last = Date.now();
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const put = (text: string) => {
        if (gone.signal.aborted) return;
        last = Date.now();
        controller.enqueue(encoder.encode(text));
      };
      const events: Events = {
        send: (data, name) => put(`${name ? `event: ${name}\n` : ""}data: ${JSON.stringify(data)}\n\n`),
        sendText: (text) => put(`data: ${text}\n\n`),
      };
      timer = setInterval(() => {
        if (Date.now() - last >= pingSeconds * 1000) put(": ping\n\n");
      }, Math.max(20, pingSeconds * 250));
      // A comment at once: proxies and clients see the headers while the prompt is read.
      put(": ok\n\n");
      write(events, gone.signal).catch((error) => {
        if (!gone.signal.aborted) onError(error, events);
      }).finally(() => {
        clearInterval(timer);
        if (!gone.signal.aborted) controller.close();
      });
    },
    cancel() {
      clearInterval(timer);
      gone.abort(new DOMException("the client has gone", "AbortError"));
    },
  });
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      // nginx would collect the stream.
      "x-accel-buffering": "no",
      ...headers,
    },
  });
}
