/**
 * A document in a conversation: it stands in a message, before the question, between two marks. What comes
 * first is read once: later questions share it.
 *
 * @module
 */

/** A text that was dropped on the page. */
export interface Document {
  readonly name: string;
  readonly text: string;
}

/** A message as the page keeps it. */
export interface Turn {
  readonly role: "user" | "assistant" | "system";
  readonly content: string;
  readonly document?: Document | undefined;
}

/** A message as the server takes it. */
export interface Message {
  readonly role: string;
  readonly content: string;
}

const FORM = /^<document name="([^"\n]*)">\n([\s\S]*?)\n<\/document>\n\n([\s\S]*)$/;
const END = /<\/document>/g;

/** The message with its document in its text. */
export function messageOf({ role, content, document }: Turn): Message {
  if (!document) return { role, content };
  const name = document.name.replace(/["\n]/g, "'");
  // The document's own end mark would end it too early.
  const text = document.text.replace(END, "< /document>");
  return { role, content: `<document name="${name}">\n${text}\n</document>\n\n${content}` };
}

/** The reverse of {@linkcode messageOf}, for conversations that were saved. */
export function turnOf({ role, content }: Message): Turn {
  const known = role === "assistant" || role === "system" ? role : "user";
  const found = known === "user" ? FORM.exec(content) : null;
  if (!found) return { role: known, content };
  return { role: known, content: found[3]!, document: { name: found[1]!, text: found[2]! } };
}

/** Reads a file as text. Throws an Error in words for one that is none. */
export async function readDocument(file: File): Promise<Document> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const binary = bytes.subarray(0, 4096).includes(0);
  try {
    if (binary) throw new TypeError();
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes).replaceAll("\r\n", "\n");
    if (text.trim() === "") throw new Error(`Cannot read "${file.name}": it is empty: drop another file`);
    return { name: file.name, text };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new Error(`Cannot read "${file.name}": it is not text in UTF-8: save it as plain text first`);
  }
}
