/**
 * A smaller model with the same tokenizer guesses what a larger one will write:
 * https://arxiv.org/abs/2211.17192, with the guesses that the larger one would not have written itself
 * dropped, so that the text is the larger one's.
 *
 * @module
 */
import type { Files } from "../load/files.ts";
import type { Drafter } from "./prompt_lookup.ts";
import { argmax } from "./sampler.ts";
import type { Sequence } from "./sequence.ts";
import { readJsonFile } from "../text/json_file.ts";

/** Guesses at first, and at most. */
const FIRST = 4, MOST = 7;

/** Guesses greedily. Keeps what it has read from text to text. */
export class DraftModel implements Drafter {
  readonly #sequence: Sequence;
  readonly #vocabulary: number;
  #count = FIRST;

  /** `vocabulary` is the larger model's: ids from there on are no guesses. */
  constructor(sequence: Sequence, vocabulary: number) {
    this.#sequence = sequence;
    this.#vocabulary = vocabulary;
  }

  async propose(ids: readonly number[], most: number): Promise<readonly number[]> {
    const sequence = this.#sequence, { facts } = sequence.decoder;
    const room = facts.contextIsHard ? (facts.contextLength ?? Infinity) - ids.length : Infinity;
    const count = Math.min(this.#count, most, room);
    // Padded embeddings differ in size: what the smaller one does not know it cannot read.
    if (count < 1 || ids.some((id) => id >= facts.vocabulary)) return [];
    const text = Uint32Array.from(ids);
    const guesses: number[] = [];
    let next = text.subarray(sequence.keepPrefix(text.subarray(0, -1)));
    while (guesses.length < count) {
      const guess = argmax(await (next.length === 1 ? sequence.decode(next) : sequence.read(next)));
      if (guess >= this.#vocabulary) break;
      guesses.push(guess);
      next = Uint32Array.of(guess);
    }
    return guesses;
  }

  learn(proposed: number, accepted: number): void {
    if (proposed === 0) return;
    this.#count = accepted === proposed ? Math.min(this.#count + 1, MOST) : accepted + 1;
  }
}

/** Throws a TypeError unless two checkpoints have the same tokens. */
export async function checkSameTokens(files: Files, draft: Files): Promise<void> {
  const tokens = async (of: Files) => {
    const { model, added_tokens } = await readJsonFile(of, "tokenizer.json") ?? {};
    return JSON.stringify([(model as { vocab?: unknown } | undefined)?.vocab, added_tokens]);
  };
  if (await tokens(files) === await tokens(draft)) return;
  throw new TypeError(
    `Cannot draft for "${files.label}" with "${draft.label}": their tokenizers differ, so that ids mean other words: ` +
      `take a smaller model of the same family`,
  );
}
