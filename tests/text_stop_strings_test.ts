import assert from "node:assert/strict";
import { StopStrings } from "../runtime/text/stop_strings.ts";
import { fc } from "./deps.ts";

Deno.test("StopStrings holds back what may be the beginning of a stop string", () => {
  const stop = new StopStrings(["<end>", "\n\n"]);
  assert.equal(stop.push("one\n"), "one");
  assert.equal(stop.push("two<e"), "\ntwo");
  assert.equal(stop.push("nter"), "<enter");
  assert.equal(stop.push("<en"), "");
  assert.equal(stop.push("d> never"), "");
  assert.equal(stop.stopped, true);
  assert.equal(stop.push("never"), "");
  assert.equal(stop.flush(), "");
});

Deno.test("StopStrings gives what it held when nothing more comes", () => {
  const stop = new StopStrings(["<end>"]);
  assert.equal(stop.push("a <en"), "a ");
  assert.equal(stop.flush(), "<en");
});

Deno.test("StopStrings shows the text before the first stop string, however it is cut", () => {
  const letters = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 20 });
  const stops = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 4 }), {
    maxLength: 3,
  });
  fc.assert(fc.property(fc.array(letters), stops, (pieces, stops) => {
    const text = pieces.join("");
    const stop = new StopStrings(stops);
    const shown = pieces.map((piece) => stop.push(piece)).join("") + stop.flush();
    // The first one to be complete ends the text; of those that end in the same piece, the one that begins
    // first.
    const found = stops.some((s) => text.includes(s));
    assert.equal(stop.stopped, found);
    assert(text.startsWith(shown));
    for (const s of stops) assert(!shown.includes(s), `${shown} has ${s}`);
    if (!found) assert.equal(shown, text);
    else assert(stops.some((s) => text.startsWith(shown + s)));
  }));
});

Deno.test("StopStrings refuses an empty stop string", () => {
  assert.throws(() => new StopStrings([""]), TypeError);
});
