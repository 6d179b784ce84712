/**
 * `lakh embed`: turns texts into vectors.
 *
 * @module
 */
import { openEncoder } from "../runtime/open_model.ts";
import { command, EXIT, UsageError } from "./command.ts";
import { describeModel, MODEL_OPTIONS, openOptions } from "./model_options.ts";
import { openProgressBar } from "./progress_bar.ts";
import { dim, onInterrupt, writeError, writeOut } from "./terminal.ts";
import { readText } from "./text_file.ts";

const { model, cache: _, ...options } = MODEL_OPTIONS;

export default command({
  name: "embed",
  summary: "Turns texts into vectors, one line a text, or tells how near they are to each other.",
  words: "TEXT…",
  about: [
    "TEXT is a text, or - for the lines of stdin. The model is an encoder (BERT, Longformer, …), also one of",
    "sentence-transformers, whose folder says how vectors are pooled, whether they are normalized, and how long a text is.",
  ].join("\n"),
  options: {
    model: {
      ...model,
      help: "an encoder: a folder in Hugging Face form, or org/name[@revision] to download",
    },
    pooling: {
      type: "choice",
      choices: ["mean", "cls"],
      help: "the mean of the tokens' vectors, or the first one's; default: what the folder says, else mean",
    },
    normalize: { type: "flag", help: "make every vector 1 long; default: what the folder says, else not" },
    prompt: {
      type: "text",
      short: "p",
      value: "TEXT",
      help: 'stands before each text, e.g. "query: "; default: what the folder says, else nothing',
    },
    similarity: { type: "flag", short: "s", help: "write the cosines of all pairs instead of the vectors" },
    truncate: { type: "flag", help: "drop the end of a text that is too long; otherwise that is an error" },
    ...options,
    json: { type: "flag", help: "one JSON object with all vectors, or cosines" },
    quiet: { type: "flag", short: "q", help: "do not tell which model ran" },
  },
  examples: [
    ['lakh embed --model sentence-transformers/all-MiniLM-L6-v2 "a lamp" "the sea"', "two vectors"],
    ['lakh embed -m ./dir --similarity "a lamp" "a light" "income tax"', "which two are alike?"],
    ["lakh embed -m ./dir --json - < lines.txt > vectors.json", "one vector a line, for scripts"],
  ],

  async run(values, words) {
    if (values.model === undefined) {
      throw new UsageError(
        "Cannot embed: there is no model: give an encoder with --model DIR or --model org/name",
      );
    }
    const texts = (await Promise.all(words.map((word) => word === "-" ? linesOfStdin() : [word]))).flat();
    if (texts.length === 0) throw new UsageError('Cannot embed: there is no text: type lakh embed "a lamp"');

    using bar = openProgressBar();
    const stopping = new AbortController();
    const { signal } = stopping;
    using _interrupt = onInterrupt(() => stopping.abort(new DOMException("interrupted", "AbortError")));
    const { onProgress } = bar;
    const opening = openOptions({ ...values, cache: undefined });
    await using model = await openEncoder(values.model, { ...opening, onProgress, signal });
    const vectors = await model.embed(texts, {
      ...(values.pooling && { pooling: values.pooling }),
      ...(values.normalize && { normalize: true }),
      ...(values.prompt !== undefined && { prompt: values.prompt }),
      ...(values.truncate && { truncate: "end" as const }),
      onProgress,
      signal,
    });
    bar.clear();

    const result = values.similarity ? cosines(vectors) : vectors.map((vector) => [...vector]);
    if (values.json) {
      const { name, pooling, normalize, facts, device, weights } = model.info;
      writeOut(
        JSON.stringify({
          model: name,
          pooling: values.pooling ?? pooling,
          normalize: values.normalize || normalize,
          dimensions: facts.hiddenSize,
          [values.similarity ? "cosines" : "vectors"]: result,
          device,
          weights,
        }) + "\n",
      );
    } else {
      const write = values.similarity ? (x: number) => x.toFixed(4).padStart(7) : String;
      for (const row of result) writeOut(row.map(write).join(" ") + "\n");
    }
    if (!values.quiet) writeError(`${dim(describeModel(model))}\n`);
    return EXIT.ok;
  },
});

async function linesOfStdin(): Promise<string[]> {
  return (await readText("-")).split(/\r?\n/).filter((line) => line.trim() !== "");
}

function cosines(vectors: readonly Float32Array[]): number[][] {
  const product = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
  const lengths = vectors.map((vector) => Math.sqrt(product(vector, vector)));
  return vectors.map((a, i) => vectors.map((b, j) => product(a, b) / (lengths[i]! * lengths[j]!)));
}
