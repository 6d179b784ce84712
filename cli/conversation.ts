/**
 * A conversation: a system message and turns, kept as JSON in a file.
 *
 * The file is `{ "messages": [{ "role": "system" | "user" | "assistant", "content": "…" }, …] }`, as in
 * requests to chat servers.
 *
 * @module
 */

import { writeAtomically } from "../runtime/load/atomic_file.ts";

/** One turn, or the system message. */
export type Turn = {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
};

/** The messages so far. */
export class Conversation {
  #system: string | undefined;
  #turns: Turn[] = [];
  /** Documents that stand before the next question. */
  #documents: string[] = [];
  /** Those of the last question. */
  #asked: string[] = [];

  /** All messages; the system message comes first. */
  get messages(): readonly Turn[] {
    const { system } = this;
    return system === undefined ? this.#turns : [{ role: "system", content: system }, ...this.#turns];
  }

  /** Precedes all turns; undefined without one. */
  get system(): string | undefined {
    return this.#system;
  }
  set system(text: string | undefined) {
    this.#system = text || undefined;
  }

  /** Number of questions so far. */
  get length(): number {
    return this.#turns.filter((turn) => turn.role === "user").length;
  }

  add(role: "user" | "assistant", content: string): void {
    if (role === "user") {
      this.#asked = this.#documents;
      content = [...this.#documents, content].join("\n\n");
      this.#documents = [];
    }
    this.#turns.push({ role, content });
  }

  /** Puts a document before the next question. */
  attach(text: string): void {
    this.#documents.push(text);
  }

  /** What a question would be that begins with the documents and this one. */
  withDocument(text: string): readonly Turn[] {
    return [...this.messages, { role: "user", content: [...this.#documents, text].join("\n\n") }];
  }

  /** Removes the last question when it got no answer; its documents wait for the next one. */
  takeBack(): void {
    if (this.#turns.at(-1)?.role !== "user") return;
    this.#turns.pop();
    this.#documents = this.#asked;
  }

  /** Removes the last question with its answer; → the question, undefined when there was none. */
  takeQuestion(): string | undefined {
    if (this.#turns.at(-1)?.role === "assistant") this.#turns.pop();
    return this.#turns.at(-1)?.role === "user" ? this.#turns.pop()!.content : undefined;
  }

  /** Removes the turns and keeps the system message. */
  reset(): void {
    this.#turns = [];
    this.#documents = [];
  }

  /** Writes the file whole or not at all. */
  async save(path: string): Promise<void> {
    const json = JSON.stringify({ messages: this.messages }, null, 2) + "\n";
    try {
      await writeAtomically(path, (output) => output.write(new TextEncoder().encode(json)));
    } catch (error) {
      throw new Error(`Cannot save "${path}": ${reason(error)}`, { cause: error });
    }
  }

  /**
   * Reads a saved conversation in place of this one. Throws an Error, and changes nothing, when the file
   * is not one.
   */
  async load(path: string): Promise<void> {
    let text: string, value: unknown;
    try {
      text = await Deno.readTextFile(path);
    } catch (error) {
      throw new Error(`Cannot load "${path}": ${reason(error)}`, { cause: error });
    }
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw new Error(`Cannot load "${path}": it is not JSON: give a file that /save has written`, {
        cause: error,
      });
    }
    this.take((value as { messages?: unknown } | null)?.messages, path);
  }

  /** The same for messages from a file. */
  take(messages: unknown, path: string): void {
    if (!Array.isArray(messages)) {
      throw new Error(
        `Cannot load "${path}": there is no list "messages" in it: give a file that /save has written`,
      );
    }
    messages.forEach((message, i) => {
      const { role, content } = (message ?? {}) as Partial<Turn>;
      const known = role === "user" || role === "assistant" || role === "system" && i === 0;
      if (!known || typeof content !== "string") {
        throw new Error(
          `Cannot load "${path}": message ${i + 1} is not {"role": "user" or "assistant", "content": "…"} ` +
            `(or "system" for the first)`,
        );
      }
    });
    const turns = messages.map(({ role, content }: Turn): Turn => ({ role, content }));
    this.system = turns[0]?.role === "system" ? turns.shift()!.content : undefined;
    this.#turns = turns;
  }
}

function reason(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "there is no such file or folder";
  return error instanceof Error ? error.message : String(error);
}
