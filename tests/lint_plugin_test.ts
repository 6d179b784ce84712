/** The project's lint rules: what each reports, and what it lets pass. */
import assert from "node:assert/strict";
import { WIDTH } from "../tools/lint/comment_width.ts";
import plugin from "../tools/lint_plugin.ts";

/** Messages of one rule for a source at a path of the repository. */
function messages(rule: keyof typeof plugin.rules, path: string, source: string): string[] {
  return Deno.lint.runPlugin(plugin, path, source)
    .filter(({ id }) => id === `lakh/${rule}`)
    .map(({ message }) => message);
}

const LAYERS: readonly (readonly [path: string, source: string, complaint: RegExp | undefined])[] = [
  ["runtime/write/x.ts", `import { a } from "../models/rope.ts";`, undefined],
  ["runtime/write/x.ts", `import { a } from "../language_model.ts";`, /write may not import runtime/],
  ["runtime/write/x.ts", `import type { A } from "../judge/plan.ts";`, /write may not import judge/],
  ["runtime/models/x.ts", `import { a } from "../device/device.ts";`, undefined],
  ["runtime/models/x.ts", `import { a } from "../load/config.ts";`, /models may not import load/],
  ["runtime/models/x.ts", `import { a } from "npm:x@1.0.0";`, /without packages/],
  ["runtime/device/wasm/x.ts", `import { a } from "../../deps.ts";`, /device may not import shared/],
  ["runtime/device/x.ts", `import { a } from "node:fs";`, /without packages/],
  ["runtime/device/x.ts", `export * from "../models/rope.ts";`, /device may not import models/],
  ["runtime/device/x.ts", `export { a } from "./webgpu/device.ts";`, undefined],
  ["runtime/judge/x.ts", `import { a } from "../device/open_device.ts";`, undefined],
  ["runtime/judge/x.ts", `import { a } from "../device/wasm/device.ts";`, /open_device\.ts/],
  ["runtime/open_model.ts", `const a = await import("../models/storyteller/files.ts");`, undefined],
  ["runtime/open_model.ts", `const a = await import("../cli/run.ts");`, /runtime may not import cli/],
  ["runtime/load/x.ts", `import { a } from "../deps.ts";`, undefined],
  ["cli/x.ts", `import { a } from "../serve/server.ts";`, undefined],
  ["cli/x.ts", `import { a } from "../bench/peers/run.ts";`, /cli may not import bench/],
  ["serve/x.ts", `import { a } from "../cli/command.ts";`, /serve may not import cli/],
  ["tests/x.ts", `import { a } from "../runtime/device/wasm/device.ts";`, undefined],
];

Deno.test("layering reports imports against the direction", () => {
  for (const [path, source, complaint] of LAYERS) {
    const [message] = messages("layering", path, source);
    if (complaint) assert.match(message ?? "nothing", complaint, `${path}: ${source}`);
    else assert.equal(message, undefined, `${path}: ${source}`);
  }
});

const ERRORS: readonly (readonly [source: string, complaint: RegExp | undefined])[] = [
  ['throw new Error("Cannot open x: it is a folder");', undefined],
  ['throw new RangeError(`Cannot open "${x}": it is a folder`);', undefined],
  ['throw new Error("it is a folder");', undefined], // a reason for the caller's "Cannot …:"
  ["throw new Error(message);", undefined],
  ["throw new Error(`${start} and more`);", undefined],
  ['throw new Error("Cannot open x: " + reason);', undefined],
  ['throw new Error("Failed to open x");', /begin with "Cannot"/],
  ["throw new HubError(`The hub is gone: ${why}`);", /begin with "Cannot"/],
  ['return new TypeError("Wrong: " + what);', /begin with "Cannot"/],
  ['throw new Error("Cannot open x");', /behind a colon/],
  ['throw new Error("Cannot open x " + "at all");', /behind a colon/],
];

Deno.test("error-form reports messages that do not say what cannot be done, and why", () => {
  for (const [source, complaint] of ERRORS) {
    const [message] = messages("error-form", "runtime/x.ts", source);
    if (complaint) assert.match(message ?? "nothing", complaint, source);
    else assert.equal(message, undefined, source);
    assert.deepEqual(messages("error-form", "tests/x.ts", source), [], "tests are free");
  }
});

Deno.test("model-type reports reads of model_type outside of the registry", () => {
  const read = [
    'config.text("model_type");',
    "if (json.model_type) f();",
    'const a = json["model_type"];',
    'if (info.modelType === "mpt") f();',
    'if ("mpt" != modelType) f();',
    "switch (modelType) { default: }",
  ];
  for (const source of read) {
    assert.equal(messages("model-type", "runtime/write/x.ts", source).length, 1, source);
    assert.deepEqual(messages("model-type", "runtime/models/registry.ts", source), [], source);
    assert.deepEqual(messages("model-type", "runtime/load/gguf_config.ts", source), [], source);
  }
  const written = [
    'const a = { model_type: "mpt" };',
    "throw new Error(`Cannot run model_type ${info.modelType}: no`);",
  ];
  for (const source of written) assert.deepEqual(messages("model-type", "cli/x.ts", source), [], source);
});

/** The source after the fixes of comment-width. */
function wrapped(source: string): string {
  const fixes = Deno.lint.runPlugin(plugin, "tools/x.ts", source)
    .filter(({ id }) => id === "lakh/comment-width").flatMap(({ fix = [] }) => fix);
  for (const { range: [begin, end], text = "" } of fixes.toReversed()) {
    source = source.slice(0, begin) + text + source.slice(end);
  }
  return source;
}

const words = (count: number) => Array.from({ length: count }, (_, i) => `word${i}`).join(" ");

Deno.test("comment-width wraps each kind of comment, once", () => {
  const long = words(40);
  const sources = [
    `/** ${long} */\nconst a = 1;\n`,
    `/**\n * ${long}\n * and more.\n *\n * - ${long}\n *   below its mark\n * - short\n */\nconst a = 1;\n`,
    `  // ${long}\n  // and more.\nconst a = 1;\n`,
    `/** See {@linkcode ${long}}. */\n// ${words(16)} {@link aVeryLongNameOfSomething}\nconst a = 1;\n`,
  ];
  for (const source of sources) {
    const after = wrapped(source);
    assert.notEqual(after, source);
    assert.equal(wrapped(after), after, "a second pass changes nothing");
    const letters = (text: string) => text.replaceAll(/[\s*/]+/g, " ").trim();
    assert.equal(letters(after), letters(source), "no word is lost");
    for (const line of after.split("\n")) {
      if (!line.includes("{@linkcode")) assert.ok(line.length <= WIDTH, line);
    }
  }
  assert.match(wrapped(sources[1]!), /\n \* {3}word\d+.* below its mark\n \* - short\n/);
  assert.match(wrapped(sources[3]!), /\n\/\/ \{@link aVeryLongNameOfSomething\}\n/);
});

Deno.test("comment-width leaves what cannot or need not be wrapped", () => {
  const address = `https://example.org/${"a".repeat(WIDTH)}`;
  const sources = [
    `// ${address}\nconst a = 1;\n`,
    `/**\n * \`\`\`ts\n * const long = ${"x".repeat(WIDTH)};  f(a, b);\n * \`\`\`\n */\nconst a = 1;\n`,
    `/**\n * | ${words(30)} |\n */\nconst a = 1;\n`,
    `// ${"a ".repeat(53)}a\nconst a = 1;\n`,
    `const text = "// ${words(30)}";\n`,
  ];
  for (const source of sources) assert.equal(wrapped(source), source);
});
