/**
 * `lakh serve`: a model for other programs, over HTTP.
 *
 * @module
 */
import { keysOf } from "../serve/guard.ts";
import { startServer } from "../serve/server.ts";
import { command, EXIT, UsageError } from "./command.ts";
import { describeModel, MODEL_OPTIONS, openOptions, WRITER_OPTIONS, writerOptions } from "./model_options.ts";
import { openProgressBar } from "./progress_bar.ts";
import { dim, writeError, writeOut } from "./terminal.ts";
import { readText } from "./text_file.ts";

export default command({
  name: "serve",
  summary: "Serves a model to programs that speak OpenAI's or Anthropic's API.",
  words: "",
  about: [
    "Point clients at http://127.0.0.1:8080/v1 (Anthropic's at http://127.0.0.1:8080). GET /openapi.json tells what can be",
    "asked, GET /health whether the model is loaded. Without keys only this machine is answered, and no web page.",
  ].join("\n"),
  options: {
    ...MODEL_OPTIONS,
    ...WRITER_OPTIONS,
    "embed-model": {
      type: "text",
      value: "DIR|NAME",
      help: "an encoder beside the model, for /v1/embeddings and /v1/rerank",
    },
    host: {
      type: "text",
      value: "ADDRESS",
      help: "address to listen on; default 127.0.0.1, this machine only; 0.0.0.0 for all networks",
    },
    port: {
      type: "integer",
      short: "p",
      value: "PORT",
      min: 0,
      max: 65535,
      help: "default 8080; 0 for any free one",
    },
    "api-key": {
      type: "text",
      value: "KEY",
      many: true,
      help: "a key that requests must bring; may be given several times",
    },
    "api-key-file": { type: "text", value: "FILE", help: "keys, one a line" },
    alias: {
      type: "text",
      value: "NAME",
      many: true,
      help: "another name of the model, for clients that insist on one; the first is told",
    },
    cors: {
      type: "text",
      value: "ORIGIN",
      many: true,
      help: "web pages of this origin may ask, e.g. https://example.org; * for all",
    },
    "allow-host": {
      type: "text",
      value: "NAME",
      many: true,
      help: "a name by which this server is called, beside localhost",
    },
    "max-tokens": {
      type: "integer",
      short: "n",
      value: "N",
      min: 1,
      help: "tokens of an answer when a request does not say; default 4096",
    },
    "max-requests": {
      type: "integer",
      value: "N",
      min: 1,
      help: "answers that run or wait at once; more get status 429; default 256",
    },
    "max-body": {
      type: "integer",
      value: "BYTES",
      min: 1024,
      help: "bytes of a request at most; default 16777216",
    },
    timeout: { type: "integer", value: "SECONDS", min: 1, help: "that an answer may take; default 3600" },
    ping: {
      type: "integer",
      value: "SECONDS",
      min: 1,
      help: "of silence after which a stream shows that it lives; default 10",
    },
    drain: {
      type: "integer",
      value: "SECONDS",
      min: 0,
      help: "that answers may go on after SIGTERM or Ctrl-C; default 30",
    },
    sessions: {
      type: "text",
      value: "DIR",
      help: "a folder where texts that were read are saved and restored; default: none are",
    },
    quiet: { type: "flag", short: "q", help: "tell nothing on stderr" },
  },
  examples: [
    ["lakh serve", "the embedded storyteller on http://127.0.0.1:8080/v1"],
    ["lakh serve --model ./SmolLM2-135M-Instruct --context 8k", "a model of your own"],
    ["lakh serve --model org/name --embed-model sentence-transformers/all-MiniLM-L6-v2", "with vectors"],
    ["lakh serve --host 0.0.0.0 --api-key-file keys.txt --port 80", "for others, who need a key"],
  ],

  async run(values) {
    const keys = [
      ...values["api-key"],
      ...keysOf(values["api-key-file"] === undefined ? "" : await readText(values["api-key-file"])),
    ];
    if (keys.some((key) => key.trim() === "")) {
      throw new UsageError("Cannot use an empty --api-key: give one");
    }
    if (values["api-key-file"] !== undefined && keys.length === 0) {
      throw new UsageError(`Cannot use "${values["api-key-file"]}": it has no key: put one a line`);
    }
    for (const origin of values.cors) {
      if (origin === "*" || URL.parse(origin)?.origin === origin) continue;
      throw new UsageError(
        `Cannot read --cors: "${origin}" is no origin: give a scheme, a name and a port at most, e.g. https://example.org`,
      );
    }
    if (values.sessions !== undefined) await Deno.mkdir(values.sessions, { recursive: true });
    const { host = "127.0.0.1" } = values;
    const say = (line: string) => values.quiet || writeError(`${dim(line)}\n`);

    using bar = openProgressBar();
    const stopping = new AbortController();
    const server = startServer({
      host,
      port: values.port ?? 8080,
      guard: {
        keys,
        origins: values.cors,
        hosts: values["allow-host"].map((name) => name.toLowerCase()),
        maxBodyBytes: values["max-body"] ?? 16 << 20,
      },
      settings: {
        aliases: values.alias,
        pingSeconds: values.ping ?? 10,
        sessions: values.sessions,
      },
      engine: {
        model: values.model,
        encoder: values["embed-model"],
        open: {
          ...openOptions(values),
          ...writerOptions(values),
          onProgress: bar.onProgress,
          signal: stopping.signal,
        },
        maxRequests: values["max-requests"] ?? 256,
        maxTokens: values["max-tokens"] ?? 4096,
        timeoutSeconds: values.timeout ?? 3600,
      },
      drainSeconds: values.drain ?? 30,
    });
    const stopped = Promise.withResolvers<void>();
    const stop = () => {
      if (stopping.signal.aborted) Deno.exit(EXIT.interrupted);
      stopping.abort(new DOMException("interrupted", "AbortError"));
      stopped.resolve();
    };
    const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
    for (const signal of signals) Deno.addSignalListener(signal, stop);
    try {
      const engine = await server.ready;
      bar.clear();
      say(describeModel(engine));
      if (keys.length === 0 && !/^(127\.|::1$|localhost$)/.test(host)) {
        say("Anyone who reaches this machine may ask: give an --api-key to change that.");
      }
      // Scripts wait for this line.
      writeOut(`listening on ${server.url}\n`);
      await stopped.promise;
      say("ending: answers that are being written may finish");
    } finally {
      for (const signal of signals) Deno.removeSignalListener(signal, stop);
      await server.close();
    }
    return EXIT.ok;
  },
});
