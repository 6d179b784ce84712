/**
 * What the page knows, as signals, and what can be done.
 *
 * @module
 */
import { Api, type Model, type Progress, RequestError, type Session, type Timings } from "./api.ts";
import { batch, computed, effect, signal } from "./deps.ts";
import { type Document, messageOf, readDocument, type Turn, turnOf } from "./documents.ts";
import type { Quote } from "./quotes.ts";
import { keep, load } from "./store.ts";

/** A message with what is known of how it came about. */
export interface Entry extends Turn {
  readonly reasoning?: string;
  readonly timings?: Timings;
  /** Why it is not whole: what went wrong, or that it was stopped. */
  readonly note?: string;
}

/** A conversation. */
export interface Chat {
  readonly id: string;
  readonly title: string;
  readonly entries: readonly Entry[];
  /** Its name on the server's disk, once it is saved. */
  readonly session?: string;
}

/** What a reader may set. */
export interface Settings {
  readonly system: string;
  /** Undefined leaves it to the model. */
  readonly temperature: number | undefined;
  readonly maxTokens: number | undefined;
  readonly key: string;
}

const UNTITLED = "New chat";
const newChat = (): Chat => ({ id: crypto.randomUUID(), title: UNTITLED, entries: [] });

export const api = new Api();
export const model = signal<Model | undefined>(undefined);
/** Why there is no model yet. */
export const trouble = signal("");
export const settings = signal<Settings>({
  system: "",
  temperature: undefined,
  maxTokens: undefined,
  key: "",
});
export const chats = signal<readonly Chat[]>([newChat()]);
export const chosen = signal(chats.value[0]!.id);
export const chat = computed(() => chats.value.find(({ id }) => id === chosen.value) ?? chats.value[0]!);
export const draft = signal("");
export const attached = signal<Document | undefined>(undefined);
/** The chat that is being answered. */
export const answering = signal<{ readonly chat: string; readonly progress?: Progress } | undefined>(
  undefined,
);
export const notice = signal("");
/** Undefined where the server keeps none. */
export const sessions = signal<readonly Session[] | undefined>(undefined);
export const saving = signal(false);
/** Tokens of the chat and the document that is to be sent; undefined while they are counted. */
const read = signal<number | undefined>(0);
/** Tokens of the draft. */
const typed = signal(0);
/** Of all that; what the template adds around a draft comes with the answer. */
export const counted = computed(() => read.value === undefined ? undefined : read.value + typed.value);
/** Tokens a second at which prompts were read last. */
export const readingSpeed = signal<number | undefined>(undefined);
/** The document that is shown beside the chat. */
export const shown = signal<{ readonly document: Document; readonly quote?: Quote } | undefined>(undefined);

const say = (error: unknown) => notice.value = error instanceof Error ? error.message : String(error);

function change(id: string, entries: readonly Entry[]): void {
  chats.value = chats.value.map((chat) =>
    chat.id === id ? { ...chat, entries, title: titleOf(entries) } : chat
  );
}

function titleOf(entries: readonly Entry[]): string {
  const first = entries.find(({ role }) => role === "user");
  const title = first?.content.trim().split("\n")[0] || first?.document?.name || UNTITLED;
  return title.length > 60 ? `${title.slice(0, 59)}…` : title;
}

/** Messages as the server takes them. */
function messagesOf(entries: readonly Entry[]) {
  const { system } = settings.value;
  const told = entries.filter(({ role, content }) => role !== "assistant" || content !== "").map(messageOf);
  return system.trim() === "" ? told : [{ role: "system", content: system }, ...told];
}

let stopping: AbortController | undefined;

/** Sends the draft. */
export async function send(): Promise<void> {
  const content = draft.value.trim(), document = attached.value;
  if ((content === "" && !document) || answering.value || !model.value) return;
  const { id, entries } = chat.value;
  batch(() => {
    draft.value = "";
    attached.value = undefined;
    if (document) shown.value = { document };
  });
  await answer(id, [...entries, { role: "user", content, document }]);
}

/** Asks again: with other words where `content` is given, from the message at `index`. */
export async function resend(index: number, content?: string): Promise<void> {
  if (answering.value) return;
  const { id, entries } = chat.value;
  const until = entries[index]?.role === "assistant" ? index - 1 : index, asked = entries[until];
  if (asked?.role !== "user") return;
  await answer(id, [...entries.slice(0, until), { ...asked, content: content ?? asked.content }]);
}

export function stop(): void {
  stopping?.abort();
}

async function answer(id: string, asked: readonly Entry[]): Promise<void> {
  const { signal } = stopping = new AbortController();
  let written: Entry = { role: "assistant", content: "" };
  let frame = 0;
  const show = () => {
    frame = 0;
    change(id, [...asked, written]);
  };
  // Text may come faster than it can be drawn.
  const showSoon = () => frame ||= requestAnimationFrame(show);
  notice.value = "";
  answering.value = { chat: id };
  show();
  const { temperature, maxTokens } = settings.value;
  try {
    const body = { messages: messagesOf(asked), temperature, max_tokens: maxTokens };
    for await (const { text, reasoning, progress, timings, finish } of api.answer(body, signal)) {
      if (progress) {
        answering.value = { chat: id, progress };
        if (chosen.value === id) read.value = progress.total;
      }
      if (text) written = { ...written, content: written.content + text };
      if (reasoning) written = { ...written, reasoning: (written.reasoning ?? "") + reasoning };
      if (timings) {
        written = { ...written, timings };
        if (timings.prompt_n > 64) readingSpeed.value = timings.prompt_per_second;
      }
      if (finish === "length") {
        written = { ...written, note: "The answer ends here: no more tokens were allowed." };
      }
      showSoon();
    }
  } catch (error) {
    const note = signal.aborted ? "Stopped." : error instanceof Error ? error.message : String(error);
    written = { ...written, note };
  } finally {
    cancelAnimationFrame(frame);
    batch(() => {
      show();
      answering.value = undefined;
    });
    void keepChats();
  }
}

/** Takes the first file of what was dropped or chosen. */
export async function attach(files: Iterable<File>): Promise<void> {
  const [file] = files;
  if (!file) return;
  try {
    attached.value = await readDocument(file);
    notice.value = "";
  } catch (error) {
    say(error);
  }
}

export function startChat(): void {
  const empty = chats.value.find(({ entries }) => entries.length === 0) ?? newChat();
  batch(() => {
    chats.value = [empty, ...chats.value.filter((chat) => chat !== empty)];
    open(empty.id);
  });
}

export function open(id: string): void {
  batch(() => {
    chosen.value = id;
    notice.value = "";
    const document = chat.value.entries.find(({ document }) => document)?.document;
    shown.value = document && shown.value ? { document } : undefined;
  });
}

export function removeChat(id: string): void {
  if (answering.value?.chat === id) stop();
  const left = chats.value.filter((chat) => chat.id !== id);
  chats.value = left.length > 0 ? left : [newChat()];
  if (chosen.value === id) open(chats.value[0]!.id);
  void keepChats();
}

async function keepChats(): Promise<void> {
  const filled = chats.value.filter(({ entries }) => entries.length > 0);
  await keep("chats", filled).catch(say);
}

export function changeSettings(changed: Partial<Settings>): void {
  settings.value = { ...settings.value, ...changed };
  api.key = settings.value.key;
  void keep("settings", settings.value).catch(say);
  if (changed.key !== undefined) void connect();
}

/** A name for a chat that no other has on the server's disk. */
function freeName(title: string): string {
  const words = title.normalize("NFKD").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 60);
  const taken = new Set(sessions.value?.map(({ id }) => id));
  for (let number = 1;; number++) {
    const name = `${words || "chat"}${number > 1 ? `-${number}` : ""}`;
    if (!taken.has(name)) return name;
  }
}

/** Saves the chat, as far as it is read, on the server's disk. */
export async function saveSession(): Promise<void> {
  const { id, title, entries, session } = chat.value;
  saving.value = true;
  try {
    sessions.value = await api.sessions();
    const name = session ?? freeName(title);
    await api.save(name, messagesOf(entries));
    chats.value = chats.value.map((chat) => chat.id === id ? { ...chat, session: name } : chat);
    sessions.value = await api.sessions();
    void keepChats();
  } catch (error) {
    say(error);
  } finally {
    saving.value = false;
  }
}

/** Goes on with a chat as it is on the server's disk. */
export async function resumeSession(name: string): Promise<void> {
  try {
    const entries = (await api.restore(name)).map(turnOf).filter(({ role }) => role !== "system");
    const resumed: Chat = { ...newChat(), entries, title: titleOf(entries), session: name };
    chats.value = [resumed, ...chats.value.filter(({ session }) => session !== name)];
    open(resumed.id);
    void keepChats();
  } catch (error) {
    say(error);
  }
}

export async function removeSession(name: string): Promise<void> {
  try {
    await api.remove(name);
    sessions.value = await api.sessions();
  } catch (error) {
    say(error);
  }
}

/** Seconds between looks at a server that does not answer yet. */
const RETRY_SECONDS = 2;

async function connect(): Promise<void> {
  try {
    model.value = (await api.models())[0];
    sessions.value = await api.sessions();
    trouble.value = model.value ? "" : "This server has no model that writes.";
  } catch (error) {
    trouble.value = (error as Error).message;
    if (error instanceof RequestError && (error.status === 503 || error.status === 0)) {
      setTimeout(connect, RETRY_SECONDS * 1000);
    }
  }
}

/** Milliseconds without a change before tokens are counted. */
const COUNT_AFTER = 200;

/** Puts a count into `target` soon, unless the function that is returned is called before. */
function countSoon(target: { value: number | undefined }, count: (signal: AbortSignal) => Promise<number>) {
  const stopping = new AbortController();
  const timer = setTimeout(async () => {
    try {
      const tokens = await count(stopping.signal);
      if (!stopping.signal.aborted) target.value = tokens;
    } catch (error) {
      if (!stopping.signal.aborted) say(error);
    }
  }, COUNT_AFTER);
  return () => {
    clearTimeout(timer);
    stopping.abort();
  };
}

/** Counts a long document once, not with each key. */
function countRead(): (() => void) | undefined {
  const { entries } = chat.value, document = attached.value;
  if (answering.value || !model.value) return;
  const messages = messagesOf(document ? [...entries, { role: "user", content: "", document }] : entries);
  read.value = messages.length === 0 ? 0 : undefined;
  if (messages.length > 0) return countSoon(read, (signal) => api.count(messages, signal));
}

function countTyped(): (() => void) | undefined {
  const text = draft.value;
  if (text.trim() === "" || !model.value) typed.value = 0;
  else return countSoon(typed, (signal) => api.countText(text, signal));
}

/** Fetches what was kept and asks the server what it is. */
export async function start(): Promise<void> {
  try {
    settings.value = { ...settings.value, ...await load<Settings>("settings") };
    const kept = await load<Chat[]>("chats");
    if (kept?.length) chats.value = [...chats.value, ...kept];
  } catch (error) {
    say(error);
  }
  api.key = settings.value.key;
  effect(countRead);
  effect(countTyped);
  await connect();
}
