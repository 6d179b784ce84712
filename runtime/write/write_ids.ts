/**
 * How ids are written: sampled one by one or found by a beam search, as the caller says and else the
 * checkpoint.
 *
 * @module
 */
import { type BeamOptions, beamSearch } from "./beam_search.ts";
import { type ConstraintOptions, Constraints } from "./constraints.ts";
import { generateIds, type GenerateIdsOptions, type GenerateResult } from "./generate.ts";
import type { GenerationDefaults } from "./generation_config.ts";
import { type Drafter, PromptLookup } from "./prompt_lookup.ts";
import { checkSampling, mergeSampling, Sampler, type SamplingOptions } from "./sampler.ts";
import type { ReadOptions, Sequence } from "./sequence.ts";

/** How the next ids are chosen. */
export interface WriteOptions extends SamplingOptions, BeamOptions, ConstraintOptions {
  /**
   * "lookup" guesses ids ahead from what stands in the prompt, and checks several in one pass: the same text,
   * sooner where it quotes. "draft" lets the model that was opened as `draft` guess. Default "draft" where
   * there is one, else false.
   */
  readonly speculate?: "lookup" | "draft" | false;
}

type ReadingHooks = Pick<GenerateIdsOptions, "onReuse" | "onChosen">;

/** How many beams a search has; 1 for no search. A temperature without numBeams means sampling. */
export function beamsOf(options: WriteOptions, defaults: GenerationDefaults): number {
  return options.numBeams ?? (options.temperature === undefined ? defaults.beams.numBeams : 1);
}

/**
 * Ids after `prompt`, and the seed that gives them again. A temperature without `numBeams` means
 * sampling. Throws a RangeError that names an option out of range, or two that exclude each other.
 */
export function writeIds(
  sequence: Sequence,
  prompt: Uint32Array,
  { options, defaults, maxTokens, stopIds, draft, ...reading }: ReadOptions & ReadingHooks & {
    readonly options: WriteOptions;
    readonly defaults: GenerationDefaults;
    readonly maxTokens: number;
    /** Ids that end the text; they are not given. */
    readonly stopIds: ReadonlySet<number>;
    /** The model that drafts, if there is one. */
    readonly draft?: Drafter | undefined;
  },
): {
  readonly steps: AsyncGenerator<number, GenerateResult, boolean | undefined>;
  readonly seed: number;
} {
  const beams = { ...defaults.beams, ...chosen(options, ["numBeams", "lengthPenalty", "earlyStopping"]) };
  beams.numBeams = beamsOf(options, defaults);
  checkBeams(beams, options);
  const constraints = new Constraints(
    {
      ...defaults.constraints,
      ...chosen(options, ["noRepeatNgramSize", "minTokens", "onLogits", "logitBias"]),
    },
    { stopIds, promptLength: prompt.length, maxTokens },
  );
  const sampling = mergeSampling(defaults.sampling, options);
  const common = { ...reading, maxTokens, stopIds };
  if (beams.numBeams > 1) {
    const penalties = checkSampling(sampling);
    const steps = beamSearch(sequence, prompt, { ...common, beams, penalties, constraints });
    return { steps, seed: sampling.seed ?? 0 };
  }
  const sampler = new Sampler(sampling, prompt, constraints);
  const { speculate = draft ? "draft" : false } = options;
  if (speculate === "draft" && !draft) {
    throw new RangeError('Cannot guess ahead with a draft model: open the model with one (draft: "DIR")');
  }
  const drafter = speculate === "lookup" ? new PromptLookup() : speculate ? draft : undefined;
  const steps = generateIds(sequence, prompt, { ...common, sampler, drafter });
  return { steps, seed: sampler.seed };
}

/** Those of the keys that have a value. */
function chosen<T extends object, K extends keyof T>(options: T, keys: readonly K[]): Pick<T, K> {
  const entries = keys.filter((key) => options[key] !== undefined).map((key) => [key, options[key]]);
  return Object.fromEntries(entries) as Pick<T, K>;
}

function checkBeams(
  { numBeams, lengthPenalty, earlyStopping }: Required<BeamOptions>,
  { temperature = 0, speculate, onLogits }: WriteOptions,
): void {
  if (!(Number.isInteger(numBeams) && numBeams >= 1 && numBeams <= 256)) {
    throw new RangeError(`Cannot search with ${numBeams} beams: numBeams is a whole number from 1 to 256`);
  }
  if (!Number.isFinite(lengthPenalty)) {
    throw new RangeError(`Cannot search with lengthPenalty ${lengthPenalty}: give a number`);
  }
  if (![true, false, "never"].includes(earlyStopping)) {
    throw new RangeError(`Cannot search with earlyStopping ${earlyStopping}: give true, false or "never"`);
  }
  if (numBeams === 1) return;
  if (temperature > 0) {
    throw new RangeError(
      `Cannot search with ${numBeams} beams at temperature ${temperature}: a search does not sample: leave out one of both`,
    );
  }
  if (onLogits) {
    throw new RangeError(
      `Cannot search with ${numBeams} beams and onLogits: a search looks at many texts: leave out one of both`,
    );
  }
  if (speculate) {
    throw new RangeError(`Cannot guess ahead (speculate) with ${numBeams} beams: leave out one of both`);
  }
}
