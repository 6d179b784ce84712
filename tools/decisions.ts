/**
 * Writes docs/decisions/README.md, the index of the decisions beside it.
 *
 * Run with `deno task decisions`. A decision is a file `NNNN-slug.md`: a heading (`# 0100: Title`), the date
 * on a line of its own, then what was decided, why, and what else could have been done.
 *
 * @module
 */
const FOLDER = new URL("../docs/decisions/", import.meta.url);

/** One decision as its file tells it. */
export interface Decision {
  readonly number: string;
  readonly file: string;
  readonly title: string;
  /** YYYY-MM-DD */
  readonly date: string;
}

/** Reads a decision's heading and date. Throws an error that says how the file must look. */
export function readDecision(file: string, text: string): Decision {
  const wrong = (what: string) =>
    new Error(`Cannot list "docs/decisions/${file}": ${what}: see docs/decisions/README.md`);
  const number = file.match(/^(\d{4})-[a-z0-9]+(?:-[a-z0-9]+)*\.md$/)?.[1];
  if (!number) throw wrong("the name is not NNNN-slug.md");
  const heading = text.match(/^# (?:(\d{4})\W*\s)?(\S.*)$/m);
  if (!heading) throw wrong("there is no heading");
  if (heading[1] && heading[1] !== number) throw wrong(`the heading says ${heading[1]}`);
  const date = text.match(/\b\d{4}-\d{2}-\d{2}\b/)?.[0];
  if (!date) throw wrong("there is no date");
  return { number, file, title: heading[2]!, date };
}

/** All decisions, by number. Throws where two have the same. */
export async function readDecisions(): Promise<Decision[]> {
  const decisions: Decision[] = [];
  for await (const { name } of Deno.readDir(FOLDER)) {
    if (name !== "README.md") {
      decisions.push(readDecision(name, await Deno.readTextFile(new URL(name, FOLDER))));
    }
  }
  decisions.sort((a, b) => a.file < b.file ? -1 : 1);
  decisions.forEach(({ number, file }, i) => {
    const before = decisions[i - 1];
    if (before?.number !== number) return;
    throw new Error(
      `Cannot list "docs/decisions/${file}": "${before.file}" has the same number: take another`,
    );
  });
  return decisions;
}

/** The index page. */
export function indexOf(decisions: readonly Decision[]): string {
  return `# Decisions

What was chosen where there was a choice, and why. Numbers are for citing ("decision 0007"); a decision that no
longer holds is changed or deleted together with the code. A new one is a file \`NNNN-slug.md\` with the next
free number: a heading, the date, then **Decision**, **Reason** and **Alternatives** in a few sentences.
\`deno task decisions\` writes this page.

${decisions.map(({ number, file, title, date }) => `- [${number}](${file}) ${title} (${date})`).join("\n")}
`;
}

if (import.meta.main) {
  await Deno.writeTextFile(new URL("README.md", FOLDER), indexOf(await readDecisions()));
}
