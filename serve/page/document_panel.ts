/**
 * The right side: the document, with the place that was chosen.
 *
 * @module
 */
import { html, useLayoutEffect, useRef } from "./deps.ts";
import { shown } from "./state.ts";

export function DocumentPanel() {
  const mark = useRef<HTMLElement>(null);
  const quote = shown.value?.quote;
  useLayoutEffect(() => {
    if (quote) mark.current?.scrollIntoView({ block: "center" });
  }, [quote]);
  if (!shown.value) return null;
  const { name, text } = shown.value.document;
  const [begin, end] = quote?.document ?? [0, 0];
  return html`
    <aside aria-label="Document">
      <header><h2>${name}</h2>
          <button class="icon" aria-label="Close the document" onClick=${() =>
            shown.value = undefined}>×</button></header>
      <div class="document" tabindex="0">${quote
        ? html`${text.slice(0, begin)}<mark ref=${mark}>${text.slice(begin, end)}</mark>${text.slice(end)}`
        : text}</div>
    </aside>
  `;
}
