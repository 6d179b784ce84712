/**
 * What a model has read, in a file: ids, keys and values, so that a document is read once.
 *
 * "lakhread" · u32 version · u32 bytes of the header · header (JSON) · ids u32 [tokens] · pages, layer by
 * layer, as they lie in the device's memory · u64 xxHash of all before. All little-endian.
 *
 * The hash finds damage, not intent: a crafted file can hold wrong keys and values, as a model's can. What it
 * says of itself is checked for sense against the model before memory is taken, so that it can harm no more
 * than its own text.
 *
 * @module
 */
import { PAGE_TOKENS } from "../device/page.ts";
import { loadHash } from "../deps.ts";
import type { CacheDType, WeightDType } from "../device/device.ts";
import { writeAtomically } from "../load/atomic_file.ts";
import type { RandomAccessFile } from "../load/files.ts";
import { openFile } from "../load/folder.ts";
import { isRecurrent, type LayerState } from "../models/layer_state.ts";
import type { ModelFacts } from "../models/model.ts";
import type { Run, Sequence } from "./sequence.ts";

const MAGIC = "lakhread";
const VERSION = 2;
/** Bytes that are copied at once. */
const PIECE_BYTES = 4 << 20;
const CHECKSUM_BYTES = 8;
const PIECE_IDS = PIECE_BYTES / 4;
/** Bytes that an id takes outside of the device: 4 as it is read, 8 in the sequence. */
const HOST_BYTES = 12;
/** A header that is longer is none. */
const MOST_HEADER_BYTES = 64 << 20;

/** What has to be the same for keys and values to be the same. */
export interface SessionModel {
  /** For messages. */
  readonly name: string;
  /** Of all that the model was made of, as it was loaded. */
  readonly fingerprint: string;
  readonly weights: WeightDType;
  readonly cache: CacheDType;
}

interface LayerHeader {
  readonly layout: string;
  readonly pageBytes: number;
  readonly length: number;
  readonly dropped: number;
  readonly window?: number;
  readonly recurrent?: true;
}

/** What was read, in the words of the caller: a text, or the messages of a conversation. */
export interface SessionContent {
  /** The text that was read. */
  readonly text?: string | undefined;
  /** The messages of a conversation. */
  readonly messages?: readonly unknown[] | undefined;
}

interface Header extends SessionContent {
  readonly model: SessionModel;
  readonly tokens: number;
  /** How the tokens were read, run by run. */
  readonly runs: readonly Run[];
  readonly layers: readonly LayerHeader[];
}

/** Writes a sequence to a file, whole or not at all. */
export async function saveSession(
  path: string,
  sequence: Sequence,
  { model, content }: { readonly model: SessionModel; readonly content: SessionContent },
): Promise<void> {
  if (sequence.evicted > 0) {
    throw new Error(
      `Cannot save "${path}": tokens of the text have left its window: read it without --window`,
    );
  }
  const layers = sequence.states.map(headerOf);
  const { text, messages } = content;
  const { length: tokens, runs } = sequence;
  const header: Header = { model, tokens, runs, text, messages, layers };
  try {
    const json = new TextEncoder().encode(JSON.stringify(header));
    if (json.length > MOST_HEADER_BYTES) {
      throw new Error(
        `its text takes ${json.length} bytes, at most ${MOST_HEADER_BYTES} are kept: save it without`,
      );
    }
    await writeAtomically(path, async (output) => {
      const hash = await loadHash();
      const write = async (bytes: Uint8Array) => {
        hash.update(bytes);
        await output.write(bytes);
      };
      const start = new Uint8Array(MAGIC.length + 8);
      start.set(new TextEncoder().encode(MAGIC));
      new DataView(start.buffer).setUint32(8, VERSION, true);
      new DataView(start.buffer).setUint32(12, json.length, true);
      await write(start);
      await write(json);
      await write(new Uint8Array(Uint32Array.from(sequence.ids).buffer));
      for (const state of sequence.states) {
        if (isRecurrent(state)) await write(await state.save());
        else {
          for (const { from, to } of piecesOf(headerOf(state))) {
            await write(await sequence.device.readPages(state, from, to));
          }
        }
      }
      await output.write(hash.digest("binary"));
    });
  } catch (error) {
    throw new Error(`Cannot save "${path}": ${error instanceof Error ? error.message : error}`, {
      cause: error,
    });
  }
}

/**
 * Reads a file that `saveSession` wrote into an empty sequence. Throws an Error that says what differs when
 * the file is of another model or format, cut off or damaged; the sequence is empty then.
 */
export async function resumeSession(
  path: string,
  sequence: Sequence,
  model: SessionModel,
): Promise<{ readonly tokens: number } & SessionContent> {
  const file = await openFile(path);
  try {
    return await readSession(file, { path, sequence, model });
  } catch (error) {
    sequence.free();
    throw error;
  } finally {
    file.close();
  }
}

async function readSession(
  file: RandomAccessFile,
  { path, sequence, model }: {
    readonly path: string;
    readonly sequence: Sequence;
    readonly model: SessionModel;
  },
): Promise<{ readonly tokens: number } & SessionContent> {
  const refuse = (why: string) => new Error(`Cannot resume "${path}": ${why}`);
  const hash = await loadHash();
  let at = 0;
  const buffer = new Uint8Array(PIECE_BYTES);
  /** The next bytes; valid until the next call when they fit the buffer. */
  const read = async (count: number) => {
    const into = count <= buffer.length ? buffer.subarray(0, count) : new Uint8Array(count);
    if (at + count > file.size) throw refuse(`it is cut off: it has ${file.size} bytes and goes on`);
    await file.read(at, into);
    at += count;
    hash.update(into);
    return into;
  };

  const foreign = "it is not a file that lakh has saved with a read text";
  if (file.size < 16) throw refuse(foreign);
  const start = (await read(16)).slice();
  const view = new DataView(start.buffer);
  if (new TextDecoder().decode(start.subarray(0, 8)) !== MAGIC) throw refuse(foreign);
  const version = view.getUint32(8, true), headerBytes = view.getUint32(12, true);
  if (version !== VERSION) {
    throw refuse(`it is of version ${version}, this lakh reads version ${VERSION}: read the text again`);
  }
  if (headerBytes > MOST_HEADER_BYTES) throw refuse(`it is damaged: its header has ${headerBytes} bytes`);
  const header = parseHeader(new TextDecoder().decode(await read(headerBytes)));
  if (!header) throw refuse("it is damaged: its header cannot be read");
  const other = difference(header, model);
  if (other) throw refuse(other);
  const states = sequence.decoder.createStates(model.cache);
  const wanted = layersDiffer(header, states) ?? nonsense(header, sequence.decoder.facts);
  const pageBytes = header.layers.reduce((sum, layer) => sum + pagesOf(layer) * layer.pageBytes, 0);
  const size = at + 4 * header.tokens + CHECKSUM_BYTES + pageBytes;
  if (wanted || file.size !== size) {
    states.forEach((state) => state.free());
    throw refuse(
      wanted ??
        (file.size < size
          ? `it is cut off: it has ${file.size} bytes of ${size}`
          : `it is damaged: it has ${file.size} bytes and should have ${size}`),
    );
  }
  try {
    const { limits, memoryInUse } = sequence.device;
    const free = limits.memoryBytes - memoryInUse, needed = pageBytes + HOST_BYTES * header.tokens;
    if (needed > free) {
      throw new RangeError(
        `Cannot resume "${path}": its ${header.tokens} tokens take ${
          Math.ceil(needed / 1e6)
        } MB, the device has ` +
          `${
            Math.ceil(free / 1e6)
          } MB left: open the model with smaller weights, or on a machine with more memory`,
      );
    }
    const ids = new Uint32Array(header.tokens);
    for (let from = 0; from < ids.length; from += PIECE_IDS) {
      const to = Math.min(from + PIECE_IDS, ids.length);
      const bytes = await read(4 * (to - from));
      ids.set(new Uint32Array(bytes.buffer, bytes.byteOffset, to - from), from);
    }
    const { vocabulary } = sequence.decoder.facts;
    const foreignId = ids.find((id) => id >= vocabulary);
    if (foreignId !== undefined) {
      throw refuse(`it is damaged: it holds the id ${foreignId}, the vocabulary has ${vocabulary}`);
    }
    for (const [i, state] of states.entries()) {
      const layer = header.layers[i]!;
      if (isRecurrent(state)) {
        await state.restore(layer.length, (await read(layer.pageBytes)).slice());
        continue;
      }
      const pages = async function* () {
        for (const { from, to } of piecesOf(layer)) yield await read((to - from) * layer.pageBytes);
      };
      await sequence.device.fillPages(state, { ...layer, window: layer.window }, pages());
    }
    const found = hash.digest("hex");
    const expected = new Uint8Array(CHECKSUM_BYTES);
    await file.read(at, expected);
    if (found !== [...expected].map((byte) => byte.toString(16).padStart(2, "0")).join("")) {
      throw refuse("it is damaged: its checksum does not match: read the text again");
    }
    if (header.runs.at(-1)?.until !== header.tokens) {
      throw refuse("it is damaged: it does not say how all of its tokens were read");
    }
    sequence.adopt(ids, { states, runs: header.runs });
  } catch (error) {
    states.forEach((state) => state.free());
    throw error;
  }
  const { tokens, text, messages } = header;
  return { tokens, text, messages };
}

/** What the file says of a layer; a recurrent state is one page. */
function headerOf(state: LayerState): LayerHeader {
  const { layout, length } = state;
  if (isRecurrent(state)) return { layout, length, pageBytes: state.bytes, dropped: 0, recurrent: true };
  const { pageBytes, dropped, window } = state;
  return { layout, length, pageBytes, dropped, ...(window !== undefined && { window }) };
}

/** Runs of pages that one piece holds. */
function* piecesOf(layer: LayerHeader) {
  const step = Math.max(1, Math.floor(PIECE_BYTES / layer.pageBytes));
  const first = layer.dropped / PAGE_TOKENS, end = first + pagesOf(layer);
  for (let from = first; from < end; from += step) yield { from, to: Math.min(from + step, end) };
}

function pagesOf({ length, dropped, recurrent }: LayerHeader): number {
  return recurrent ? 1 : Math.ceil(length / PAGE_TOKENS) - dropped / PAGE_TOKENS;
}

function parseHeader(text: string): Header | undefined {
  let header: Header;
  try {
    header = JSON.parse(text);
  } catch {
    return undefined;
  }
  const isCount = (x: unknown) => Number.isSafeInteger(x) && (x as number) >= 0;
  const { model, tokens, runs, layers, text: content, messages } = header ?? {};
  const fits = Array.isArray(runs) &&
    runs.every((run) =>
      isCount(run?.until) && isCount(run.frequencies) && typeof run.decoded === "boolean"
    ) &&
    typeof model === "object" && model !== null && typeof model.name === "string" &&
    (content === undefined || typeof content === "string") &&
    (messages === undefined || Array.isArray(messages)) &&
    isCount(tokens) && tokens > 0 && Array.isArray(layers) &&
    layers.every((layer) =>
      typeof layer?.layout === "string" && isCount(layer.pageBytes) && layer.pageBytes > 0 &&
      isCount(layer.length) && isCount(layer.dropped) && layer.dropped % PAGE_TOKENS === 0 &&
      (layer.window === undefined || isCount(layer.window))
    );
  return fits ? header : undefined;
}

/** In words, what a sequence of this model cannot hold; undefined when nothing. */
function nonsense({ tokens, layers }: Header, facts: ModelFacts): string | undefined {
  for (const [i, { length, dropped, window = 0 }] of layers.entries()) {
    if (length !== tokens) return `it is damaged: layer ${i} has ${length} tokens of ${tokens}`;
    // What a window has left behind is no longer needed only beyond it.
    if (dropped > 0 && dropped + window > length) {
      return `it is damaged: layer ${i} lacks ${dropped} of ${length} tokens, its window is ${window}`;
    }
  }
  if (facts.contextIsHard && facts.contextLength !== undefined && tokens > facts.contextLength) {
    return `it is damaged: it has ${tokens} tokens, the model reads ${facts.contextLength}`;
  }
  return undefined;
}

/** In words, what of the model is not as it was; undefined when nothing. */
function difference({ model: saved }: Header, model: SessionModel): string | undefined {
  if (saved.fingerprint !== model.fingerprint) {
    return saved.name === model.name
      ? `the model "${model.name}" is not as it was when it read the text: read the text again`
      : `it was read by another model ("${saved.name}", this is "${model.name}"): read the text again`;
  }
  for (const key of ["weights", "cache"] as const) {
    if (saved[key] !== model[key]) {
      return `its ${key} ${key === "cache" ? "was" : "were"} ${saved[key]}, the model is open with ${
        model[key]
      }: ` +
        `open it with ${key} ${saved[key]}, or read the text again`;
    }
  }
  return undefined;
}

function layersDiffer({ layers }: Header, states: readonly LayerState[]): string | undefined {
  if (layers.length !== states.length) {
    return `it has ${layers.length} layers, the model ${states.length}: read the text again`;
  }
  for (const [i, here] of states.map(headerOf).entries()) {
    const { layout, pageBytes, recurrent } = layers[i]!;
    if (layout !== here.layout || pageBytes !== here.pageBytes || recurrent !== here.recurrent) {
      return `its pages are laid out as "${layout}", here they are "${here.layout}": ` +
        `resume it on the device that it was saved on, or read the text again`;
    }
  }
  return undefined;
}
