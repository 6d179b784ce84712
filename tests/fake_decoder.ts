/**
 * A decoder that counts: after id n comes n + 1, and after the last one 0. It records its passes, so that
 * tests see which tokens are read again, and it can fail.
 *
 * @module
 */
import type { Device, KvCache, Tensor } from "../runtime/device/device.ts";
import type { Batch, Decoder, ModelFacts } from "../runtime/models/model.ts";

export const facts: ModelFacts = {
  hiddenSize: 4,
  layers: 1,
  heads: 1,
  kvHeads: 1,
  headDim: 4,
  vocabulary: 100,
  contextLength: 64,
  contextIsHard: false,
  positions: "none",
  attention: "none",
};

/** A cache that only has a length. */
class FakeCache implements KvCache {
  length = 0;
  freed = false;
  readonly dropped = 0;
  readonly window = undefined;
  readonly layout = "none";
  readonly pageBytes = 0;
  keepWindow(): void {}
  share(other: KvCache, from: number): void {
    this.length += other.length - from;
  }
  truncate(length: number): void {
    if (length > this.length) throw new Error(`truncate(${length}) of ${this.length}`);
    this.length = length;
  }
  fork(): FakeCache {
    const copy = new FakeCache();
    copy.length = this.length;
    return copy;
  }
  free(): void {
    this.freed = true;
  }
}

export class FakeDecoder implements Decoder {
  readonly kind = "decoder";
  readonly facts = facts;
  readonly caches: FakeCache[] = [];
  /** [start, tokens, logit rows] of each sequence in each pass. */
  readonly passes: [number, number, number][] = [];
  /** Sequences of each pass. */
  readonly together: number[] = [];
  /** Called in each pass, for example to throw. */
  onPass: () => void = () => {};

  createStates(): KvCache[] {
    const cache = new FakeCache();
    this.caches.push(cache);
    return [cache];
  }

  forward({ ids, segments, states, logitRows }: Batch): Tensor {
    const rows = dataOf(logitRows);
    segments.forEach(({ from, to, start }, i) => {
      const cache = states[0]![i] as FakeCache;
      if (start !== cache.length) throw new Error(`position ${start} after ${cache.length} tokens`);
      this.passes.push([start, to - from, rows.filter((row) => row >= from && row < to).length]);
      cache.length += to - from;
    });
    this.together.push(segments.length);
    this.onPass();
    const logits = new Float32Array(rows.length * facts.vocabulary);
    rows.forEach((row, i) => logits[i * facts.vocabulary + (ids[row]! + 1) % facts.vocabulary] = 10);
    return fakeTensor([rows.length, facts.vocabulary], logits);
  }
}

type Data = Float32Array | Uint32Array;
const dataOf = (tensor: Tensor) => (tensor as Tensor & { data: Data }).data;
const fakeTensor = (shape: readonly number[], data: Data): Tensor =>
  ({ dtype: "f32", shape, data }) as Tensor & { data: Data };

/** The part of a device that a pass needs. */
export function fakeDevice(limits: { memoryBytes?: number } = {}): Device & { disposed: number } {
  const device = {
    name: "wasm",
    limits: { memoryBytes: limits.memoryBytes ?? 2 ** 30, threads: 1, f16: false },
    memoryInUse: 0,
    disposed: 0,
    constant: fakeTensor,
    pageBytes: (kvHeads: number, headDim: number) => 64 * 2 * 4 * kvHeads * headDim,
    withRows: <T>(_few: number, body: () => T) => body(),
    step: <T>(body: () => Promise<T>) => body(),
    read: (tensor: Tensor) => Promise.resolve(dataOf(tensor)),
    flush: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => {
      device.disposed++;
      return Promise.resolve();
    },
  };
  return device as unknown as Device & { disposed: number };
}
