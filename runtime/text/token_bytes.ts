/**
 * The bytes that a token stands for. Vocabularies write them as text: byte-level ones with a letter for each byte (GPT-2's
 * table), sentencepiece with ▁ for a space and <0x0A> for a byte, WordPiece with ## before what continues a word.
 *
 * @module
 */
import type { JsonObject } from "./json_file.ts";

/** Gives the bytes of a token of the vocabulary by its own text. */
export type TokenBytes = (token: string) => Uint8Array;

const encoder = new TextEncoder();

/** How the tokens of a tokenizer.json are read as bytes. */
export function tokenBytesOf(definition: JsonObject): TokenBytes {
  const kinds = JSON.stringify([definition.decoder ?? null, definition.pre_tokenizer ?? null]);
  if (kinds.includes('"ByteLevel"')) return byteLevelBytes;
  if (kinds.includes('"WordPiece"')) return wordPieceBytes;
  return sentencePieceBytes;
}

/** GPT-2's letters: printable characters of Latin-1 are themselves, the others follow from U+0100 on. */
const letters: ReadonlyMap<string, number> = new Map(
  (() => {
    const own = (byte: number) => byte >= 33 && byte <= 126 || byte >= 161 && byte <= 172 || byte >= 174;
    let next = 256;
    return Array.from({ length: 256 }, (_, byte) => [String.fromCharCode(own(byte) ? byte : next++), byte]);
  })() as [string, number][],
);

function byteLevelBytes(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const letter of token) {
    const byte = letters.get(letter);
    // Tokens that were added to the vocabulary are spelled as they are.
    if (byte === undefined) return encoder.encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

function sentencePieceBytes(token: string): Uint8Array {
  const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
  return byte ? Uint8Array.of(parseInt(byte[1]!, 16)) : encoder.encode(token.replaceAll("▁", " "));
}

function wordPieceBytes(token: string): Uint8Array {
  return encoder.encode(token.startsWith("##") ? token.slice(2) : ` ${token}`);
}
