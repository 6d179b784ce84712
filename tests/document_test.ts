/** Documents that people give: what is read of each kind, and what is said of those that cannot be. */
import assert from "node:assert/strict";
import { pastedPath, readDocument, unquote } from "../cli/document.ts";
import { loadZip } from "../runtime/deps.ts";
import { lakh } from "./lakh_process.ts";

/** A PDF of one page that draws the text; the offsets of its table are left to the reader to find. */
function pdf(drawn: string): string {
  const stream = `BT /F1 12 Tf 20 100 Td ${drawn} ET`;
  return [
    "%PDF-1.4",
    "1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj",
    "2 0 obj <</Type /Pages /Kids [3 0 R] /Count 1>> endobj",
    "3 0 obj <</Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents 4 0 R " +
    "/Resources <</Font <</F1 5 0 R>>>>>> endobj",
    `4 0 obj <</Length ${stream.length}>>\nstream\n${stream}\nendstream endobj`,
    "5 0 obj <</Type /Font /Subtype /Type1 /BaseFont /Helvetica>> endobj",
    "trailer <</Root 1 0 R>>",
    "%%EOF",
  ].join("\n");
}

async function archive(files: Readonly<Record<string, string>>): Promise<Uint8Array> {
  const { strToU8, zipSync } = await loadZip();
  return zipSync(Object.fromEntries(Object.entries(files).map(([name, text]) => [name, strToU8(text)])));
}

const DOCX = `<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>
  <w:p><w:r><w:t>Nobody</w:t><w:tab/><w:t xml:space="preserve"> came &amp; lit</w:t></w:r>
    <w:del><w:r><w:delText>never</w:delText></w:r></w:del><w:r><w:t> it.</w:t></w:r></w:p>
  <w:p><w:r><w:t>Two</w:t><w:br/><w:t>lines</w:t></w:r></w:p></w:body></w:document>`;

async function inFolder(run: (at: (name: string) => string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run((name) => `${folder}/${name}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("readDocument() reads text, HTML, PDF and DOCX", () =>
  inFolder(async (at) => {
    const html = "<html><head><style>p {}</style></head><body><h1>Title</h1><p>One <a href='x'>two</a>.</p>" +
      "<script>no()</script><table><tr><td>a</td><td>b</td></tr></table></body></html>";
    const utf16 = new Uint8Array(Uint16Array.from("\ufeffLöwe", (c) => c.charCodeAt(0)).buffer);
    const files: [string, string | Uint8Array, RegExp][] = [
      ["a.md", "# Title\n\n*x*", /^# Title\n\n\*x\*$/],
      ["a.txt", utf16, /^Löwe$/],
      ["a.html", html, /^Title\n\n(?:\n)?One two\.\n\n(?:\n)?a +b$/],
      ["page", `<!doctype html>${html}`, /^Title/],
      ["a.pdf", pdf("(The lamp burned low.) Tj"), /^The lamp burned low\.$/],
      ["a.docx", await archive({ "word/document.xml": DOCX }), /^Nobody\t came & lit it\.\nTwo\nlines$/],
    ];
    for (const [name, content, expected] of files) {
      if (typeof content === "string") await Deno.writeTextFile(at(name), content);
      else await Deno.writeFile(at(name), content);
      assert.match(await readDocument(at(name)), expected, name);
    }
  }));

Deno.test("readDocument() says of what it cannot read what it is", () =>
  inFolder(async (at) => {
    const files: [string, string | Uint8Array, RegExp][] = [
      ["empty.txt", " \n", /there is no text in it/],
      ["cut.pdf", "%PDF-1.7\n\0\xff", /it is a PDF that cannot be opened .*: it is damaged, or cut off/],
      ["scan.pdf", pdf(""), /it is a PDF with 1 pages? of pictures and no text: recognize its text first/],
      ["cut.docx", "PK\x03\x04 and no more", /it is an archive that cannot be opened/],
      [
        "book.epub",
        await archive({ mimetype: "application/epub+zip" }),
        /it is an archive \(zip, epub, .*\) and no DOCX/,
      ],
      ["image.txt", Uint8Array.of(65, 0, 66), /it is no text: it holds bytes of value 0/],
    ];
    for (const [name, content, message] of files) {
      if (typeof content === "string") await Deno.writeTextFile(at(name), content);
      else await Deno.writeFile(at(name), content);
      await assert.rejects(readDocument(at(name)), (error: Error) => {
        assert.match(error.message, message);
        assert(error.message.startsWith(`Cannot read "${at(name)}": `));
        return true;
      });
    }
    await assert.rejects(readDocument(at("none.txt")), /there is no such file/);
  }));

Deno.test("pastedPath() knows the path of a document that is there, however a terminal pastes it", () =>
  inFolder(async (at) => {
    await Deno.writeTextFile(at("my book.txt"), "x");
    for (const paste of [at("my book.txt"), `'${at("my book.txt")}' `, at("my\\ book.txt")]) {
      assert.equal(await pastedPath(paste), at("my book.txt"), paste);
    }
    const url = new URL(`file://${at("my book.txt")}`).href;
    assert.equal(await pastedPath(url), at("my book.txt"));
    for (const said of [at("none.txt"), "What is in book.txt", "/usr/bin/env", at(".")]) {
      assert.equal(await pastedPath(said), undefined, said);
    }
    assert.equal(unquote("plain"), "plain");
  }));

Deno.test("a chat reads documents before the first question, by --file, /read and a pasted path", () =>
  inFolder(async (at) => {
    await Deno.writeTextFile(at("a.txt"), "The old lamp burned low in the hall.");
    await Deno.writeTextFile(at("b.html"), "<p>Nobody came to light it.</p>");
    const args = ["chat", "--file", at("a.txt"), "-n", "3", "--seed", "3"];
    const stdin = `${at("b.html")}\nAnd?\n/read ${at("a.txt")}\nThen?\n/save ${at("talk.json")}\n`;
    const { code, stderr } = await lakh(args, { stdin });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /a\.txt: \d+ tokens, \d+ % of the context of [\d,]+\n/);
    const { messages } = JSON.parse(await Deno.readTextFile(at("talk.json")));
    const asked = messages.filter(({ role }: { role: string }) => role === "user");
    assert.deepEqual(asked.map(({ content }: { content: string }) => content), [
      "The old lamp burned low in the hall.\n\nNobody came to light it.\n\nAnd?",
      "The old lamp burned low in the hall.\n\nThen?",
    ]);
  }));

Deno.test("a chat refuses a document that does not fit and says what would; --truncate says what it cut", () =>
  inFolder(async (at) => {
    await Deno.writeTextFile(at("a.txt"), "The old lamp burned low in the hall. ".repeat(100));
    const args = ["chat", "--context", "256", "-n", "3", "--seed", "3"];
    const stdin = `/read ${at("a.txt")}\nOnce\n/stats\n`;
    const refused = await lakh(args, { stdin });
    assert.equal(refused.code, 0, refused.stderr);
    assert.match(
      refused.stderr,
      /Cannot read ".*a\.txt": it has [\d,]+ tokens.* of a context of 256: .*--context \dk.*--truncate/,
    );
    assert.match(refused.stderr, /conversation: 1 question\n/);
    const atStart = await lakh([...args, "--file", at("a.txt")], { stdin: "Once\n" });
    assert.equal(atStart.code, 1);
    assert.equal(atStart.stdout, "");
    const cut = await lakh([...args, "--truncate", "--file", at("a.txt")], { stdin });
    assert.match(
      cut.stderr,
      /a\.txt: [\d,]+ tokens: the first [\d,]+ are cut \(--truncate\), the last \d+ are read/,
    );
  }));
