/**
 * The page: chats at the left, the conversation in the middle, its document at the right.
 *
 * @module
 */
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
import { Composer } from "./composer.ts";
import { Conversation } from "./conversation.ts";
import { effect, html, render, signal } from "./deps.ts";
import { DocumentPanel } from "./document_panel.ts";
import { Sidebar } from "./sidebar.ts";
import { answering, attach, chat, model, shown, start, startChat, stop } from "./state.ts";

/** Whether the chats are shown where the screen is too small for both. */
const menu = signal(false);
const dropping = signal(false);

function Page() {
  const { title, entries } = chat.value;
  return html`
    <div
      class="page ${shown.value ? "with-document" : ""} ${menu.value ? "with-menu" : ""}"
      onDragOver=${(event: DragEvent) => {
        if (!event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        dropping.value = true;
      }}
      onDragLeave=${(event: DragEvent) => {
        if (event.relatedTarget === null) dropping.value = false;
      }}
      onDrop=${(event: DragEvent) => {
        event.preventDefault();
        dropping.value = false;
        void attach(event.dataTransfer?.files ?? []);
      }}
    >
        <${Sidebar} close=${() => menu.value = false} />
        <div class="shade" onClick=${() => menu.value = false}></div>
        <main>
          <header>
            <button class="icon menu" aria-label="Chats" onClick=${() => menu.value = true}>☰</button>
            <h1>${entries.length > 0 ? title : ""}</h1>
            <span class="model">${model.value?.id ?? ""}</span>
          </header>
          <${Conversation} />
          <${Composer} />
        </main>
        <${DocumentPanel} />
        ${dropping.value && html`
          <div class="drop">
            <p>Drop a text to ask about it</p>
          </div>
        `}
      </div>
  `;
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    if (menu.value) menu.value = false;
    else if (answering.value) stop();
    else shown.value = undefined;
  } else if (event.key.toLowerCase() === "o" && event.shiftKey && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    startChat();
  }
});

effect(() => {
  const { title, entries } = chat.value;
  document.title = entries.length > 0 ? `${title} – lakh` : "lakh";
});

const root = document.getElementById("root")!;
render(html`<${Page} />`, root);
void start();
