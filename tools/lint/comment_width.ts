/**
 * Comments are at most 110 columns wide, which `deno fmt` does not see to. The fix fills the paragraph anew.
 *
 * Not looked at: examples between ```, tables, and lines of which one word alone is too long (addresses).
 */
export const WIDTH = 110;

/** Lines of one comment, or of `//` comments one below the other, without their margin. */
interface Block {
  /** What stands before each line's text: `" * "`, `"// "`. */
  readonly margin: string;
  readonly lines: readonly { readonly text: string; readonly begin: number; readonly end: number }[];
}

/** Lines `from` up to `to` of a block, and how they would read. */
export interface Refill {
  readonly from: number;
  readonly to: number;
  readonly filled: readonly string[];
}

/** Where a paragraph may not go on from the line before. */
const STARTS = /^(\s*([-*] |\d+\. |\||@\w|```|#)|\s*$|\s{2,})/;

/** Paragraphs with lines over `width`, filled anew. A list's text is indented below its mark. */
export function refills(lines: readonly string[], width: number): Refill[] {
  const found: Refill[] = [];
  let inExample = false;
  for (let i = 0; i < lines.length; i++) {
    if (/^\s*```/.test(lines[i]!)) inExample = !inExample;
    if (inExample || lines[i]!.length <= width || /^\s*\|/.test(lines[i]!)) continue;
    const [, lead = ""] = lines[i]!.match(/^(\s*(?:[-*] |\d+\. )?)/)!;
    const indent = " ".repeat(lead.length);
    const goesOn = (line: string) =>
      indent === "" ? !STARTS.test(line) : line.startsWith(indent) && !STARTS.test(line.slice(indent.length));
    let to = i + 1;
    while (to < lines.length && goesOn(lines[to]!)) to++;
    const filled: string[] = [];
    let line = lead;
    for (const word of wordsOf(lines.slice(i, to).join(" ").slice(lead.length))) {
      const next = line.trim() === "" || line === lead ? line + word : `${line} ${word}`;
      if (next.length > width && line !== lead && line.trim() !== "") {
        filled.push(line);
        line = indent + word;
      } else line = next;
    }
    filled.push(line);
    if (filled.join("\n") !== lines.slice(i, to).join("\n")) found.push({ from: i, to, filled });
    i = to - 1;
  }
  return found;
}

/** Words of a text; a link is one. */
function wordsOf(text: string): string[] {
  return text.match(/\S*(?:\{@[^}]*\}\S*)+|\S+/g) ?? [];
}

/** Comments that have lines for themselves. */
function* blocksOf(source: Deno.lint.SourceCode): Generator<Block> {
  const { text } = source;
  let lines: { text: string; begin: number; end: number }[] = [], margin = "";
  for (const { type, range: [begin, end] } of source.getAllComments()) {
    const lineStart = text.lastIndexOf("\n", begin - 1) + 1, before = text.slice(lineStart, begin);
    if (type === "Line") {
      const own = before.trim() === "" && /^\/\/ /.test(text.slice(begin));
      const last = lines.at(-1);
      const follows = last && text.slice(last.end, begin).trim() === "" &&
        text.slice(last.end, begin).split("\n").length === 2 && margin === `${before}// `;
      if (!follows) {
        if (lines.length > 0) yield { margin, lines };
        lines = [];
        margin = `${before}// `;
      }
      if (own) lines.push({ text: text.slice(begin + 3, end), begin: lineStart, end });
      continue;
    }
    if (!text.startsWith("/**", begin) || before.trim() !== "") continue;
    const star = `${before} * `, inner: typeof lines = [];
    let at = lineStart;
    for (const line of text.slice(lineStart, end).split("\n")) {
      if (line.startsWith(star) && !line.endsWith("*/")) {
        inner.push({ text: line.slice(star.length), begin: at, end: at + line.length });
      } else if (line.trimEnd() === star.trimEnd()) {
        inner.push({ text: "", begin: at, end: at + line.length });
      }
      at += line.length + 1;
    }
    if (inner.length > 0) yield { margin: star, lines: inner };
    else {
      // One line, which becomes three and more.
      const words = text.slice(begin + 3, end - 2).trim();
      yield { margin: `${before}/**`, lines: [{ text: words, begin: lineStart, end }] };
    }
  }
  if (lines.length > 0) yield { margin, lines };
}

/** Reports comments that are too wide. */
export const commentWidth: Deno.lint.Rule = {
  create(context) {
    return {
      Program() {
        for (const { margin, lines } of blocksOf(context.sourceCode)) {
          const single = margin.endsWith("/**");
          const star = single ? `${margin.slice(0, -3)} * ` : margin;
          // A comment on one line has "/** " before and " */" behind its text.
          const width = WIDTH - (single ? margin.length + 4 : margin.length);
          for (const { from, to, filled } of refills(lines.map(({ text }) => text), width)) {
            const range: [number, number] = [lines[from]!.begin, lines[to - 1]!.end];
            const again = single
              ? refills([lines[0]!.text], WIDTH - star.length)[0]?.filled ?? [lines[0]!.text]
              : filled;
            const body = again.map((line) => star + line).join("\n");
            context.report({
              range,
              message: `Comments are at most ${WIDTH} columns wide`,
              hint: "deno lint --fix wraps them",
              fix: (fixer) =>
                fixer.replaceTextRange(
                  range,
                  single ? `${margin}\n${body}\n${margin.slice(0, -3)} */` : body,
                ),
            });
          }
        }
      },
    };
  },
};
