/**
 * `lakh eval`: how well a model predicts texts, and whether that holds beyond its trained length.
 *
 * @module
 */
import { CACHE_DTYPES, WEIGHT_CHOICES } from "../runtime/device/formats/mod.ts";
import { type Evaluation, mergeEvaluations } from "../runtime/judge/evaluate.ts";
import type { LanguageModel } from "../runtime/language_model.ts";
import { openModel, type OpenOptions } from "../runtime/open_model.ts";
import { type ChartOptions, chartSvg, chartText, type Series } from "./chart.ts";
import { command, EXIT, UsageError } from "./command.ts";
import { formatCount } from "./format.ts";
import { describeModel, MODEL_OPTIONS, openOptions } from "./model_options.ts";
import { openProgressBar } from "./progress_bar.ts";
import { colours, dim, onInterrupt, writeError, writeOut } from "./terminal.ts";
import { checkPlace, readText, writeText } from "./text_file.ts";

const { context: _, model, ...options } = MODEL_OPTIONS;

/** Default window, in trained lengths. */
const TIMES_TRAINED = 8;
/** Buckets with fewer tokens are left out: their mean is off by some percent. */
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
    compare: {
      type: "text",
      value: "FORMAT",
      help: "also run it in this format, f32 or weights+cache as q8+f16, and tell what the difference costs",
    },
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
    ["lakh eval book.txt --model ./dir --weights q4 --compare f32", "what quantization costs"],
  ],

  async run(values, words) {
    if (words.length === 0) throw new UsageError("Cannot evaluate: no text was given: type lakh eval FILE");
    if (values.whole && (values.window !== undefined || values.stride !== undefined)) {
      throw new UsageError("Cannot evaluate: --whole is one pass: leave out --window and --stride");
    }
    if (values.chart) await checkPlace(values.chart);
    const compare = values.compare === undefined ? undefined : formatsOf(values.compare);
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
      await using reference = compare && await openModel(source, { ...opening, ...compare });
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
        const how = { window: size, ...stride, ...(reference && { reference }), signal, onProgress };
        evaluations.push(await model.evaluate(ids, how));
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
        compared: values.compare,
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

/** "q8+f16" is weights in q8 and a cache in f16; "f32" is both. */
function formatsOf(text: string): Pick<OpenOptions, "weights" | "cache"> {
  const [weights, cache = weights === "q4" ? "q8" : weights, ...rest] = text.split("+");
  const known = rest.length === 0 && WEIGHT_CHOICES.find((name) => name === weights);
  const cacheDType = CACHE_DTYPES.find((name) => name === cache);
  if (!known || !cacheDType) {
    throw new UsageError(
      `Cannot compare with "${text}": give a format of weights (${WEIGHT_CHOICES.join(", ")}), ` +
        `or weights+cache (${CACHE_DTYPES.join(", ")})`,
    );
  }
  return { weights: known, cache: cacheDType };
}

interface Result {
  readonly model: LanguageModel;
  readonly evaluation: Evaluation;
  readonly bytesPerToken: number;
  readonly window: number;
  /** The format that this one was compared with. */
  readonly compared: string | undefined;
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

/** Loss beyond the trained length over the loss of the last bucket within it: 1 when the model holds. */
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
  const {
    model: { info },
    evaluation: { natsPerToken, tokens, byPosition, quality },
    bytesPerToken,
    window,
  } = result;
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
    ...(quality && {
      mean_kl: quality.meanKl,
      top1: quality.top1,
      reference_nats_per_token: quality.referenceLoss,
    }),
    by_position: byPosition.map(({ from, to, natsPerToken, tokens }) => ({
      from,
      to,
      tokens,
      nats_per_token: natsPerToken,
    })),
  };
}

function table(result: Result): string {
  const { model, evaluation: { natsPerToken, tokens, byPosition, quality }, bytesPerToken, window } = result;
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
  if (quality) {
    const { meanKl, top1, loss, referenceLoss } = quality;
    const cost = 100 * (Math.exp((loss ?? 0) - (referenceLoss ?? 0)) - 1);
    lines.push(
      "",
      `Compared with ${result.compared}: mean KL ${
        meanKl.toPrecision(2)
      } nats, the same likeliest token at ` +
        `${(100 * top1).toFixed(1)} %, perplexity ${cost < 0 ? "−" : "+"}${Math.abs(cost).toFixed(2)} %`,
    );
  }
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
