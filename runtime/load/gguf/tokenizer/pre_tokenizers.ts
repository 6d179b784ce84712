/**
 * How text is split into words before byte-pair merges, by `tokenizer.ggml.pre`. The expressions are those of
 * the models' own tokenizer.json files, for which the names in GGUF stand.
 *
 * @module
 */
import type { Json } from "../architectures/architecture.ts";

/** One way to split, as tokenizer.json says it. */
export interface PreTokenizer {
  readonly preTokenizer: Json;
  readonly normalizer?: Json;
  /** A word that is a token as it stands is not merged from its parts. */
  readonly ignoreMerges?: boolean;
  /** Whether a text begins with the beginning-of-text token where the file does not say. */
  readonly addBos?: boolean;
}

const NFC = { type: "NFC" };

function byteLevel(useRegex: boolean): Json {
  return { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: useRegex };
}

function sequence(...pretokenizers: readonly Json[]): Json {
  return { type: "Sequence", pretokenizers };
}

function splitBy(regex: string): Json {
  return { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false };
}

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const ENDS = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const LETTERS = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";
const MARKS = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*";
const UPPER = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]", LOWER = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const CASED = [`${UPPER}*${LOWER}+`, `${UPPER}+${LOWER}*`].map((word) => `[^\\r\\n\\p{L}\\p{N}]?${word}`);

/** GPT-2's own expression, which is built into ByteLevel. */
const GPT2: PreTokenizer = { preTokenizer: byteLevel(true) };
const NEOX: PreTokenizer = { ...GPT2, normalizer: NFC };

/** Digits one by one, then GPT-2. */
const DIGITS: PreTokenizer = {
  preTokenizer: sequence({ type: "Digits", individual_digits: true }, byteLevel(true)),
};

/** Numbers of up to three digits. */
const LLAMA3: PreTokenizer = {
  preTokenizer: sequence(
    splitBy([CONTRACTIONS, LETTERS, "\\p{N}{1,3}", MARKS, ENDS].join("|")),
    byteLevel(false),
  ),
};

const QWEN2: PreTokenizer = {
  preTokenizer: sequence(splitBy([CONTRACTIONS, LETTERS, "\\p{N}", MARKS, ENDS].join("|")), byteLevel(false)),
  normalizer: NFC,
};

const FALCON: PreTokenizer = {
  preTokenizer: sequence(
    { type: "Punctuation", behavior: "Contiguous" },
    byteLevel(true),
    { type: "Digits", individual_digits: false },
    splitBy("[0-9][0-9][0-9]"),
  ),
};

const BLOOM: PreTokenizer = {
  preTokenizer: sequence(splitBy(" ?[^(\\s|[.,!?…。，、।۔،])]+"), byteLevel(false)),
};

const TEKKEN: PreTokenizer = {
  preTokenizer: sequence(
    splitBy([...CASED, "\\p{N}", " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*", ENDS].join("|")),
    byteLevel(false),
  ),
  ignoreMerges: true,
  addBos: true,
};

const GPT4O: PreTokenizer = {
  ignoreMerges: true,
  preTokenizer: sequence(
    splitBy(
      [
        ...CASED.map((word) => `${word}${CONTRACTIONS}?`),
        "\\p{N}{1,3}",
        " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*",
        ENDS,
      ].join("|"),
    ),
    byteLevel(false),
  ),
};

const LLAMA_BPE: PreTokenizer = { ...LLAMA3, ignoreMerges: true, addBos: true };

const PRE_TOKENIZERS: Readonly<Record<string, PreTokenizer>> = {
  "bloom": BLOOM,
  "chatglm-bpe": LLAMA3,
  "codeshell": DIGITS,
  "command-r": { ...DIGITS, normalizer: NFC },
  "dbrx": LLAMA3,
  "deepseek-r1-qwen": QWEN2,
  "exaone": DIGITS,
  "falcon": FALCON,
  "falcon3": LLAMA_BPE,
  "gpt-2": GPT2,
  "gpt-4o": GPT4O,
  "gpt-neox": NEOX,
  "gpt3-finnish": BLOOM,
  "llama-bpe": LLAMA_BPE,
  "llama-v3": LLAMA_BPE,
  "llama3": LLAMA_BPE,
  "llama4": GPT4O,
  "megrez": QWEN2,
  "minerva-7b": DIGITS,
  "mpt": NEOX,
  "olmo": NEOX,
  "phi-2": GPT2,
  "poro-chat": BLOOM,
  "qwen2": QWEN2,
  "refact": DIGITS,
  "roberta-bpe": GPT2,
  "smaug-bpe": LLAMA3,
  "smollm": DIGITS,
  "stablelm2": QWEN2,
  "starcoder": DIGITS,
  "tekken": TEKKEN,
  "trillion": GPT2,
};

/** What files that were made before there was the key had, by architecture, where there is but one. */
const BEFORE: Readonly<Record<string, string>> = {
  bloom: "bloom",
  "command-r": "command-r",
  falcon: "falcon",
  gpt2: "gpt-2",
  gptneox: "gpt-neox",
  mpt: "mpt",
  olmo: "olmo",
  phi2: "phi-2",
  qwen2: "qwen2",
  starcoder: "starcoder",
  starcoder2: "starcoder",
};

/**
 * The way to split of that name; `default` and no name are the architecture's own. Undefined when it is not
 * known.
 */
export function findPreTokenizer(name: string, architecture: string): PreTokenizer | undefined {
  const meant = name === "default" || name === "" ? BEFORE[architecture] ?? "" : name;
  return Object.hasOwn(PRE_TOKENIZERS, meant) ? PRE_TOKENIZERS[meant] : undefined;
}

/** Names that are known. */
export const preTokenizerNames: readonly string[] = Object.keys(PRE_TOKENIZERS);
