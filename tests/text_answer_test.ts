/** Answers taken apart, and the grammars of calls, for each way in which families write them. */
import assert from "node:assert/strict";
import { answerFormatOf, opensReasoning } from "../runtime/text/answer_format.ts";
import { AnswerParser, type AnswerPart } from "../runtime/text/answer_parser.ts";
import { FORMATS } from "./answer_formats.ts";
import { fc } from "./deps.ts";

interface Gathered {
  text: string;
  reasoning: string;
  calls: { name: string; arguments: string }[];
}

/** Reads an answer in the given pieces. */
function read(parser: AnswerParser, pieces: readonly string[]): Gathered {
  const result: Gathered = { text: "", reasoning: "", calls: [] };
  const add = (part: AnswerPart) => {
    if (part.kind === "text" || part.kind === "reasoning") result[part.kind] += part.text;
    else if (part.kind === "call") {
      assert.equal(part.call, result.calls.length, "calls come in order");
      result.calls.push({ name: part.name, arguments: "" });
    } else result.calls[part.call]!.arguments += part.text;
  };
  for (const piece of pieces) parser.push(piece).forEach(add);
  parser.end().forEach(add);
  return result;
}

const names = ["add", "now"];
const schemaOf = (name: string) =>
  name === "add" ? { properties: { a: { type: "integer" }, b: { type: "string" } } } : {};

for (const [family, { template, calls, toolsInWords = false }] of Object.entries(FORMATS)) {
  const format = answerFormatOf(template);

  Deno.test(`calls are read wherever the pieces are cut: ${family}`, () => {
    assert.equal(format.toolsInWords, toolsInWords);
    fc.assert(fc.property(fc.array(fc.nat(calls.length), { maxLength: 12 }), (cuts) => {
      const at = [0, ...cuts.sort((a, b) => a - b), calls.length];
      const pieces = at.slice(1).map((end, i) => calls.slice(at[i], end));
      const { text, calls: found } = read(new AnswerParser(format, { names, schemaOf }), pieces);
      assert.equal(text.trim(), "");
      assert.deepEqual(found.map(({ name }) => name), names);
      assert.deepEqual(found.map((call) => JSON.parse(call.arguments)), [{ a: 1, b: 'x}y"{' }, {}]);
    }));
  });

  Deno.test(`what is said before calls, and thought, stays apart: ${family}`, () => {
    const { reasoning } = format;
    const thought = reasoning ? `${reasoning.begin}\nWhich one?\n${reasoning.end}\n\n` : "";
    // Without a marker a call is an answer of its own.
    const said = format.calls.begin === "" ? "" : "Let me see.\n\n";
    const answer = thought + said + calls;
    const whole = read(new AnswerParser(format, { names, schemaOf }), [...answer]);
    assert.equal(whole.reasoning, reasoning ? "Which one?" : "");
    assert.equal(whole.text.trim(), said.trim());
    assert.equal(whole.calls.length, 2);
  });

  Deno.test(`without tools a call is text, and text stays as it is: ${family}`, () => {
    fc.assert(fc.property(fc.array(fc.string({ unit: "grapheme", maxLength: 10 })), (pieces) => {
      const { text, calls } = read(new AnswerParser(format), pieces);
      assert.equal(text, pieces.join(""));
      assert.deepEqual(calls, []);
    }));
  });

  Deno.test(`an answer that is cut anywhere loses nothing that is no marker: ${family}`, () => {
    for (let length = 0; length <= calls.length; length++) {
      const { calls: found } = read(new AnswerParser(format, { names, schemaOf }), [calls.slice(0, length)]);
      assert(found.length <= 2);
      for (const call of found) assert(names.includes(call.name));
    }
  });
}

Deno.test("a prompt that has opened reasoning is gone on with", () => {
  const format = answerFormatOf("<think>");
  assert(opensReasoning(format, "<|im_start|>assistant\n<think>\n"));
  assert(!opensReasoning(format, "<think>\n\n</think>\n\n"));
  const { text, reasoning } = read(new AnswerParser(format, { reasons: true }), [
    "Hm",
    "m.</th",
    "ink>\n\nYes",
    ".",
  ]);
  assert.deepEqual([reasoning, text], ["Hmm.", "Yes."]);
});

Deno.test("JSON that is no call of a known tool is an answer, where calls have no marker", () => {
  const format = answerFormatOf(FORMATS.llama3!.template);
  const answer = '{"name": "Bob", "parameters": {"age": 5}}';
  assert.deepEqual(read(new AnswerParser(format, { names }), [...answer]), {
    text: answer,
    reasoning: "",
    calls: [],
  });
});

Deno.test("a marker without a call is shown", () => {
  const format = answerFormatOf(FORMATS.hermes!.template);
  const { text, calls } = read(new AnswerParser(format, { names }), ["a <tool_call> b"]);
  assert.deepEqual([text, calls], ["a<tool_call> b", []]);
});
