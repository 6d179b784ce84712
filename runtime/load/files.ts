/**
 * Where the files of a checkpoint are: a folder, the embedded model, a browser's File handles.
 *
 * @module
 */

import type { Checkpoint } from "./safetensors.ts";

/** A read-only set of named files. */
export interface Files {
  /** For messages: a path or a name. */
  readonly label: string;
  /** Names in the folder, without sub-folders' contents. */
  list(): Promise<readonly string[]>;
  /** Whole text of a file; undefined when there is none of that name. */
  text(name: string): Promise<string | undefined>;
  /** Opens a file for random access. Throws when there is none of that name. */
  open(name: string): Promise<RandomAccessFile>;
  /** Opens the weights where they are in another form than safetensors. */
  openWeights?(): Promise<Checkpoint>;
}

/** A file read by byte ranges. */
export interface RandomAccessFile {
  /** Bytes. */
  readonly size: number;
  /** Fills `into` from byte `offset` on. Throws when the file ends before. */
  read(offset: number, into: Uint8Array): Promise<void>;
  /** Whether it is as it was when it was opened; absent where it cannot change. */
  unchanged?(): Promise<boolean>;
  /** Gives the file back; nothing is read afterwards. */
  close(): void;
}
