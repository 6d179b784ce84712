/**
 * The text of a document that a person names: plain text, Markdown, HTML, PDF or DOCX. The libraries for the
 * last three are loaded when such a file comes.
 *
 * @module
 */
import { decode, readBytes, whyUnread } from "./text_file.ts";

/** The text of a document, or of stdin for `-`. */
export async function readDocument(path: string): Promise<string> {
  const bytes = await readBytes(path);
  let text: string;
  try {
    text = await textOf(bytes, path);
  } catch (error) {
    throw new Error(`Cannot read "${path}": ${whyUnread(error)}`, { cause: error });
  }
  if (text.trim() === "") throw new Error(`Cannot read "${path}": there is no text in it`);
  return text;
}

async function textOf(bytes: Uint8Array, path: string): Promise<string> {
  const begins = new TextDecoder("latin1").decode(bytes.subarray(0, 1024));
  if (begins.startsWith("%PDF-")) return await pdfText(bytes);
  if (begins.startsWith("PK\x03\x04")) return await docxText(bytes);
  const text = decode(bytes);
  const isHtml = /\.x?html?$/i.test(path) || /^\s*(?:<!doctype html|<html[\s>])/i.test(text.slice(0, 1024));
  return isHtml ? await htmlText(text) : text;
}

async function pdfText(bytes: Uint8Array): Promise<string> {
  const { extractText, getDocumentProxy } = await (await import("../runtime/deps.ts")).loadPdf();
  let pages: string[];
  try {
    // Only errors, and those are thrown: warnings about fonts are of no use to somebody who wants the text.
    const pdf = await getDocumentProxy(bytes, { verbosity: 0 });
    pages = (await extractText(pdf, { mergePages: false })).text;
    await pdf.loadingTask.destroy();
  } catch (error) {
    const { name, message } = error as Error;
    throw new Error(
      name === "PasswordException"
        ? "it is a PDF with a password: take the password off first, e.g. with qpdf --decrypt"
        : `it is a PDF that cannot be opened (${message}): it is damaged, or cut off`,
      { cause: error },
    );
  }
  const text = pages.map((page) => page.trim()).filter((page) => page !== "").join("\n\n");
  if (text === "") {
    throw new Error(
      `it is a PDF with ${pages.length} pages of pictures and no text: recognize its text first, e.g. with ocrmypdf`,
    );
  }
  return text;
}

/** More is no text that a person has written. */
const MOST_XML_BYTES = 256 << 20;

/**
 * The text of the main part of a DOCX: w:t holds text, w:tab and w:br stand for a tab and a line break, and
 * w:p is a paragraph (ECMA-376, part 1, section 17.3). What was deleted with changes tracked is w:delText and
 * left out.
 */
async function docxText(bytes: Uint8Array): Promise<string> {
  const { loadXml, loadZip } = await import("../runtime/deps.ts");
  const [{ unzipSync }, { Parser }] = await Promise.all([loadZip(), loadXml()]);
  const part = "word/document.xml";
  let xml: Uint8Array | undefined;
  try {
    xml = unzipSync(bytes, {
      filter: ({ name, originalSize }) => name === part && originalSize <= MOST_XML_BYTES,
    })[part];
  } catch (error) {
    throw new Error(
      `it is an archive that cannot be opened (${(error as Error).message}): it is damaged, or cut off`,
      {
        cause: error,
      },
    );
  }
  if (!xml) throw new Error("it is an archive (zip, epub, xlsx, …) and no DOCX: take its text out first");
  let text = "", inText = false;
  const parser = new Parser({
    onopentagname(name) {
      inText = name === "w:t";
      if (name === "w:tab") text += "\t";
      else if (name === "w:br" || name === "w:cr") text += "\n";
    },
    ontext: (piece) => text += inText ? piece : "",
    onclosetag(name) {
      inText = false;
      if (name === "w:p") text += "\n";
    },
  }, { xmlMode: true });
  parser.end(decode(xml));
  return text.trim();
}

async function htmlText(html: string): Promise<string> {
  const { convert } = await (await import("../runtime/deps.ts")).loadHtml();
  const heading = { options: { uppercase: false } };
  return convert(html, {
    wordwrap: false,
    limits: { maxInputLength: undefined },
    selectors: [
      { selector: "a", options: { ignoreHref: true } },
      { selector: "img", format: "skip" },
      { selector: "table", format: "dataTable", options: { uppercaseHeaderCells: false } },
      ...["h1", "h2", "h3", "h4", "h5", "h6"].map((selector) => ({ selector, ...heading })),
    ],
  });
}

/** What a terminal pastes when a file is dragged to it: quoted, with escaped spaces, or as a file: URL. */
const DOCUMENT =
  /\.(?:txt|text|md|markdown|rst|org|tex|html?|xhtml|pdf|docx|json|jsonl|csv|tsv|log|xml|ya?ml)$/i;

/** The path, when a message is the path of a document that is there and nothing else; else undefined. */
export async function pastedPath(message: string): Promise<string | undefined> {
  const path = unquote(message.trim());
  if (!DOCUMENT.test(path) || path.includes("\n")) return undefined;
  try {
    return (await Deno.stat(path)).isFile ? path : undefined;
  } catch {
    return undefined; // then it is a message
  }
}

/** A path as a person types or pastes it. */
export function unquote(typed: string): string {
  const [, quoted] = /^(['"])(.*)\1$/s.exec(typed)?.slice(1) ?? [];
  if (quoted !== undefined) return quoted;
  if (typed.startsWith("file://")) {
    try {
      const path = decodeURIComponent(new URL(typed).pathname);
      return Deno.build.os === "windows" ? path.slice(1) : path;
    } catch {
      return typed;
    }
  }
  return Deno.build.os === "windows" ? typed : typed.replace(/\\(.)/g, "$1");
}
