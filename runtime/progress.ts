/** What a long action tells about itself: `done` of `total` bytes or tokens. */
export interface Progress {
  readonly phase: "download" | "load" | "prefill";
  readonly done: number;
  readonly total: number;
  readonly unit: "bytes" | "tokens";
}
export type OnProgress = (progress: Progress) => void;
