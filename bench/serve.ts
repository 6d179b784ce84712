/**
 * How a server answers many: one load client for lakh serve and for any other server of OpenAI's API
 * (llama-server).
 *
 *     deno run -A bench/serve.ts --name lakh --url http://127.0.0.1:8080 --text great-gatsby.txt
 *     deno run -A bench/serve.ts --name llama-server --url http://127.0.0.1:8081 --text great-gatsby.txt
 *
 * Start both on the same weights with the same threads (lakh serve --threads 2, llama-server -t 2), run one
 * after the other on a quiet machine, and compare. Measured, each with answers of --tokens tokens that do not
 * end early:
 *
 * - users: tokens a second in all, of --users streams at once, and the time to the first token
 * - beside: a stream's longest gap and speed while a prompt of --long tokens is read, and that prompt's own
 *   speed
 * - again: time to the first token of a second question about the same long text
 * - trunk: tokens that four requests at once about one new text had to read
 * - health: the 99th percentile of GET /health meanwhile
 *
 * The last line is JSON.
 *
 * @module
 */
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    url: { type: "string", default: "http://127.0.0.1:8080" },
    name: { type: "string", default: "lakh" },
    text: { type: "string" },
    users: { type: "string", default: "1,8,32" },
    tokens: { type: "string", default: "64" },
    long: { type: "string", default: "8000" },
  },
});
if (!values.text) throw new Error("Cannot measure: give a long text with --text FILE");
const { url, name } = values, tokens = Number(values.tokens), long = Number(values.long);
const text = await Deno.readTextFile(values.text);
const users = values.users.split(",").map(Number);

/** One answer, by the moments at which its tokens came, in milliseconds since it was asked for. */
interface Answer {
  readonly moments: readonly number[];
  readonly promptTokens: number;
  readonly cachedTokens: number;
}

async function ask(prompt: string, maxTokens: number): Promise<Answer> {
  const started = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      ...{ prompt, max_tokens: maxTokens, temperature: 0.8, seed: 1, stream: true },
      ...{ ignore_eos: true, cache_prompt: true, stream_options: { include_usage: true } },
    }),
  });
  if (!response.ok) throw new Error(`Cannot measure "${name}": ${response.status} ${await response.text()}`);
  const moments: number[] = [];
  let rest = "", promptTokens = 0, cachedTokens = 0;
  for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      if (!line.startsWith("data: {")) continue;
      const { choices, usage, timings, error } = JSON.parse(line.slice(6));
      if (error) throw new Error(`Cannot measure "${name}": ${error.message}`);
      if (choices?.[0]?.text) moments.push(performance.now() - started);
      promptTokens = usage?.prompt_tokens ?? promptTokens;
      cachedTokens = usage?.prompt_tokens_details?.cached_tokens ?? timings?.cache_n ?? cachedTokens;
    }
  }
  return { moments, promptTokens, cachedTokens };
}

const seconds = (milliseconds: number) => Math.round(milliseconds) / 1000;
const percentile = (numbers: readonly number[], share: number) =>
  [...numbers].sort((a, b) => a - b)[Math.min(numbers.length - 1, Math.floor(numbers.length * share))] ?? 0;
/** Longest time between two tokens that follow each other, from `from` to `to`. */
function longestGap(moments: readonly number[], from = 0, to = Infinity): number {
  return Math.max(
    0,
    ...moments.slice(1).map((moment, i) => moment >= from && moments[i]! <= to ? moment - moments[i]! : 0),
  );
}
/** About so many tokens of the text, beginning at a place of its own, so that nothing of it is known. */
let place = 0;
function passage(count: number): string {
  const length = count * 4;
  place = (place + 7919) % Math.max(1, text.length - length);
  return text.slice(place, place + length);
}

const report: Record<string, unknown> = { name, url, tokens, long, date: new Date().toISOString() };
console.log(`${name} at ${url}`);
await ask(passage(50), 4); // what is compiled at the first use is compiled now

const health: number[] = [];
const watching = new AbortController();
const watch = (async () => {
  while (!watching.signal.aborted) {
    const started = performance.now();
    await (await fetch(`${url}/health`)).body?.cancel();
    health.push(performance.now() - started);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
})();

report.users = [];
let one = 0;
for (const count of users) {
  const started = performance.now();
  const answers = await Promise.all(Array.from({ length: count }, () => ask(passage(100), tokens)));
  // From the first token on: reading is measured elsewhere.
  const begun = Math.min(...answers.map(({ moments }) => moments[0] ?? 0));
  const written = answers.reduce((sum, { moments }) => sum + moments.length, 0);
  const speed = written / ((performance.now() - started - begun) / 1000);
  if (count === users[0]) one = speed / count;
  const first = answers.map(({ moments }) => moments[0] ?? Infinity);
  (report.users as unknown[]).push({
    ...{ users: count, tokensPerSecond: speed, ofOne: speed / one },
    ...{ firstTokenMedian: seconds(percentile(first, 0.5)), firstTokenWorst: seconds(Math.max(...first)) },
  });
  console.log(
    `${count} users: ${speed.toFixed(1)} tokens/s (${(speed / one).toFixed(2)} × one), first token after ` +
      `${seconds(percentile(first, 0.5))} s, at worst ${seconds(Math.max(...first))} s`,
  );
}

// The prompt by itself, then the same length of another passage beside a stream.
const alone = await ask(passage(long), 1);
const undisturbed = await ask(passage(50), tokens);
const rate = ({ moments }: Answer, from = 0, to = Infinity) => {
  const inside = moments.filter((moment) => moment >= from && moment <= to);
  return inside.length > 1 ? (inside.length - 1) / ((inside.at(-1)! - inside[0]!) / 1000) : 0;
};
// Long enough to go on until the prompt is read.
const stream = ask(passage(50), 4 * tokens + Math.ceil(rate(undisturbed) * alone.moments[0]! / 1000 * 3));
await new Promise((resolve) => setTimeout(resolve, 1000));
const document = passage(long);
const disturbing = await ask(document, 1);
const watched = await stream, from = 1000, to = 1000 + disturbing.moments[0]!;
const ownSpeed = (answer: Answer) =>
  (answer.promptTokens - answer.cachedTokens) / (answer.moments[0]! / 1000);
const beside = {
  longestGap: seconds(longestGap(watched.moments, from, to)),
  speedShare: rate(watched, from, to) / rate(undisturbed),
  promptShare: ownSpeed(disturbing) / ownSpeed(alone),
};
report.beside = beside;
console.log(
  `while ${disturbing.promptTokens} tokens are read a stream's longest gap is ${beside.longestGap} s and its speed ` +
    `${(100 * beside.speedShare).toFixed(0)} % of undisturbed; the prompt's own is ` +
    `${(100 * beside.promptShare).toFixed(0)} % of alone`,
);

const second = await ask(`${document}\n\nWhat happened then?`, 4);
const again = {
  first: seconds(disturbing.moments[0]!),
  second: seconds(second.moments[0]!),
  share: second.moments[0]! / disturbing.moments[0]!,
  cachedTokens: second.cachedTokens,
};
report.again = again;
console.log(`a second question about it: first token after ${again.second} s instead of ${again.first} s`);

const trunk = passage(Math.min(long, 8000));
const branches = await Promise.all(
  [1, 2, 3, 4].map((branch) => ask(`${trunk}\n\nQuestion ${branch}:`, 8)),
);
const read = branches.reduce((sum, { promptTokens, cachedTokens }) => sum + promptTokens - cachedTokens, 0);
report.trunk = { tokens: branches[0]!.promptTokens, read };
console.log(`four questions at once about ${branches[0]!.promptTokens} tokens read ${read} in all`);

watching.abort();
await watch;
report.healthMilliseconds99 = percentile(health, 0.99);
console.log(`/health answers within ${percentile(health, 0.99).toFixed(0)} ms in 99 of 100 cases`);
console.log(JSON.stringify(report));
