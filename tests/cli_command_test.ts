import assert from "node:assert/strict";
import { type Command, command, helpText, parseOptions, suggest, UsageError } from "../cli/command.ts";
import { formatBytes, formatDuration, formatParameters, formatSpeed } from "../cli/format.ts";
import { lakh } from "./lakh_process.ts";

const example = command({
  name: "example",
  summary: "Shows options.",
  words: "WORD…",
  options: {
    count: { type: "integer", short: "c", value: "N", min: 1, max: 200_000, help: "how many" },
    penalty: { type: "number", short: "p", value: "X", min: -2, max: 2, help: "how much" },
    kind: { type: "choice", choices: ["dense", "sparse"], help: "which" },
    stop: { type: "text", value: "TEXT", many: true, help: "ends it" },
    chart: { type: "text", value: "FILE.svg", optional: /\.svg$/, help: "draws" },
    json: { type: "flag", short: "j", help: "for scripts" },
  },
  examples: [["lakh example", "shows"]],
  run: () => Promise.resolve(0),
});

Deno.test("parseOptions() reads every kind of option, in any order and form", () => {
  const { values, words } = parseOptions(example, [
    ...["one", "--count", "3", "--penalty=-0.5", "--kind", "sparse", "--stop", "a", "-j", "--stop=", "two"],
    ...["--", "--count"],
  ]);
  assert.deepEqual({ ...values }, {
    count: 3,
    penalty: -0.5,
    kind: "sparse",
    stop: ["a", ""],
    chart: undefined,
    json: true,
  });
  assert.deepEqual(words, ["one", "two", "--count"]);
});

Deno.test("parseOptions() leaves absent options undefined, flags false and lists empty", () => {
  const { values } = parseOptions(example, []);
  assert.deepEqual({ ...values }, {
    count: undefined,
    penalty: undefined,
    kind: undefined,
    stop: [],
    chart: undefined,
    json: false,
  });
});

Deno.test("parseOptions() takes a negative number as a value, not as options", () => {
  assert.equal(parseOptions(example, ["--penalty", "-1.5"]).values.penalty, -1.5);
  assert.equal(parseOptions(example, ["-p", "-.5"]).values.penalty, -0.5);
});

Deno.test("parseOptions() takes the next word for a value that may be left out only if it looks like one", () => {
  const read = (...args: string[]) => {
    const { values, words } = parseOptions(example, args);
    return [values.chart, ...words];
  };
  assert.deepEqual(read("--chart", "a.svg", "b.txt"), ["a.svg", "b.txt"]);
  assert.deepEqual(read("--chart", "b.txt"), ["", "b.txt"]);
  assert.deepEqual(read("b.txt", "--chart"), ["", "b.txt"]);
  assert.deepEqual(read("--chart=c.svg"), ["c.svg"]);
});

Deno.test("parseOptions() reads 100k as 100,000", () => {
  assert.equal(parseOptions(example, ["-c", "100k"]).values.count, 100_000);
  assert.equal(parseOptions(example, ["-c", "1.5K"]).values.count, 1500);
});

const BAD: readonly (readonly [args: readonly string[], told: RegExp])[] = [
  [["--cuont", "3"], /no option --cuont: did you mean --count\?/],
  [["--pen", "1"], /did you mean --penalty\?/],
  [["--hepl"], /did you mean --help\?/],
  [["--constructor"], /no option --constructor/],
  [["-x"], /no option -x/],
  [["--count"], /--count: a value is missing: N/],
  [["--count", "x"], /"x" is not a whole number/],
  [["--count", ""], /"" is not a whole number/],
  [["--count", "2.5"], /"2.5" is not a whole number/],
  [["--count", "0"], /0 is out of range: it must be between 1 and 200000/],
  [["--penalty", "NaN"], /"NaN" is not a number/],
  [["--penalty", "Infinity"], /"Infinity" is not a number/],
  [["--kind", "sprase"], /"sprase" is not one of dense, sparse: did you mean sparse\?/],
  [["--json=yes"], /--json: it takes no value, "yes" was given/],
];

for (const [args, told] of BAD) {
  Deno.test(`parseOptions() refuses ${args.join(" ")} in words`, () => {
    assert.throws(
      () => parseOptions(example, args),
      (error) => error instanceof UsageError && told.test(error.message),
    );
  });
}

Deno.test("suggest() gives the only one that begins so before one that is spelled alike, and nothing when all are far", () => {
  assert.equal(suggest("ver", ["verify", "over"]), "verify");
  assert.equal(suggest("caht", ["chat", "run"]), "chat");
  assert.equal(suggest("zzzzzz", ["chat", "run"]), undefined);
});

Deno.test("helpText() names every option, its values and the examples within 100 columns", () => {
  const text = helpText(example as Command);
  for (
    const part of [
      "Usage: lakh example [options] WORD…",
      "-c, --count N",
      "--kind dense|sparse",
      "-h, --help",
    ]
  ) {
    assert.ok(text.includes(part), part);
  }
  for (const line of text.split("\n")) assert.ok(line.length <= 100, line);
});

Deno.test("numbers are told as people read them", () => {
  assert.deepEqual([0, 999, 1000, 6_886_272, 999_999, 1.5e12].map(formatBytes), [
    ...["0 B", "999 B", "1.00 kB", "6.89 MB", "1.00 MB", "1.50 TB"],
  ]);
  assert.deepEqual([812, 3_443_136, 1.236e9].map(formatParameters), ["812", "3.44 M", "1.24 B"]);
  assert.deepEqual([850, 12_300, 200_000, 7_500_000].map(formatDuration), [
    ...["850 ms", "12 s", "3 min 20 s", "2 h 5 min"],
  ]);
  assert.deepEqual([formatSpeed(512, 1000), formatSpeed(10, 3000), formatSpeed(0, 10)], ["512", "3.33", "–"]);
});

for (const name of ["chat", "run", "verify", "inspect", "plan", "eval"]) {
  Deno.test(`lakh ${name} --help shows options and examples and exits with 0`, async () => {
    const { code, stdout, stderr } = await lakh([name, "--help"]);
    assert.equal(code, 0, stderr);
    assert.ok(stdout.includes(`Usage: lakh ${name}`) && stdout.includes("Examples:"));
    for (const line of stdout.split("\n")) assert.ok([...line].length <= 120, line);
    assert.equal((await lakh(["help", name])).stdout, stdout);
  });
}

Deno.test("lakh without a command shows the commands and exits with 2; lakh --help exits with 0", async () => {
  const [bare, asked] = await Promise.all([lakh([]), lakh(["--help"])]);
  assert.equal(bare.code, 2);
  assert.equal(asked.code, 0);
  assert.equal(bare.stdout, asked.stdout);
  assert.ok(asked.stdout.includes("Exit codes: 0 it went well, 1 it failed, 2 the command line is wrong"));
});

Deno.test("lakh --version tells the version of deno.json", async () => {
  const { version } = JSON.parse(await Deno.readTextFile(new URL("../deno.json", import.meta.url)));
  assert.ok((await lakh(["--version"])).stdout.startsWith(`lakh ${version} `));
});

Deno.test("a wrong command line is told in one line on stderr, with the near word, and exits with 2", async () => {
  const [command, option] = await Promise.all([lakh(["caht"]), lakh(["run", "x", "--temprature", "1"])]);
  assert.deepEqual(command, {
    code: 2,
    stdout: "",
    stderr: 'Cannot run lakh: there is no command "caht": did you mean chat?\n',
  });
  assert.deepEqual(option, {
    code: 2,
    stdout: "",
    stderr: "Cannot run lakh run: there is no option --temprature: did you mean --temperature?\n",
  });
});

Deno.test("an error is told in words; LAKH_DEBUG=1 adds where it happened", async () => {
  const args = ["run", "x", "--model", "./no-such-folder"];
  const [plain, debug] = await Promise.all([lakh(args), lakh(args, { env: { LAKH_DEBUG: "1" } })]);
  assert.equal(plain.code, 1);
  assert.match(plain.stderr, /^Cannot open ".*no-such-folder": there is no such folder[^\n]*\n$/);
  assert.match(debug.stderr, /folder\.ts:\d+/);
});
