/**
 * Keeps an answer to a grammar: from its first token on, or from each place where a marker has come.
 *
 * @module
 */
import type { OnLogits } from "./constraints.ts";
import type { Grammar, GrammarMaker, GrammarMatcher } from "../text/grammar.ts";

/** Forbids tokens that the answer may not have. */
export interface GrammarConstraint extends Disposable {
  readonly onLogits: OnLogits;
}

/** The whole answer is one text of the grammar. Throws a RangeError when the grammar is not understood. */
export function wholeAnswer(
  maker: GrammarMaker,
  grammar: Grammar,
  stopIds: ReadonlySet<number>,
): GrammarConstraint {
  const matcher = maker.make(grammar);
  let consumed: number | undefined;
  return {
    onLogits(logits, ids) {
      // At the first token only the prompt is there.
      consumed ??= ids.length;
      for (; consumed < ids.length; consumed++) matcher.consume(ids[consumed]!);
      matcher.mask(logits, stopIds);
    },
    [Symbol.dispose]: () => matcher.free(),
  };
}

/**
 * What follows `marker` is a text of the grammar, each time; all else is free. White space after the marker
 * may have come with the same token, so the grammar may begin with some.
 */
export function afterMarker(
  maker: GrammarMaker,
  grammar: Grammar,
  { marker, stopIds, tokenBytes }: {
    readonly marker: string;
    readonly stopIds: ReadonlySet<number>;
    readonly tokenBytes: (id: number) => Uint8Array;
  },
): GrammarConstraint {
  // An unsupported grammar is an error before anything is written.
  maker.make(grammar).free();
  const bytesOf = (bytes: Uint8Array) => String.fromCharCode(...bytes);
  const wanted = bytesOf(new TextEncoder().encode(marker));
  let matcher: GrammarMatcher | undefined, seen: number | undefined, tail = "";
  const end = () => {
    matcher?.free();
    matcher = undefined;
    tail = "";
  };
  return {
    onLogits(logits, ids) {
      seen ??= ids.length;
      for (; seen < ids.length; seen++) {
        const id = ids[seen]!;
        if (matcher) {
          matcher.consume(id);
          if (matcher.stopped) end();
          continue;
        }
        const bytes = bytesOf(tokenBytes(id));
        tail = (tail + bytes).slice(-(wanted.length + bytes.length));
        // A token of white space alone comes after the marker, whose end was the moment to begin.
        if (bytes.trim() !== "" && tail.trimEnd().endsWith(wanted)) matcher = maker.make(grammar);
      }
      matcher?.mask(logits, stopIds);
    },
    [Symbol.dispose]: end,
  };
}
