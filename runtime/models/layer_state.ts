/**
 * What a layer holds of a sequence: keys and values of its tokens, or a state that every token changes.
 *
 * Layers of one model may differ in it. Both kinds are forked and freed; a cache forgets tokens one by one, a
 * recurrent state goes back to where a snapshot was taken.
 *
 * @module
 */
import type { KvCache } from "../device/device.ts";

/**
 * A state of fixed size that every token changes (state-space models, linear attention, short convolutions).
 */
export interface RecurrentState {
  readonly recurrent: true;
  /** Tokens that have changed it, which is also the next position. */
  readonly length: number;
  /** Where the last snapshot was taken; 0 without one. */
  readonly snapshotLength: number;
  /** Remembers how it is now, in place of the last snapshot. Between passes. */
  snapshot(): void;
  /**
   * Goes back: to its beginning, or to the snapshot. Throws a RangeError for any other length below its own.
   */
  truncate(length: number): void;
  /** A second state that goes its own way, with the same snapshot. */
  fork(): RecurrentState;
  /** How it lies in memory: saved states of another layout are refused. */
  readonly layout: string;
  /** Bytes of the state, without the snapshot. */
  readonly bytes: number;
  /** Copies it out. Not inside a step. */
  save(): Promise<Uint8Array>;
  /** Becomes what `save` gave of one with this length. Not inside a step. */
  restore(length: number, bytes: Uint8Array): Promise<void>;
  /** Gives its memory back. */
  free(): void;
}

/** What one layer holds of one sequence. */
export type LayerState = KvCache | RecurrentState;

/** Whether it is a state that every token changes. */
export function isRecurrent(state: LayerState): state is RecurrentState {
  return "recurrent" in state;
}

/** States that are keys and values, all of them. Throws a TypeError for others. */
export function cachesOf(states: readonly LayerState[]): readonly KvCache[] {
  return states.map((state) => {
    if (isRecurrent(state)) {
      throw new TypeError("Cannot attend over a recurrent state: give the layer a cache");
    }
    return state;
  });
}

/**
 * The most tokens, at most `length`, that a state can go back to and go on from. Layers with a window have
 * left pages behind, of which the next tokens would see some.
 */
export function returnPoint(state: LayerState, length: number): number {
  if (length >= state.length) return Math.min(length, state.length);
  if (isRecurrent(state)) return length >= state.snapshotLength ? state.snapshotLength : 0;
  const { dropped, window = 0 } = state;
  return dropped > 0 && length < dropped + window ? 0 : length;
}
