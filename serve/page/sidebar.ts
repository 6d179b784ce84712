/**
 * The left side: chats, conversations on the server's disk, settings.
 *
 * @module
 */
import { html } from "./deps.ts";
import {
  changeSettings,
  chats,
  chosen,
  open,
  removeChat,
  removeSession,
  resumeSession,
  sessions,
  settings,
  startChat,
} from "./state.ts";
import { bytesText } from "./units.ts";

/** One line of a list, with what removes it. */
function Item({ text, detail, current, choose, remove }: {
  readonly text: string;
  readonly detail?: string;
  readonly current?: boolean;
  readonly choose: () => void;
  readonly remove: () => void;
}) {
  return html`
    <li class=${current ? "current" : ""}>
      <button class="choose" onClick=${choose} aria-current=${current ? "page" : undefined}>
          <span>${text}</span>${detail && html`<small>${detail}</small>`}
        </button>
      <button class="icon remove" aria-label=${`Delete ${text}`} onClick=${remove}>×</button>
    </li>
  `;
}

/** A number that may be left out. */
function NumberSetting({ label, hint, value, set, ...limits }: {
  readonly label: string;
  readonly hint: string;
  readonly value: number | undefined;
  readonly set: (value: number | undefined) => void;
  readonly min: number;
  readonly max?: number;
  readonly step: number;
}) {
  const onChange = ({ currentTarget: input }: { currentTarget: HTMLInputElement }) => {
    if (input.value === "") set(undefined);
    else if (input.checkValidity()) set(input.valueAsNumber);
    else input.reportValidity();
  };
  return html`<label>${label}
    <input type="number" placeholder=${hint} value=${value ?? ""} onChange=${onChange} ...${limits} />
  </label>`;
}

function Settings() {
  const { temperature, maxTokens, system, key } = settings.value;
  const textOf = ({ currentTarget }: { currentTarget: HTMLInputElement | HTMLTextAreaElement }) =>
    currentTarget.value;
  return html`
    <details class="settings">
      <summary>Settings</summary>
      <${NumberSetting} label="Temperature" hint="the model's" min=${0} max=${100} step=${0.05}
        value=${temperature} set=${(temperature: number | undefined) => changeSettings({ temperature })} />
      <${NumberSetting} label="Longest answer, tokens" hint="the server's" min=${1} step=${1}
        value=${maxTokens} set=${(maxTokens: number | undefined) => changeSettings({ maxTokens })} />
      <label>Instructions
          <textarea rows="3" placeholder="What the model is told first" value=${system}
            onChange=${(event: { currentTarget: HTMLTextAreaElement }) =>
              changeSettings({ system: textOf(event) })} />
        </label>
      <label>Key
          <input type="password" autocomplete="off" placeholder="if the server wants one" value=${key}
            onChange=${(event: { currentTarget: HTMLInputElement }) =>
              changeSettings({ key: textOf(event).trim() })} />
        </label>
    </details>
  `;
}

export function Sidebar({ close }: { readonly close: () => void }) {
  const choosing = (action: () => unknown) => () => {
    close();
    void action();
  };
  return html`
    <nav aria-label="Chats">
      <div class="brand"><strong>lakh</strong>
          <button class="new" onClick=${choosing(startChat)} title="Ctrl+Shift+O">New chat</button></div>
      <div class="lists">
          <ul>${chats.value.filter(({ entries }) => entries.length > 0).map(({ id, title }) =>
            html`
              <${Item} key=${id} text=${title} current=${id === chosen.value}
                choose=${choosing(() => open(id))} remove=${() => removeChat(id)} />
            `
          )}</ul>
          ${sessions.value && sessions.value.length > 0 && html`
            <h2>Saved on the server</h2>
            <ul class="sessions">${sessions.value.map(({ id, bytes }) =>
              html`
                <${Item} key=${id} text=${id} detail=${bytesText(bytes)}
                  choose=${choosing(() => resumeSession(id))} remove=${() => removeSession(id)} />
              `
            )}</ul>
          `}
        </div>
      <${Settings} />
    </nav>
  `;
}
