/**
 * Below: what is to be sent, what it takes of the context, and the meter.
 *
 * @module
 */
import { html, useEffect, useLayoutEffect, useRef } from "./deps.ts";
import {
  answering,
  attach,
  attached,
  chat,
  chosen,
  counted,
  draft,
  model,
  notice,
  readingSpeed,
  saveSession,
  saving,
  send,
  sessions,
  shown,
  stop,
} from "./state.ts";
import { countText, numberText, shareText, timeText } from "./units.ts";

/** Part of the context from which on the meter warns. */
const NEARLY_FULL = 0.9;

function Meter() {
  const tokens = counted.value, context = model.value?.contextLength;
  if (!context) return tokens ? html`<span class="meter">${countText(tokens, "token")}</span>` : null;
  const share = (tokens ?? 0) / context;
  const title = tokens === undefined ? "counting" : `${numberText(tokens)} of ${countText(context, "token")}`;
  return html`
    <span class="meter ${share > 1 ? "over" : share > NEARLY_FULL ? "near" : ""}" title=${title}>
      <span class="bar"><span style=${{ width: `${Math.min(1, share) * 100}%` }}></span></span>
      <span>${tokens === undefined ? "counting…" : title}</span>
    </span>
  `;
}

/** What the document takes, before it is sent. */
function Attachment() {
  const document = attached.value, tokens = counted.value, context = model.value?.contextLength;
  if (!document) return null;
  const facts: string[] = [];
  if (tokens === undefined) facts.push("counting…");
  else {
    facts.push(countText(tokens, "token"));
    if (context) facts.push(`${shareText(tokens / context)} of the context`);
    if (readingSpeed.value) facts.push(`about ${timeText(tokens / readingSpeed.value)} to read`);
  }
  return html`
    <div class="attached">
      <button class="attachment" onClick=${() => shown.value = { document }}>${document.name}</button>
      <span>${facts.join(" · ")}</span>
      <button class="icon" aria-label="Remove the document" onClick=${() =>
        attached.value = undefined}>×</button>
    </div>
  `;
}

export function Composer() {
  const area = useRef<HTMLTextAreaElement>(null), file = useRef<HTMLInputElement>(null);
  const id = chosen.value, text = draft.value, running = answering.value !== undefined;
  const tokens = counted.value, context = model.value?.contextLength;
  const tooLong = context !== undefined && tokens !== undefined && tokens > context;
  const empty = text.trim() === "" && !attached.value;
  useEffect(() => area.current!.focus(), [id]);
  useLayoutEffect(() => {
    area.current!.style.height = "auto";
    area.current!.style.height = `${area.current!.scrollHeight}px`;
  }, [text]);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!tooLong) void send();
  };
  return html`<div class="composer">
    ${
    notice.value && html`<p class="notice" role="alert">${notice.value}
      <button class="icon" aria-label="Close" onClick=${() => notice.value = ""}>×</button></p>`
  }
    <${Attachment} />
    ${
    tooLong &&
    html`<p class="notice" role="alert">This is ${countText(tokens - context, "token")} longer than the
      context: use a shorter text, or start lakh serve with a longer --context.</p>`
  }
    <div class="box">
      <textarea ref=${area} rows="1" aria-label="Message" placeholder="Ask something" value=${text}
        onInput=${({ currentTarget }: { currentTarget: HTMLTextAreaElement }) =>
    draft.value = currentTarget.value}
        onKeyDown=${onKeyDown} />
      <input ref=${file} type="file" hidden onChange=${(
    { currentTarget }: { currentTarget: HTMLInputElement },
  ) => {
    void attach(currentTarget.files ?? []).then(() => currentTarget.value = "");
  }} />
      <button class="icon" aria-label="Add a document" title="Add a document" onClick=${() =>
    file.current!.click()}>+</button>
      ${
    running
      ? html`<button class="primary" onClick=${stop} title="Esc">Stop</button>`
      : html`<button class="primary" disabled=${
        empty || tooLong || !model.value
      } onClick=${send}>Send</button>`
  }
    </div>
    <div class="below">
      <${Meter} />
      ${
    sessions.value && chat.value.entries.length > 0 && !running && html`
      <button disabled=${saving.value}
        onClick=${saveSession}
        title="Keeps what was read on the server's disk, to go on from there another day">${saving.value
          ? "Saving…"
          : "Save"}</button>
    `
  }
    </div>
  </div>`;
}
