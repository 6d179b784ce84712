/**
 * GPU memory: pooled buffers by size class for tensors, an arena for data written by the host, and what is in
 * use.
 *
 * A tensor has a buffer of its own, because WebGPU does not allow one buffer to be read and written in one
 * dispatch. A recycled buffer may be used again at once: the queue keeps the order of what was recorded.
 *
 * @module
 */
import type { Struct, Values } from "./declarations.ts";

/** Bytes of a buffer, as bound to a kernel. `id` names the buffer for the bind group cache. */
export interface Region {
  readonly buffer: GPUBuffer;
  readonly id: number;
  readonly offset: number;
  readonly size: number;
}

/** What memory needs to know of the device. */
export interface Limits {
  readonly memoryBytes: number;
  readonly bufferBytes: number;
  readonly bindingBytes: number;
  /** Offsets of bindings are multiples of it. */
  readonly alignment: number;
}

const STORAGE = 0x80 | 0x8 | 0x4; // STORAGE | COPY_DST | COPY_SRC
const UNIFORM = 0x40 | 0x8; // UNIFORM | COPY_DST
/** Steps after which an unused pooled buffer is freed. */
const IDLE_STEPS = 64;

/** 16, 32, 48, 64, 80, 96, 112, 128, 160 …: four classes an octave waste 25 % at most. */
export function sizeClass(bytes: number): number {
  const least = Math.max(bytes, 64);
  const unit = Math.max(2 ** (Math.floor(Math.log2(least - 1)) - 2), 16);
  return Math.ceil(least / unit) * unit;
}

/** Bytes in words. */
export function formatBytes(bytes: number): string {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  if (bytes >= 2 ** 20) return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  return `${bytes} bytes`;
}

/** Buffers of one GPU device. */
export class Memory {
  readonly #device: GPUDevice;
  readonly #limits: Limits;
  readonly #pool = new Map<number, { region: Region; step: number }[]>();
  readonly #destroyed: (id: number) => void;
  #nextId = 0;
  #step = 0;
  #doomed: Region[] = [];
  /** Buffers for which there was no memory. */
  readonly #broken = new Set<number>();
  /** Out-of-memory checks that are not awaited yet. */
  #checks: Promise<void>[] = [];

  /** Bytes of buffers that hold something. */
  inUse = 0;
  /** Bytes of buffers that wait to be used again. */
  pooled = 0;
  /** Buffers that exist. */
  buffers = 0;

  constructor(device: GPUDevice, limits: Limits, destroyed: (id: number) => void) {
    this.#device = device;
    this.#limits = limits;
    this.#destroyed = destroyed;
  }

  get limits(): Limits {
    return this.#limits;
  }

  /** A buffer of at least `bytes`, from the pool if it has one. Its content is arbitrary. */
  take(bytes: number, what: string): Region {
    const size = sizeClass(bytes);
    const free = this.#pool.get(size)?.pop();
    if (free) {
      this.pooled -= size;
      this.inUse += size;
      return free.region;
    }
    return this.create(size, what);
  }

  /** Back to the pool: what was recorded still finds it, what is recorded from now on may overwrite it. */
  recycle(region: Region): void {
    if (this.#broken.delete(region.id)) return this.destroy(region);
    this.inUse -= region.size;
    this.pooled += region.size;
    const list = this.#pool.get(region.size);
    const entry = { region, step: this.#step };
    if (list) list.push(entry);
    else this.#pool.set(region.size, [entry]);
  }

  /**
   * A new buffer of exactly `bytes` (a multiple of 4), zeroed by WebGPU. Tables of an arena do not count as
   * in use.
   */
  create(bytes: number, what: string, kind: "storage" | "tables" | "uniform" = "storage"): Region {
    const { memoryBytes, bufferBytes } = this.#limits;
    if (bytes > bufferBytes) {
      throw new RangeError(
        `Cannot allocate ${what}: it needs ${formatBytes(bytes)} in one buffer, the GPU allows ${
          formatBytes(bufferBytes)
        }: pass fewer tokens at once`,
      );
    }
    if (this.inUse + this.pooled + bytes > memoryBytes) this.#trim(0);
    if (this.inUse + bytes > memoryBytes) throw this.#exhausted(bytes, what);
    // Small buffers are not checked one by one: an error scope costs more than they do.
    const checked = bytes >= 2 ** 20;
    if (checked) this.#device.pushErrorScope("out-of-memory");
    const buffer = this.#device.createBuffer({ size: bytes, usage: kind === "uniform" ? UNIFORM : STORAGE });
    if (checked) {
      const id = this.#nextId;
      const check = this.#device.popErrorScope().then((error) => {
        if (!error) return;
        this.#broken.add(id);
        throw this.#exhausted(bytes, what);
      });
      check.catch(() => {}); // reported by `checked`
      this.#checks.push(check);
    }
    this.buffers++;
    if (kind === "storage") this.inUse += bytes;
    return { buffer, id: this.#nextId++, offset: 0, size: bytes };
  }

  /** Destroys a buffer once what is recorded has been submitted. */
  destroy(region: Region, kind: "storage" | "tables" | "uniform" = "storage"): void {
    if (kind === "storage") this.inUse -= region.size;
    this.#doomed.push(region);
  }

  /** Waits for the verdict on the allocations so far; throws if memory was not there. */
  async checked(): Promise<void> {
    const checks = this.#checks;
    this.#checks = [];
    await Promise.all(checks);
  }

  /** To be called after each submission. */
  submitted(): void {
    for (const { buffer, id } of this.#doomed) {
      buffer.destroy();
      this.buffers--;
      this.#destroyed(id);
    }
    this.#doomed = [];
  }

  /** To be called at the end of each step: gives back what many steps did not need. */
  stepEnded(): void {
    this.#step++;
    if (this.#step % IDLE_STEPS === 0) this.#trim(this.#step - IDLE_STEPS);
  }

  /** Destroys pooled buffers; those used since `step` stay. */
  #trim(step: number): void {
    for (const [size, list] of this.#pool) {
      const kept = list.filter((entry) => step > 0 && entry.step >= step);
      for (const { region } of list) {
        if (kept.some((entry) => entry.region === region)) continue;
        this.pooled -= size;
        this.inUse += size; // destroy counts it off
        this.destroy(region);
      }
      if (kept.length > 0) this.#pool.set(size, kept);
      else this.#pool.delete(size);
    }
  }

  /** Destroys the pool. */
  close(): void {
    this.#trim(0);
    this.submitted();
  }

  #exhausted(bytes: number, what: string): RangeError {
    const { memoryBytes } = this.#limits;
    const there = memoryBytes === Infinity ? "the GPU has no more" : `of ${formatBytes(memoryBytes)}`;
    return new RangeError(
      `Cannot allocate ${what} of ${formatBytes(bytes)}: ${formatBytes(this.inUse)} are in use, ${there}: ` +
        "take smaller weights (q8 or q4), a shorter context or an f16 cache",
    );
  }
}

/** A buffer of an arena, and what will be written into it. */
interface Chunk {
  readonly region: Region;
  readonly mirror: Uint8Array<ArrayBuffer>;
  /** The mirror's bytes as numbers. */
  readonly words: Uint32Array;
  readonly floats: Float32Array;
  used: number;
  written: number;
}

/**
 * Data of the host for the next submission: bump-allocated in chunks, written in one go, all free after the
 * step.
 */
export class Arena {
  readonly #device: GPUDevice;
  readonly #memory: Memory;
  readonly #kind: "tables" | "uniform";
  readonly #chunkBytes: number;
  #chunks: Chunk[] = [];
  #current = 0;
  #last = 0;

  constructor(device: GPUDevice, memory: Memory, kind: "tables" | "uniform", chunkBytes: number) {
    this.#device = device;
    this.#memory = memory;
    this.#kind = kind;
    this.#chunkBytes = chunkBytes;
  }

  /** Where `data` will be: offset and size in a chunk. Zeros fill the last 16-byte vector up. */
  put(data: Uint32Array | Float32Array): Region {
    const size = 16 * Math.ceil(Math.max(data.byteLength, 16) / 16);
    const { region, mirror } = this.#room(size);
    mirror.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), this.#last);
    mirror.fill(0, this.#last + data.byteLength, this.#last + size);
    return { buffer: region.buffer, id: region.id, offset: this.#last, size };
  }

  /** Where one struct will be, in room of `bytes`. */
  putStruct(struct: Struct, values: Values, bytes: number): Region {
    const { region, words, floats } = this.#room(bytes);
    struct.write(values, words, floats, this.#last / 4);
    return { buffer: region.buffer, id: region.id, offset: this.#last, size: bytes };
  }

  /** A chunk with room for `bytes`, which begin at #last. */
  #room(bytes: number): Chunk {
    let chunk = this.#chunks[this.#current];
    while (chunk && chunk.used + bytes > chunk.region.size) chunk = this.#chunks[++this.#current];
    if (!chunk) {
      const size = Math.max(this.#chunkBytes, sizeClass(bytes));
      const region = this.#memory.create(size, "a table of indices", this.#kind);
      const mirror = new Uint8Array(size);
      const words = new Uint32Array(mirror.buffer), floats = new Float32Array(mirror.buffer);
      chunk = { region, mirror, words, floats, used: 0, written: 0 };
      this.#chunks.push(chunk);
      this.#current = this.#chunks.length - 1;
    }
    const { alignment } = this.#memory.limits;
    this.#last = chunk.used;
    chunk.used = Math.ceil((chunk.used + bytes) / alignment) * alignment;
    return chunk;
  }

  /** The chunk that `part` lies in, to be bound as a whole. */
  whole(part: Region): Region {
    return this.#chunks.find(({ region }) => region.id === part.id)!.region;
  }

  /** Sends what was put since the last time. Before the submission that uses it. */
  write(): void {
    for (const chunk of this.#chunks) {
      const { region, mirror, written } = chunk;
      const end = Math.min(chunk.used, region.size);
      if (end > written) {
        this.#device.queue.writeBuffer(region.buffer, written, mirror, written, end - written);
        chunk.written = end;
      }
    }
  }

  /** Everything may be overwritten. After the submission that used it. */
  reset(): void {
    for (const chunk of this.#chunks) chunk.used = chunk.written = 0;
    this.#current = 0;
  }

  close(): void {
    for (const { region } of this.#chunks) this.#memory.destroy(region, this.#kind);
    this.#chunks = [];
  }
}
