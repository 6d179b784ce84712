/** What a long action tells about itself: `done` of `total` bytes or tokens. */
export interface Progress {
  /** What goes on: files come from the hub, weights go to the device, or a prompt is read. */
  readonly phase: "download" | "load" | "prefill";
  /** Units that are done. */
  readonly done: number;
  /** Units in all. */
  readonly total: number;
  /** What is counted. */
  readonly unit: "bytes" | "tokens";
  /** Tokens of a prompt that were known and are not read again; not counted in `done` and `total`. */
  readonly cached?: number;
}
/** Gets what a long action tells, some times a second at least. */
export type OnProgress = (progress: Progress) => void;
