/**
 * Buffers that the host can map, kept for the next time: reading logits happens at every token.
 *
 * @module
 */

const MAP_READ = 0x1, COPY_DST = 0x8;
/** GPUMapMode.READ */
const READ = 1;
/** Buffers of up to so many bytes are kept, and so many of them. */
const KEPT_BYTES = 2 ** 23, KEPT = 4;

export class Readers {
  readonly #device: GPUDevice;
  readonly #kept: GPUBuffer[] = [];
  #closed = false;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  get count(): number {
    return this.#kept.length;
  }

  /** A buffer of at least `bytes`, to be copied to. */
  take(bytes: number): GPUBuffer {
    const index = this.#kept.findIndex(({ size }) => size >= bytes);
    if (index >= 0) return this.#kept.splice(index, 1)[0]!;
    const size = Math.max(2 ** Math.ceil(Math.log2(bytes)), 256);
    return this.#device.createBuffer({ size, usage: MAP_READ | COPY_DST });
  }

  /** Waits until the GPU has written `bytes` into it, copies them, and takes the buffer back. */
  async copyOut(reader: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
    try {
      await reader.mapAsync(READ, 0, bytes);
    } catch (error) {
      reader.destroy();
      throw error;
    }
    const copy = reader.getMappedRange(0, bytes).slice(0);
    reader.unmap();
    if (reader.size <= KEPT_BYTES && this.#kept.length < KEPT && !this.#closed) this.#kept.push(reader);
    else reader.destroy();
    return copy;
  }

  close(): void {
    this.#closed = true;
    for (const reader of this.#kept.splice(0)) reader.destroy();
  }
}
