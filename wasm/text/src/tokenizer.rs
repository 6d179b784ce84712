//! Hugging Face's tokenizers, and the bytes that each of their tokens stands for.

use serde_json::{json, Value};
use std::collections::HashMap;
use tokenizers::Tokenizer;

/// Reads the bytes of a tokenizer.json. Padding and truncation are the caller's, as in transformers.
pub fn open(bytes: &[u8]) -> Result<Tokenizer, String> {
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| error.to_string())?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
    Ok(tokenizer)
}

/// One more than the largest id.
pub fn size(tokenizer: &Tokenizer) -> u32 {
    let added = tokenizer.get_added_tokens_decoder();
    let largest = added.keys().copied().chain(tokenizer.get_vocab(false).into_values()).max();
    largest.map_or(0, |id| id + 1)
}

/// What a program asks a tokenizer once, as JSON.
pub fn describe(tokenizer: &Tokenizer) -> String {
    let mut added: Vec<_> = tokenizer.get_added_tokens_decoder().into_iter().collect();
    added.sort_by_key(|(id, _)| *id);
    let added: Vec<Value> = added
        .iter()
        .map(|(id, token)| json!({ "id": id, "content": token.content, "special": token.special }))
        .collect();
    json!({ "size": size(tokenizer), "tokens": tokenizer.get_vocab_size(true), "added": added }).to_string()
}

/// How the decoder turns a token into text, as far as it concerns one token alone.
#[derive(Default)]
struct Spelling {
    byte_level: bool,
    byte_fallback: bool,
    /// What stands for what, e.g. "▁" for a space.
    replaced: Vec<(String, String)>,
    /// A token that begins with this goes on a word; others begin one.
    goes_on: Option<String>,
}

impl Spelling {
    fn of(decoder: &Value) -> Spelling {
        let mut spelling = Spelling::default();
        spelling.read(decoder);
        spelling
    }

    fn read(&mut self, decoder: &Value) {
        let text = |key: &str| decoder[key].as_str().unwrap_or_default().to_string();
        match decoder["type"].as_str() {
            Some("Sequence") => {
                for part in decoder["decoders"].as_array().into_iter().flatten() {
                    self.read(part);
                }
            }
            Some("ByteLevel") => self.byte_level = true,
            Some("ByteFallback") => self.byte_fallback = true,
            Some("Metaspace") => self.replaced.push((text("replacement"), " ".into())),
            Some("Replace") => {
                if let Some(from) = decoder["pattern"]["String"].as_str() {
                    self.replaced.push((from.to_string(), text("content")));
                }
            }
            Some("WordPiece") => self.goes_on = Some(text("prefix")),
            Some("BPEDecoder") => self.replaced.push((text("suffix"), " ".into())),
            _ => {}
        }
    }

    fn bytes(&self, token: &str, table: &HashMap<char, u8>) -> Vec<u8> {
        if self.byte_level {
            return token
                .chars()
                .flat_map(|c| match table.get(&c) {
                    Some(byte) => vec![*byte],
                    None => c.to_string().into_bytes(),
                })
                .collect();
        }
        if self.byte_fallback && token.len() == 6 && token.starts_with("<0x") && token.ends_with('>') {
            if let Ok(byte) = u8::from_str_radix(&token[3..5], 16) {
                return vec![byte];
            }
        }
        let mut text = self.replaced.iter().fold(token.to_string(), |text, (from, to)| text.replace(from, to));
        if let Some(prefix) = &self.goes_on {
            text = text.strip_prefix(prefix.as_str()).map_or_else(|| format!(" {text}"), str::to_string);
        }
        text.into_bytes()
    }
}

/// GPT-2's letters for bytes: printable ones stand for themselves, the others are the letters from U+0100 on.
fn byte_letters() -> HashMap<char, u8> {
    let mut next = 0x100;
    (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => (byte as char, byte),
            _ => {
                next += 1;
                (char::from_u32(next - 1).unwrap_or_default(), byte)
            }
        })
        .collect()
}

/// The bytes of every id, as a length (u32, all ones for an id without a token) before the bytes of each.
pub fn all_bytes(tokenizer: &Tokenizer) -> Vec<u8> {
    let decoder = serde_json::to_value(tokenizer.get_decoder()).unwrap_or_default();
    let spelling = Spelling::of(&decoder);
    let table = byte_letters();
    let added = tokenizer.get_added_tokens_decoder();
    let mut out = Vec::new();
    for id in 0..size(tokenizer) {
        let bytes = match (added.get(&id), tokenizer.id_to_token(id)) {
            (Some(token), _) => Some(token.content.clone().into_bytes()),
            (None, Some(token)) => Some(spelling.bytes(&token, &table)),
            (None, None) => None,
        };
        out.extend(bytes.as_ref().map_or(u32::MAX, |bytes| bytes.len() as u32).to_le_bytes());
        out.extend(bytes.unwrap_or_default());
    }
    out
}
