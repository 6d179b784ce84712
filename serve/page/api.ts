/**
 * What the page asks of the server.
 *
 * @module
 */
import type { Message } from "./documents.ts";

/** The model that answers. */
export interface Model {
  readonly id: string;
  /** Tokens; undefined where there is no end. */
  readonly contextLength: number | undefined;
}

/** A conversation that is on the server's disk. */
export interface Session {
  readonly id: string;
  readonly bytes: number;
}

/** How fast an answer came. */
export interface Timings {
  readonly cache_n: number;
  readonly prompt_n: number;
  readonly prompt_per_second: number;
  readonly predicted_n: number;
  readonly predicted_per_second: number;
}

/** How far a prompt is read, in tokens. */
export interface Progress {
  readonly total: number;
  readonly cache: number;
  readonly processed: number;
  readonly time_ms: number;
}

/** One event of an answer. */
export interface Chunk {
  readonly text?: string;
  readonly reasoning?: string;
  readonly progress?: Progress;
  readonly timings?: Timings;
  readonly finish?: string;
}

/** What a server without --sessions says of them. */
const NOT_IMPLEMENTED = 501;

/** An answer that is no success. */
export class RequestError extends Error {
  override readonly name = "RequestError";
  readonly status: number;

  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }
}

/** The server, with the key to it. */
export class Api {
  /** Empty where none is needed. */
  key = "";

  async #ask(path: string, init: RequestInit = {}): Promise<Response> {
    const headers: Record<string, string> = { "content-type": "application/json" };
    if (this.key !== "") headers["authorization"] = `Bearer ${this.key}`;
    let response: Response;
    try {
      response = await fetch(path, { ...init, headers });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new RequestError("Cannot reach the server: it does not answer: see whether lakh serve runs", 0);
    }
    if (response.ok) return response;
    const body = await response.json().catch(() => undefined);
    throw new RequestError(
      body?.error?.message ?? `Cannot use the answer of the server: its status is ${response.status}`,
      response.status,
    );
  }

  async #post(path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
    return await this.#ask(path, { method: "POST", body: JSON.stringify(body), ...(signal && { signal }) });
  }

  async models(): Promise<Model[]> {
    const { data } = await (await this.#ask("/v1/models")).json();
    return data.filter((model: { lakh?: unknown }) => model.lakh !== undefined).map(
      ({ id, context_length: contextLength }: { id: string; context_length?: number }) => ({
        id,
        contextLength,
      }),
    );
  }

  /** Tokens of a conversation. */
  async count(messages: readonly Message[], signal: AbortSignal): Promise<number> {
    const response = await this.#post("/v1/chat/completions/input_tokens", { messages }, signal);
    return (await response.json()).input_tokens;
  }

  /** Tokens of a text alone. */
  async countText(content: string, signal: AbortSignal): Promise<number> {
    return (await (await this.#post("/tokenize", { content }, signal)).json()).tokens.length;
  }

  /** An answer while it is written. */
  async *answer(body: object, signal: AbortSignal): AsyncGenerator<Chunk, void> {
    const asked = { ...body, stream: true, return_progress: true };
    const response = await this.#post("/v1/chat/completions", asked, signal);
    for await (const data of eventsOf(response)) {
      if (data === "[DONE]") return;
      const { error, choices, prompt_progress: progress, timings } = JSON.parse(data);
      if (error) throw new RequestError(error.message, 500);
      const { delta, finish_reason: finish } = choices?.[0] ?? {};
      yield {
        ...(delta?.content && { text: delta.content }),
        ...(delta?.reasoning_content && { reasoning: delta.reasoning_content }),
        ...(progress && { progress }),
        ...(timings && { timings }),
        ...(finish && { finish }),
      };
    }
    throw new RequestError("Cannot finish the answer: the server has gone: see whether lakh serve runs", 0);
  }

  /** Undefined where the server keeps none. */
  async sessions(): Promise<Session[] | undefined> {
    try {
      return (await (await this.#ask("/v1/sessions")).json()).data;
    } catch (error) {
      if (error instanceof RequestError && error.status === NOT_IMPLEMENTED) return undefined;
      throw error;
    }
  }

  async save(name: string, messages: readonly Message[]): Promise<void> {
    await this.#post("/v1/sessions", { name, messages });
  }

  /** The conversation of a session, which the server has read again. */
  async restore(name: string): Promise<Message[]> {
    const { messages, text } =
      await (await this.#post(`/v1/sessions/${encodeURIComponent(name)}/restore`, {}))
        .json();
    return messages ?? [{ role: "user", content: text ?? "" }];
  }

  async remove(name: string): Promise<void> {
    await this.#ask(`/v1/sessions/${encodeURIComponent(name)}`, { method: "DELETE" });
  }
}

/** The data of server-sent events. */
async function* eventsOf(response: Response): AsyncGenerator<string, void> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let buffered = "";
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (buffered + value).split("\n\n");
      buffered = events.pop()!;
      for (const event of events) {
        const data = event.split("\n").filter((line) => line.startsWith("data: ")).map((line) =>
          line.slice(6)
        );
        if (data.length > 0) yield data.join("\n");
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
