/**
 * Texts that an encoder-decoder reads: each becomes a memory, and with it the model is a decoder like any other.
 *
 * @module
 */
import type { CacheDType, Device, KvCache } from "../device/device.ts";
import type { Decoder, Seq2Seq } from "../models/model.ts";
import { checkIds, Sequence } from "./sequence.ts";

/** What an encoder-decoder needs to read. */
interface Place {
  readonly device: Device;
  readonly cache: CacheDType;
}

/** Reads texts one at a time. The last one stays, so that a second answer about it begins at once. */
export class SourceReader {
  /** What an answer begins with. */
  readonly start: Uint32Array;
  readonly #model: Seq2Seq;
  readonly #place: Place;
  #last: { readonly source: Source; readonly sequence: Sequence } | undefined;
  #reading: Promise<unknown> = Promise.resolve();

  constructor(model: Seq2Seq, place: Place) {
    this.start = Uint32Array.of(model.decoderStart);
    this.#model = model;
    this.#place = place;
  }

  /** A sequence for answers about a text of one or more tokens, and whether the text was read before. */
  async read(ids: Uint32Array): Promise<{ readonly sequence: Sequence; readonly reused: boolean }> {
    if (this.#last?.source.holds(ids)) return { sequence: this.#last.sequence, reused: true };
    this.free();
    const reading = Source.read(ids, this.#model, this.#place);
    this.#reading = reading.catch(() => {});
    const source = await reading;
    const sequence = new Sequence(this.#place.device, source.decoder, this.#place.cache);
    this.#last = { source, sequence };
    return { sequence, reused: false };
  }

  /** Settles when no pass runs. */
  async idle(): Promise<void> {
    await this.#reading;
    await this.#last?.sequence.idle;
  }

  /** Forgets the last text and gives its memory back. */
  free(): void {
    this.#last?.sequence.free();
    this.#last?.source.free();
    this.#last = undefined;
  }
}

/** A text that was read. Holds its memory until it is freed. */
class Source {
  readonly ids: Uint32Array;
  /** Writes about this text. */
  readonly decoder: Decoder;
  readonly #memory: readonly KvCache[];

  private constructor(ids: Uint32Array, model: Seq2Seq, memory: readonly KvCache[]) {
    this.ids = ids;
    this.#memory = memory;
    this.decoder = {
      kind: "decoder",
      facts: model.facts,
      createCaches: (dtype) => model.createCaches(dtype),
      // Every sequence of a pass looks at the same text.
      forward: (batch) =>
        model.forward({ ...batch, memory: memory.map((layer) => batch.segments.map(() => layer)) }),
    };
  }

  /** Encodes a text of one or more tokens. */
  static async read(
    ids: Uint32Array,
    model: Seq2Seq,
    { device, cache }: Place,
  ): Promise<Source> {
    checkIds(ids, model.facts);
    const memory: KvCache[] = [];
    try {
      await device.step(async () => {
        const hidden = model.encode({ ids, segments: [{ from: 0, to: ids.length, start: 0 }] });
        memory.push(...model.createMemory(hidden, cache));
        await device.flush();
      });
    } catch (error) {
      for (const layer of memory) layer.free();
      throw error;
    }
    return new Source(ids, model, memory);
  }

  /** Whether it is this text. */
  holds(ids: Uint32Array): boolean {
    return ids.length === this.ids.length && ids.every((id, i) => id === this.ids[i]);
  }

  free(): void {
    for (const layer of this.#memory) layer.free();
  }
}
