/**
 * Beam search: several texts grow side by side, and the likeliest one as a whole is the answer.
 *
 * Each step reads one id for every beam in one packed pass, adds log-probabilities to what the beams have,
 * and keeps the best continuations. Their caches are forks, so that beams share the pages of what they have
 * in common. Scores, length penalty, and when to stop are transformers' (generation/utils.py, _beam_search).
 *
 * @module
 */
import type { Constraints } from "./constraints.ts";
import { type GenerateResult, readPrompt, type StopReason } from "./generate.ts";
import { argmax, largest, penalize, penalizes, type Penalties } from "./sampler.ts";
import type { ReadOptions, Sequence } from "./sequence.ts";

/** How beams are kept. */
export interface BeamOptions {
  /** Texts that grow side by side; 1 for no search. */
  readonly numBeams?: number;
  /** A text's score is its log-probability / length^lengthPenalty: above 0 prefers long texts. Default 1. */
  readonly lengthPenalty?: number;
  /**
   * When to stop: true as soon as numBeams texts are complete; false (default) when the best open one, were
   * it complete now, would be worse than they; "never" when it cannot become better.
   */
  readonly earlyStopping?: boolean | "never";
}

/** What {@linkcode beamSearch} needs beside the prompt. */
export interface BeamSearchOptions extends ReadOptions {
  readonly beams: Required<BeamOptions>;
  readonly penalties: Penalties;
  readonly constraints: Constraints;
  readonly maxTokens: number;
  /** Ids that end the text; they are not given. */
  readonly stopIds: ReadonlySet<number>;
}

/** A text that grows. */
interface Beam {
  readonly sequence: Sequence;
  /** Prompt and answer so far. */
  readonly ids: readonly number[];
  /** Sum of the log-probabilities of the answer. */
  readonly score: number;
}

/** A beam and what might follow it. */
interface Candidate {
  readonly beam: Beam;
  readonly id: number;
  readonly score: number;
}

/** A text that is complete, its score divided by its length. */
interface Complete {
  readonly answer: readonly number[];
  readonly reason: StopReason;
  readonly score: number;
}

/**
 * Reads `prompt` and yields the ids of the best answer, all after the search. `sequence` holds the prompt
 * afterwards. Returns how it went; a cancelled search has no answer.
 */
export async function* beamSearch(
  sequence: Sequence,
  prompt: Uint32Array,
  options: BeamSearchOptions,
): AsyncGenerator<number, GenerateResult, boolean | undefined> {
  const { logits, reusedTokens, prefillSeconds } = await readPrompt(sequence, prompt, options);
  const started = performance.now();
  const best = logits && options.maxTokens > 0
    ? await search(sequence, { prompt: [...prompt], logits, options })
    : undefined;
  const decodeSeconds = (performance.now() - started) / 1000;
  let tokens = 0, reason = best?.reason ?? (logits && options.maxTokens === 0 ? "length" : "cancelled");
  for (const id of best?.answer ?? []) {
    tokens++;
    if (yield id) {
      reason = "stop";
      break;
    }
  }
  const counts = { promptTokens: prompt.length, reusedTokens, tokens, draftedTokens: 0, acceptedTokens: 0 };
  return { reason, ...counts, prefillSeconds, decodeSeconds };
}

/** The best answer; undefined when the signal stops it. */
async function search(
  sequence: Sequence,
  { prompt, logits, options }: {
    readonly prompt: readonly number[];
    readonly logits: Float32Array;
    readonly options: BeamSearchOptions;
  },
): Promise<Complete | undefined> {
  const { beams: { numBeams, lengthPenalty, earlyStopping }, stopIds, maxTokens, signal } = options;
  // So many that numBeams can go on when all others end.
  const kept = Math.max(2, 1 + stopIds.size) * numBeams;
  const complete: Complete[] = [];
  let beams: readonly Beam[] = [{ sequence, ids: prompt, score: 0 }];
  const forks = new Set<Sequence>();
  const fork = (from: Sequence) => {
    const copy = from.fork();
    forks.add(copy);
    return copy;
  };
  const free = (those: Iterable<Sequence>) => {
    for (const each of those) if (forks.delete(each)) each.free();
  };
  try {
    for (let length = 1;; length++) {
      const candidates = likeliest(beams, { count: kept, prompt, logits, options });
      const ends = ({ id }: Candidate) => stopIds.has(id) || length === maxTokens;
      // Those below the first numBeams are only there to go on.
      for (const candidate of candidates.slice(0, numBeams).filter(ends)) {
        const stopped = stopIds.has(candidate.id);
        const answer = candidate.beam.ids.slice(prompt.length);
        complete.push({
          answer: stopped ? answer : [...answer, candidate.id],
          reason: stopped ? "stop" : "length",
          score: candidate.score / length ** lengthPenalty,
        });
      }
      complete.sort((a, b) => b.score - a.score).splice(numBeams);

      const next = candidates.filter((candidate) => !ends(candidate)).slice(0, numBeams);
      const full = complete.length === numBeams;
      if (next.length === 0 || (full && earlyStopping === true)) break;
      const longest = earlyStopping === "never" && lengthPenalty > 0 ? maxTokens : length;
      if (full && next[0]!.score / longest ** lengthPenalty <= complete.at(-1)!.score) break;

      const before = beams.map((beam) => beam.sequence);
      beams = next.map(({ beam, id, score }) => ({
        sequence: fork(beam.sequence),
        ids: [...beam.ids, id],
        score,
      }));
      free(before);
      if (signal?.aborted) return undefined;
      logits = await decodeTogether(beams, next);
    }
  } finally {
    free([...forks]);
  }
  if (complete.length === 0) {
    throw new Error("Cannot generate: no token may follow: allow more with noRepeatNgramSize or minTokens");
  }
  return complete[0];
}

/** Reads the id that each beam got last, in one pass → logits [beams, vocabulary]. */
async function decodeTogether(beams: readonly Beam[], next: readonly Candidate[]): Promise<Float32Array> {
  const rows = await Promise.all(
    beams.map(({ sequence }, i) => sequence.decode(Uint32Array.of(next[i]!.id))),
  );
  const vocabulary = rows[0]!.length, logits = new Float32Array(rows.length * vocabulary);
  rows.forEach((row, i) => logits.set(row, i * vocabulary));
  return logits;
}

/** The likeliest continuations of all beams, best first. `logits` [beams, vocabulary] */
function likeliest(
  beams: readonly Beam[],
  { count, prompt, logits, options: { penalties, constraints } }: {
    readonly count: number;
    readonly prompt: readonly number[];
    readonly logits: Float32Array;
    readonly options: BeamSearchOptions;
  },
): Candidate[] {
  const vocabulary = logits.length / beams.length;
  const all = logits.slice();
  beams.forEach(({ ids, score }, i) => {
    const row = all.subarray(i * vocabulary, (i + 1) * vocabulary);
    toLogProbabilities(row);
    if (penalizes(penalties)) {
      const counts = new Map(prompt.map((id) => [id, 0]));
      for (const id of ids.slice(prompt.length)) counts.set(id, (counts.get(id) ?? 0) + 1);
      penalize(row, counts, penalties);
    }
    constraints.apply(row, ids);
    for (let id = 0; id < vocabulary; id++) row[id] = row[id]! + score;
  });
  return [...largest(all, Math.min(count, all.length))]
    .filter((at) => all[at]! > -Infinity)
    .sort((a, b) => all[b]! - all[a]! || a - b)
    .map((at) => ({ beam: beams[Math.floor(at / vocabulary)]!, id: at % vocabulary, score: all[at]! }));
}

/** Log-softmax in place. Throws an Error when the logits are not numbers. */
function toLogProbabilities(logits: Float32Array): void {
  const top = logits[argmax(logits)]!;
  let sum = 0;
  for (const x of logits) sum += Math.exp(x - top);
  const shift = top + Math.log(sum);
  for (let id = 0; id < logits.length; id++) logits[id] = logits[id]! - shift;
}
