/**
 * A text that an encoder-decoder has read: its memory, and with it a decoder like any other.
 *
 * @module
 */
import type { CacheDType, Device, KvCache } from "./device/device.ts";
import type { Decoder, Seq2Seq } from "./models/model.ts";
import { checkIds } from "./sequence.ts";

/** Holds the memory until it is freed. */
export class Source {
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
    { device, model, cache }: {
      readonly device: Device;
      readonly model: Seq2Seq;
      readonly cache: CacheDType;
    },
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
