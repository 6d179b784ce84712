/**
 * `lakh eval`: how well a model predicts texts, and whether it still does beyond the length that it was
 * trained on.
 *
 * @module
 */
import { type Evaluation, mergeEvaluations } from "../runtime/judge/evaluate.ts";
import type { LanguageModel } from "../runtime/language_model.ts";
import { openModel } from "../runtime/open_model.ts";
import { type ChartOptions, chartSvg, chartText, type Series } from "./chart.ts";
import { command, EXIT, UsageError } from "./command.ts";
import { formatCount } from "./format.ts";
import { describeModel, MODEL_OPTIONS, openOptions } from "./model_options.ts";
import { openProgressBar } from "./progress_bar.ts";
import { colours, dim, onInterrupt, writeError, writeOut } from "./terminal.ts";
import { readText, writeText } from "./text_file.ts";

const { context: _, model, ...options } = MODEL_OPTIONS;

/** Windows are so many times the trained length where nothing else is asked for. */
const TIMES_TRAINED = 8;
/** Fewer tokens in a bucket say little: their mean is off by some percent. */
const LEAST_TOKENS = 500;

export default command({
  name: "eval",
  summary: "Measures how well models predict texts: perplexity, and the loss by position in the context.",
  words: "TEXT…",
  about: [
    "TEXT is a file, or - for stdin. It is read in windows that each begin anew. With a stride below the window they",
    "slide: each token counts once in the perplexity, with the most tokens before it, but in all windows in the loss by",
    "position, so that its buckets are means over nearly the same tokens and can be compared.",
  ].join("\n"),
  options: {
    model: { ...model, many: true, help: `${model.help}; may be given several times` },
    window: {
      type: "integer",
      value: "TOKENS",
      min: 1,
      help: `tokens of a window; default: ${TIMES_TRAINED} times what the model was trained on`,
    },
    stride: {
      type: "integer",
      value: "TOKENS",
      min: 1,
      help: "tokens from window to window; default: the window, so that none overlap",
    },
    whole: { type: "flag", help: "one long pass over each text instead of windows" },
    ...options,
    chart: {
      type: "text",
      value: "FILE.svg",
      optional: /\.svg$/i,
      help: "draw the loss by position, on the terminal or into a file",
    },
    json: { type: "flag", help: "one JSON object a model" },
  },
  examples: [
    ["lakh eval alice.txt", "the embedded model"],
    ["lakh eval book.txt --window 8k --stride 2k --chart", "does it hold past its trained length?"],
    ["lakh eval book.txt --model ./a --model ./b --chart both.svg", "two models in one picture"],
    ["lakh eval book.txt --model ./dir --weights q4 --json", "what quantization costs, for scripts"],
  ],

  async run(values, words) {
    if (words.length === 0) throw new UsageError("Cannot evaluate: no text was given: type lakh eval FILE");
    if (values.whole && (values.window !== undefined || values.stride !== undefined)) {
      throw new UsageError("Cannot evaluate: --whole is one pass: leave out --window and --stride");
    }
    const texts = await Promise.all(words.map(readText));
    using bar = openProgressBar();
    const stopping = new AbortController();
    const { signal } = stopping;
    using _interrupt = onInterrupt(() => stopping.abort(new DOMException("interrupted", "AbortError")));
    const { onProgress } = bar;

    const results: Result[] = [];
    for (const source of values.model.length > 0 ? values.model : [undefined]) {
      const opening = {
        ...openOptions({ ...values, model: source, context: undefined }),
        onProgress,
        signal,
      };
      await using model = await openModel(source, opening);
      const evaluations: Evaluation[] = [];
      let tokens = 0, window = 0;
      for (const [i, text] of texts.entries()) {
        const ids = model.tokenizer.encode(text, { special: false });
        if (ids.length === 0) throw new Error(`Cannot evaluate "${words[i]}": it is empty`);
        const size = windowFor(model, {
          wanted: values.whole ? ids.length : values.window,
          length: ids.length,
        });
        const stride = { ...(values.stride !== undefined && { stride: Math.min(values.stride, size) }) };
        evaluations.push(await model.evaluate(ids, { window: size, ...stride, signal, onProgress }));
        tokens += ids.length;
        window = Math.max(window, size);
      }
      bar.clear();
      const bytes = texts.reduce((sum, text) => sum + new TextEncoder().encode(text).length, 0);
      const result = {
        model,
        evaluation: mergeEvaluations(evaluations),
        bytesPerToken: bytes / tokens,
        window,
      };
      results.push(result);
      const stride = values.stride ?? window;
      if (values.json) writeOut(JSON.stringify(asJson(result, { texts: words, stride })) + "\n");
      else {
        writeError(`${dim(describeModel(model))}\n`);
        writeOut(table(result));
      }
    }
    if (values.chart === undefined) return EXIT.ok;
    const series = results.map(seriesOf);
    if (values.chart !== "") await writeText(values.chart, chartSvg(series, chartOf(results)));
    else if (!values.json) {
      writeOut(`\n${await chartText(series, { ...chartOf(results), colours: colours(Deno.stdout) })}`);
    }
    return EXIT.ok;
  },
});

interface Result {
  readonly model: LanguageModel;
  readonly evaluation: Evaluation;
  readonly bytesPerToken: number;
  readonly window: number;
}

function windowFor(
  { info }: LanguageModel,
  { wanted, length }: { readonly wanted: number | undefined; readonly length: number },
): number {
  const { contextLength: trained, contextIsHard } = info.facts;
  if (wanted === undefined) {
    return Math.min(
      length,
      trained === undefined ? length : contextIsHard ? trained : TIMES_TRAINED * trained,
    );
  }
  if (contextIsHard && trained !== undefined && wanted > trained) {
    throw new RangeError(
      `Cannot evaluate in windows of ${wanted} tokens: ${info.name} has learned positions for ${trained}: ` +
        `give --window ${trained}`,
    );
  }
  return Math.min(wanted, length);
}

/** Loss beyond the trained length against that of the last bucket within: 1 when it holds. */
function beyondTraining({ model, evaluation: { byPosition } }: Result) {
  const trained = model.info.facts.contextLength;
  if (trained === undefined) return undefined;
  const within = byPosition.findLast(({ to, tokens }) => to <= trained && tokens >= LEAST_TOKENS);
  const beyond = byPosition.findLast(({ from, tokens }) => from >= trained && tokens >= LEAST_TOKENS);
  if (!within || !beyond) return undefined;
  return { within, beyond, ratio: beyond.natsPerToken / within.natsPerToken };
}

function asJson(
  result: Result,
  { texts, stride }: { readonly texts: readonly string[]; readonly stride: number },
): Record<string, unknown> {
  const { model: { info }, evaluation: { natsPerToken, tokens, byPosition }, bytesPerToken, window } = result;
  const beyond = beyondTraining(result);
  return {
    model: info.name,
    device: info.device,
    weights: info.weights,
    cache: info.cache,
    texts,
    window,
    stride: Math.min(stride, window),
    tokens,
    nats_per_token: natsPerToken,
    perplexity: Math.exp(natsPerToken),
    bits_per_byte: natsPerToken / Math.LN2 / bytesPerToken,
    trained_length: info.facts.contextLength ?? null,
    beyond_training: beyond === undefined ? null : beyond.ratio,
    by_position: byPosition.map(({ from, to, natsPerToken, tokens }) => ({
      from,
      to,
      tokens,
      nats_per_token: natsPerToken,
    })),
  };
}

function table(result: Result): string {
  const { model, evaluation: { natsPerToken, tokens, byPosition }, bytesPerToken, window } = result;
  const trained = model.info.facts.contextLength;
  const bits = natsPerToken / Math.LN2 / bytesPerToken;
  const lines = [
    `${formatCount(tokens)} tokens in windows of ${formatCount(window)}: ${
      natsPerToken.toFixed(4)
    } nats a token, ` +
    `perplexity ${Math.exp(natsPerToken).toPrecision(4)}, ${bits.toFixed(4)} bits a byte`,
    "",
    `${"tokens before".padEnd(18)}${"predicted".padStart(10)}${"nats".padStart(10)}${
      "perplexity".padStart(13)
    }`,
    ...byPosition.map(({ from, to, natsPerToken, tokens }) =>
      `${`${formatCount(from)}–${formatCount(to - 1)}`.padEnd(18)}${formatCount(tokens).padStart(10)}${
        natsPerToken.toFixed(4).padStart(10)
      }${Math.exp(natsPerToken).toPrecision(4).padStart(13)}${
        trained !== undefined && from >= trained ? "  beyond training" : ""
      }`
    ),
  ];
  const held = beyondTraining(result);
  if (held) {
    const { beyond, within, ratio } = held;
    const change = `${ratio < 1 ? "−" : "+"}${Math.abs(100 * (ratio - 1)).toFixed(1)} %`;
    lines.push(
      "",
      `Trained on ${formatCount(trained!)} tokens: after ${
        formatCount(beyond.from)
      } and more the loss is ${change} ` +
        `of that after ${formatCount(within.from)} to ${formatCount(within.to - 1)}`,
    );
  }
  return lines.join("\n") + "\n";
}

function seriesOf({ model, evaluation, window }: Result): Series {
  return {
    name: model.info.name.split(/[/\\]/).filter(Boolean).at(-1) ?? model.info.name,
    points: evaluation.byPosition.filter(({ tokens }) => tokens > 1).map(({ from, to, natsPerToken }) =>
      [(from + Math.min(to, window)) / 2, natsPerToken] as const
    ),
  };
}

function chartOf(results: readonly Result[]): ChartOptions {
  const trained = new Set(results.flatMap(({ model }) => model.info.facts.contextLength ?? []));
  return {
    title: "Loss by position",
    x: "tokens before the predicted one",
    y: "nats a token",
    marks: [...trained].map((x) => ({ x, label: `trained on ${formatCount(x)}` })),
  };
}
