/**
 * The middle: messages, how they came about, and what can be done with each.
 *
 * @module
 */
import type { Progress } from "./api.ts";
import { html, signal, useEffect, useLayoutEffect, useRef } from "./deps.ts";
import { renderMarkdown } from "./markdown.ts";
import { type Quote, quotesOf } from "./quotes.ts";
import { answering, chat, type Entry, model, resend, shown, trouble } from "./state.ts";
import { countText, numberText, speedText, timeText } from "./units.ts";

/** The message that is being edited. */
const editing = signal<{ readonly chat: string; readonly index: number } | undefined>(undefined);

/** The last document that stands before an answer. */
const documentBefore = (index: number) =>
  chat.value.entries.slice(0, index).findLast(({ document }) => document)?.document;

function Reading({ progress }: { readonly progress: Progress }) {
  const { total, cache, processed, time_ms: time } = progress;
  const read = processed - cache, left = read > 0 ? time / 1000 / read * (total - processed) : undefined;
  return html`
    <div class="reading" role="status">
      <progress max=${total} value=${processed} />
      <span>Reading ${numberText(processed)} of ${countText(
        total,
        "token",
      )}${left !== undefined && processed < total ? `, ${timeText(left)} left` : ""}</span>
    </div>
  `;
}

function timingsText({ timings }: Entry): string {
  if (!timings) return "";
  const { cache_n, prompt_n, prompt_per_second, predicted_n, predicted_per_second } = timings;
  const wrote = `${countText(predicted_n, "token")}${
    predicted_per_second > 0 ? ` at ${speedText(predicted_per_second)}` : ""
  }`;
  const read = `read ${numberText(prompt_n)}${
    prompt_per_second > 0 ? ` at ${speedText(prompt_per_second)}` : ""
  }`;
  return [wrote, read, cache_n > 0 ? `${numberText(cache_n)} known already` : ""].filter(Boolean).join(" · ");
}

function Quotes({ content, index }: { readonly content: string; readonly index: number }) {
  const document = documentBefore(index);
  const found = useRef<{ content: string; text: string; quotes: Quote[] }>(null);
  if (!document) return null;
  if (found.current?.content !== content || found.current.text !== document.text) {
    found.current = { content, text: document.text, quotes: quotesOf(content, document.text) };
  }
  const { quotes } = found.current;
  if (quotes.length === 0) return null;
  return html`<div class="quotes"><span>From the document</span>
    <ol>${
    quotes.map((quote) =>
      html`<li><button onClick=${() => shown.value = { document, quote }}>${
        quote.text.replace(/\s+/g, " ")
      }</button></li>`
    )
  }</ol>
  </div>`;
}

function Answer(
  { entry, index, last }: { readonly entry: Entry; readonly index: number; readonly last: boolean },
) {
  const { content, reasoning, note } = entry, running = last && answering.value?.chat === chat.value.id;
  const progress = running && content === "" && !reasoning ? answering.value?.progress : undefined;
  const copy = () => void navigator.clipboard.writeText(content);
  return html`<article class="answer" aria-busy=${running}>
    ${
    reasoning && html`
      <details class="reasoning">
        <summary>Reasoning</summary>
        <p>${reasoning}</p>
      </details>
    `
  }
    <div class="text" dangerouslySetInnerHTML=${renderMarkdown(content)} />
    ${progress && html`<${Reading} progress=${progress} />`}
    ${running && content === "" && !progress && html`<div class="waiting" role="status">…</div>`}
    ${note && html`<p class="note" role="status">${note}</p>`}
    ${
    !running && html`
      <${Quotes} content=${content} index=${index} />
      <footer>
                    ${content && html`<button onClick=${copy}>Copy</button>`}
              ${last && !answering.value && html`<button onClick=${() => resend(index)}>Regenerate</button>`}
        <span>${timingsText(entry)}</span>
            </footer>
    `
  }
  </article>`;
}

function Editor({ entry, index }: { readonly entry: Entry; readonly index: number }) {
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => area.current?.focus(), []);
  const close = () => editing.value = undefined;
  const send = () => {
    const text = area.current!.value.trim();
    if (text === "" && !entry.document) return;
    close();
    void resend(index, text);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      close();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  };
  return html`
    <div class="editor">
      <textarea ref=${area} rows="3" aria-label="Message" defaultValue=${entry
        .content} onKeyDown=${onKeyDown} />
      <div><button onClick=${close}>Cancel</button><button class="primary" onClick=${send}>Send</button></div>
    </div>
  `;
}

function Question({ entry, index }: { readonly entry: Entry; readonly index: number }) {
  const { document, content } = entry, { id } = chat.value;
  if (editing.value?.chat === id && editing.value.index === index) {
    return html`
      <article class="question">
        <${Editor} entry=${entry} index=${index} />
      </article>
    `;
  }
  return html`<article class="question">
    ${
    document && html`<button class="attachment" onClick=${() =>
      shown.value = { document }}>${document.name}</button>`
  }
    ${content && html`<p>${content}</p>`}
    ${
    !answering.value && html`<footer><button onClick=${() =>
      editing.value = { chat: id, index }}>Edit</button></footer>`
  }
  </article>`;
}

function Welcome() {
  if (!model.value) {
    return html`
      <div class="welcome">
        <p role="status">${trouble.value || "Connecting…"}</p>
      </div>
    `;
  }
  return html`
    <div class="welcome">
      <h2>What would you like to read?</h2>
      <p>Ask something, or drop a long text here: its tokens are counted before anything is sent, and it is read
          once, however often you ask.</p>
    </div>
  `;
}

/** Pixels from the end at which the view still follows what is written. */
const NEAR_END = 80;

export function Conversation() {
  const { id, entries } = chat.value;
  const box = useRef<HTMLDivElement>(null), following = useRef(true);
  useLayoutEffect(() => {
    following.current = true;
  }, [id, entries.length]);
  useLayoutEffect(() => {
    if (following.current) box.current!.scrollTop = box.current!.scrollHeight;
  });
  const onScroll = (
    { currentTarget: { scrollHeight, scrollTop, clientHeight } }: { currentTarget: HTMLElement },
  ) => following.current = scrollHeight - scrollTop - clientHeight < NEAR_END;
  return html`<div class="conversation" role="log" ref=${box} onScroll=${onScroll} tabindex="0">
    ${
    entries.length === 0
      ? html`<${Welcome} />`
      : entries.map((entry, index) =>
        entry.role === "user"
          ? html`<${Question} key=${`${id}${index}`} entry=${entry} index=${index} />`
          : html`<${Answer} key=${`${id}${index}`} entry=${entry} index=${index} last=${
            index === entries.length - 1
          } />`
      )
  }
  </div>`;
}
