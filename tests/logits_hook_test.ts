import assert from "node:assert/strict";
import { openModel } from "../runtime/open_model.ts";

const options = { device: "wasm", threads: 1, contextLength: 256 } as const;

Deno.test("onLogits sees each token's logits in order and forbids ids", async () => {
  await using model = await openModel(undefined, options);
  const prompt = model.tokenizer.encode("Once upon a time");
  const plain: number[] = [], changed: number[] = [], seen: number[][] = [];
  for await (const piece of model.generate(prompt, { temperature: 0, maxTokens: 6 })) {
    plain.push(...piece.ids);
  }
  const onLogits = (logits: Float32Array, ids: readonly number[]) => {
    assert.equal(logits.length, model.info.facts.vocabulary);
    seen.push([...ids]);
    logits[plain[0]!] = -Infinity;
  };
  for await (const piece of model.generate(prompt, { temperature: 0, maxTokens: 6, onLogits })) {
    changed.push(...piece.ids);
  }
  assert(!changed.includes(plain[0]!));
  assert.deepEqual(seen, changed.map((_, i) => [...prompt, ...changed.slice(0, i)]));
});

Deno.test("onLogits that changes nothing leaves the text as it is", async () => {
  await using model = await openModel(undefined, options);
  const texts: string[] = [];
  for (const more of [{}, { onLogits: () => {} }]) {
    let text = "";
    for await (const piece of model.generate("Once", { seed: 3, maxTokens: 20, ...more })) text += piece.text;
    texts.push(text);
  }
  assert.equal(texts[0], texts[1]);
});

Deno.test("chat() takes the ids of encodeChat()", async () => {
  await using model = await openModel(undefined, options);
  const messages = [{ role: "user", content: "Once upon a time" }];
  const texts: string[] = [];
  for (const given of [messages, model.encodeChat(messages)]) {
    let text = "";
    for await (const piece of model.chat(given, { seed: 3, maxTokens: 20 })) text += piece.text;
    texts.push(text);
  }
  assert.equal(texts[0], texts[1]);
});
