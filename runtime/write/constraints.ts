/**
 * Which ids may not come next, whatever their logits: repeated n-grams, bad words, an end that comes too
 * early, and ids that must stand first or last. As transformers' generate does it.
 *
 * @module
 */

/**
 * Sees the logits [vocabulary] of the next token before anything else does, and may change them: −Infinity
 * forbids an id. `ids` are prompt and answer so far. Called once for each token of the answer, in order, and
 * once more when the answer ends by itself.
 */
export type OnLogits = (logits: Float32Array, ids: readonly number[]) => void;

/** What a checkpoint or a caller demands of an answer. */
export interface ConstraintOptions {
  /** No run of so many ids comes twice; 0 for no limit. */
  readonly noRepeatNgramSize?: number;
  /** Ids of the answer before it may end. */
  readonly minTokens?: number;
  /** Sees and changes logits. Not with beams. */
  readonly onLogits?: OnLogits;
  /** Added to the logits of some ids: −100 all but forbids one, 100 all but demands it. */
  readonly logitBias?: ReadonlyMap<number, number>;
}

/** What only checkpoints demand. */
export interface CheckpointConstraints extends ConstraintOptions {
  /** Runs of ids that never come. */
  readonly badWords?: readonly (readonly number[])[];
  /** The answer begins with it (a language, say). */
  readonly forcedFirstId?: number;
  /** What an answer ends with that is as long as it may be. */
  readonly forcedLastIds?: readonly number[];
}

/** Applies them to one text, or to several beams of one. */
export class Constraints {
  readonly #options: CheckpointConstraints;
  readonly #stopIds: ReadonlySet<number>;
  readonly #promptLength: number;
  readonly #maxTokens: number;

  /**
   * `promptLength`: ids that stand before the answer. Throws a RangeError that names an option out of range.
   */
  constructor(options: CheckpointConstraints, { stopIds, promptLength, maxTokens }: {
    readonly stopIds: ReadonlySet<number>;
    readonly promptLength: number;
    readonly maxTokens: number;
  }) {
    for (const key of ["noRepeatNgramSize", "minTokens"] as const) {
      const value = options[key] ?? 0;
      if (!(Number.isInteger(value) && value >= 0)) {
        throw new RangeError(`Cannot generate with ${key} ${value}: give a whole number of 0 or more`);
      }
    }
    for (const [id, bias] of options.logitBias ?? []) {
      if (!(Number.isInteger(id) && id >= 0 && Number.isFinite(bias))) {
        throw new RangeError(`Cannot add ${bias} to the logit of id ${id}: give ids of tokens and numbers`);
      }
    }
    this.#options = options;
    this.#stopIds = stopIds;
    this.#promptLength = promptLength;
    this.#maxTokens = maxTokens;
  }

  /** True when every id may come at any time. */
  get empty(): boolean {
    const {
      noRepeatNgramSize = 0,
      minTokens = 0,
      badWords = [],
      forcedFirstId,
      forcedLastIds = [],
      onLogits,
      logitBias,
    } = this.#options;
    return noRepeatNgramSize === 0 && minTokens === 0 && badWords.length === 0 &&
      forcedFirstId === undefined && forcedLastIds.length === 0 && onLogits === undefined && !logitBias?.size;
  }

  /** Shows the logits to the caller, who may change them. */
  showLogits(logits: Float32Array, ids: readonly number[]): void {
    this.#options.onLogits?.(logits, ids);
  }

  /** Sets the scores [vocabulary] of what may not follow `ids`, prompt and answer so far, to −Infinity. */
  apply(scores: Float32Array, ids: readonly number[]): void {
    const { noRepeatNgramSize = 0, minTokens = 0, badWords = [], forcedFirstId, forcedLastIds = [] } =
      this.#options;
    const answered = ids.length - this.#promptLength;
    for (const [id, bias] of this.#options.logitBias ?? []) {
      if (id < scores.length) scores[id] = scores[id]! + bias;
    }
    if (noRepeatNgramSize > 0) banRepeats(scores, ids, noRepeatNgramSize);
    for (const word of badWords) {
      // As in transformers, an end by itself is no bad word.
      if (word.length === 1 && this.#stopIds.has(word[0]!)) continue;
      if (word.length > 0 && endsWith(ids, word.slice(0, -1))) ban(scores, word.at(-1)!);
    }
    if (answered < minTokens) { for (const id of this.#stopIds) ban(scores, id); }
    if (answered === 0 && forcedFirstId !== undefined) force(scores, [forcedFirstId]);
    if (answered === this.#maxTokens - 1 && forcedLastIds.length > 0) force(scores, forcedLastIds);
  }
}

function ban(scores: Float32Array, id: number): void {
  if (id < scores.length) scores[id] = -Infinity;
}

/** 0 is a logarithm of certainty and, among nothing else, as good a logit as any. */
function force(scores: Float32Array, ids: readonly number[]): void {
  scores.fill(-Infinity);
  for (const id of ids) if (id < scores.length) scores[id] = 0;
}

function endsWith(ids: readonly number[], tail: readonly number[]): boolean {
  const from = ids.length - tail.length;
  return from >= 0 && tail.every((id, i) => ids[from + i] === id);
}

/** Ids that followed the last size − 1 ids before. */
function banRepeats(scores: Float32Array, ids: readonly number[], size: number): void {
  const last = ids.length - size + 1; // where the run that would be completed begins
  for (let from = 0; from < last; from++) {
    let same = 0;
    while (same < size - 1 && ids[from + same] === ids[last + same]) same++;
    if (same === size - 1) ban(scores, ids[from + same]!);
  }
}
