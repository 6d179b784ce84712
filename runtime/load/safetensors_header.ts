/**
 * The header of a safetensors file: 8 bytes little-endian header length, a JSON object
 * `{ name: { dtype, shape, data_offsets: [begin, end] } }`, then the bytes of all tensors without holes.
 *
 * Format: https://github.com/huggingface/safetensors#format
 *
 * @module
 */
import { LFS_POINTER, parseJsonObject } from "./config.ts";

/** Headers may take at most this many bytes, as in the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Where one tensor is and what it looks like. */
export interface TensorInfo {
  /** As the file names it: F32, F16, BF16, I64, … */
  readonly dtype: string;
  /** The packed format that the file has and that reading unpacks, where it is another: Q4_K, … */
  readonly stored?: string;
  /** Its dimensions, the outermost first. */
  readonly shape: readonly number[];
  /** Name of the file within its folder. */
  readonly file: string;
  /** First byte, counted from the start of the file. */
  readonly begin: number;
  /** One past the last byte. */
  readonly end: number;
}

const BITS: Readonly<Record<string, number>> = {
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  I64: 64,
  U64: 64,
  F64: 64,
  C64: 64,
};

/**
 * Length of the header from the first 8 bytes. Throws when the file is too small to hold it or the limit is
 * passed. `path` is for messages.
 */
export function headerLength(path: string, first8: Uint8Array, fileSize: number): number {
  if (first8.length < 8) {
    throw new Error(
      `Cannot load "${path}": it has ${fileSize} bytes, at least 8 are needed: download it again`,
    );
  }
  if (new TextDecoder().decode(first8) === "version ") {
    throw new Error(`Cannot load "${path}": ${LFS_POINTER}`);
  }
  const length = new DataView(first8.buffer, first8.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new Error(
      `Cannot load "${path}": its header would take ${length} bytes, at most ${MAX_HEADER_BYTES} are allowed: ` +
        `it is no safetensors file or it is damaged`,
    );
  }
  if (8n + length > BigInt(fileSize)) {
    throw new Error(
      `Cannot load "${path}": it has ${fileSize} bytes, its header alone takes ${
        8n + length
      }: download it again`,
    );
  }
  return Number(length);
}

/**
 * Checks and reads the JSON part of a header. `file` is the name within the folder, `path` is for messages.
 * Throws an Error that names the tensor when anything contradicts the format.
 */
export function parseHeader(
  json: Uint8Array,
  at: { readonly path: string; readonly file: string; readonly fileSize: number },
): Map<string, TensorInfo> {
  const { path, file, fileSize } = at;
  const fail = (what: string): never => {
    throw new Error(`Cannot load "${path}": ${what}`);
  };

  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json);
  } catch {
    return fail("its header is not UTF-8: it is no safetensors file or it is damaged");
  }
  if (!text.startsWith("{")) {
    fail(`its header does not start with "{": it is no safetensors file or it is damaged`);
  }
  const entries = Object.entries(parseJsonObject(path, text));
  const twice = entries.length === countKeys(text) ? undefined : repeatedKey(text);
  if (twice !== undefined) fail(`tensor "${short(twice)}" is listed twice in its header`);

  const start = 8 + json.length;
  const tensors = new Map<string, TensorInfo>();
  for (const [name, value] of entries) {
    if (name === "__metadata__") continue;
    tensors.set(name, parseTensor(value, { name, file, start, fail }));
  }

  // Without holes and overlaps, in the order of the bytes; so that nothing hides between tensors.
  let end = start;
  const sorted = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  for (const [name, tensor] of sorted) {
    if (tensor.begin !== end) {
      const relation = tensor.begin < end ? "overlaps the tensor before it" : "leaves a hole before it";
      fail(`tensor "${short(name)}" begins at byte ${tensor.begin}, ${end} was expected: it ${relation}`);
    }
    end = tensor.end;
  }
  if (end > fileSize) {
    const [name] = sorted.find(([, tensor]) => tensor.end > fileSize)!;
    fail(
      `it has ${fileSize} bytes and should have ${end} (tensor "${
        short(name)
      }" is cut off): download it again`,
    );
  }
  if (end < fileSize) {
    fail(`it has ${fileSize} bytes and its header accounts for ${end}: it is damaged, download it again`);
  }
  return tensors;
}

function parseTensor(
  value: unknown,
  at: { name: string; file: string; start: number; fail: (what: string) => never },
): TensorInfo {
  const { file, start } = at;
  const fail = (what: string) => at.fail(`tensor "${short(at.name)}" ${what}`);
  if (typeof value !== "object" || value === null) return fail("has no dtype, shape and data_offsets");
  const { dtype, shape, data_offsets: offsets } = value as Record<string, unknown>;

  if (typeof dtype !== "string" || !Object.hasOwn(BITS, dtype)) {
    return fail(`has the unknown dtype ${short(JSON.stringify(dtype) ?? "none")}`);
  }
  if (!Array.isArray(shape) || !shape.every((n) => Number.isSafeInteger(n) && n >= 0)) {
    return fail(`has the impossible shape ${short(JSON.stringify(shape) ?? "none")}`);
  }
  if (
    !Array.isArray(offsets) || offsets.length !== 2 ||
    !offsets.every((n) => Number.isSafeInteger(n) && n >= 0 && Number.isSafeInteger(start + n))
  ) return fail(`has impossible data_offsets ${short(JSON.stringify(offsets) ?? "none")}`);

  const shown = short(JSON.stringify(shape));
  const [begin, end] = offsets as [number, number];
  const bits = shape.reduce((product: number, n: number) => product * n, BITS[dtype]!);
  if (!Number.isSafeInteger(bits) || bits % 8 !== 0) {
    return fail(`has the impossible shape ${shown} of ${dtype}`);
  }
  if (end - begin !== bits / 8) {
    return fail(`takes bytes ${begin} to ${end}, but ${shown} of ${dtype} needs ${bits / 8} bytes`);
  }
  return { dtype, shape: shape as number[], file, begin: start + begin, end: start + end };
}

/**
 * Calls `visit` with the raw text of every key of the outermost object; JSON.parse keeps only the last of
 * two.
 */
function eachKey(text: string, visit: (raw: string) => void): void {
  let depth = 0, keyNext = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '"') {
      const from = i;
      for (i++; text[i] !== '"'; i++) if (text[i] === "\\") i++;
      if (depth === 1 && keyNext) visit(text.slice(from, i + 1));
      keyNext = false;
    } else if (c === "{" || c === "[") {
      depth++;
      keyNext = depth === 1;
    } else if (c === "}" || c === "]") depth--;
    else if (c === "," && depth === 1) keyNext = true;
  }
}

function countKeys(text: string): number {
  let count = 0;
  eachKey(text, () => count++);
  return count;
}

function repeatedKey(text: string): string | undefined {
  const seen = new Set<string>();
  let repeated: string | undefined;
  eachKey(text, (raw) => {
    const key = JSON.parse(raw) as string;
    if (seen.has(key)) repeated ??= key;
    seen.add(key);
  });
  return repeated;
}

/** Names from a file may be as long as the header; messages should not. */
export function short(name: string): string {
  return name.length > 200 ? `${name.slice(0, 200)}…` : name;
}
