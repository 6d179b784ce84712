/**
 * Tensors of a checkpoint that is not there: config.json says all of their shapes. Optional tensors count as
 * absent.
 *
 * @module
 */
import type { WeightOptions } from "../models/model.ts";
import type { Origin, Want } from "./declared_weights.ts";
import { countOf } from "./weight_formats.ts";

/** Records names and shapes; nothing is read. */
export class ConfigTensors implements Origin<void> {
  readonly #files = new Map<string, readonly number[]>();

  /** The tensors that a checkpoint of this model has, by full name, in shapes as files have them. */
  get files(): ReadonlyMap<string, readonly number[]> {
    return this.#files;
  }

  has(): boolean {
    return false;
  }

  needGroup(): void {}

  ignore(): void {}

  tensor(name: string, want: Want): void {
    this.#add(name, fileShape(want));
  }

  stack(name: string, entries: number, want: Want): void[] {
    this.#add(name, [entries, ...fileShape(want)]);
    return [];
  }

  /** Where a tensor is read in parts, the part that reaches furthest tells its length. */
  #add(name: string, shape: readonly number[]): void {
    const before = this.#files.get(name);
    if (!before || countOf(shape) > countOf(before)) this.#files.set(name, shape);
  }
}

/** The shape in a file of a tensor that is declared as [out, in] or [out]. */
function fileShape({ shape: [out, columns], options: { rows, transpose } }: Want): readonly number[] {
  const all = rows ? rowsOf(out!, rows) : out!;
  if (columns === undefined) return [all];
  return transpose ? [columns, all] : [all, columns];
}

/** Rows of the whole tensor from which `out` are picked; without `every`, as far as this part tells. */
function rowsOf(out: number, { from, to, every }: NonNullable<WeightOptions["rows"]>): number {
  return every === undefined ? to : out / (to - from) * every;
}
