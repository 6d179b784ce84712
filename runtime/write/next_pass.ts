/**
 * Which of the sequences that wait are computed in the next pass, and how much of each. Pure: tested without
 * a device.
 *
 * Decodes and guesses go first, all of them, because a reader waits for each. Then prompts, in turn, until
 * the rows of the pass are full. A long prompt is read piece by piece, so that it delays others for no longer
 * than one pass.
 *
 * @module
 */
import { PAGE_TOKENS } from "../device/page.ts";

/** What a sequence waits for. */
export interface Waiting {
  /** One pass is of one model. */
  readonly decoder: object;
  /** Whose prompts take turns with those of others. */
  readonly namespace: string;
  /** Tokens that a model has written, as opposed to those of a prompt. */
  readonly decoded: boolean;
  /** Position of the next token to read. */
  readonly start: number;
  /** Tokens to read. */
  readonly tokens: number;
  /** Whether all of them have to be in one pass. */
  readonly whole: boolean;
}

/** So many tokens of one of those that wait. */
export interface Portion<W extends Waiting> {
  readonly of: W;
  readonly tokens: number;
}

/**
 * Rows of prompts in a pass at least, when it has any: a page, because over a q8 cache one is read at once.
 */
export const LEAST_PROMPT_ROWS = PAGE_TOKENS;

/** How large a pass may be. */
export interface PassLimits {
  /** Rows of a pass. */
  readonly rows: number;
  /** Rows of prompts in a pass that also decodes; 0 for none this time. */
  readonly promptRows: number;
  /** Rows of prompts in a pass without decodes; default all. */
  readonly promptRowsAlone?: number;
  /** When prompts of a namespace were last read; those that have waited longest go first. */
  readonly lastRead: ReadonlyMap<string, number>;
}

/** The next pass, decodes first. `waiting` is in the order of arrival. */
export function nextPass<W extends Waiting>(
  waiting: readonly W[],
  { rows, promptRows, promptRowsAlone = rows, lastRead }: PassLimits,
): Portion<W>[] {
  const decoder = waiting[0]?.decoder;
  const here = waiting.filter((each) => each.decoder === decoder);
  const pass: Portion<W>[] = [];
  let taken = 0;
  for (const each of here) {
    if (!each.decoded || (taken > 0 && taken + each.tokens > rows)) continue;
    pass.push({ of: each, tokens: each.tokens });
    taken += each.tokens;
  }
  if (taken > 0 && promptRows === 0) return pass;
  let room = taken === 0 ? promptRowsAlone : Math.max(LEAST_PROMPT_ROWS, Math.min(promptRows, rows - taken));
  const turnOf = ({ namespace }: W) => lastRead.get(namespace) ?? 0;
  for (const each of here.filter(({ decoded }) => !decoded).sort((a, b) => turnOf(a) - turnOf(b))) {
    const tokens = portionOf(each, room, pass.length === 0);
    if (tokens === 0) continue;
    pass.push({ of: each, tokens });
    room -= tokens;
  }
  return pass;
}

/** Tokens of a prompt that fit; pieces end with a page. */
function portionOf({ start, tokens, whole }: Waiting, room: number, alone: boolean): number {
  if (tokens <= room) return tokens;
  if (whole) return alone ? tokens : 0;
  const end = Math.floor((start + room) / PAGE_TOKENS) * PAGE_TOKENS;
  return Math.max(end - start, alone ? room : 0);
}
