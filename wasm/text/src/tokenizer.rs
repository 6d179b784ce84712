//! Hugging Face's tokenizers, and the bytes that each of their tokens stands for.

use crate::oniguruma;
use serde::{de::DeserializeOwned, Serialize};
use serde_json::{json, Value};
use std::collections::HashMap;
use tokenizers::{AddedToken, Decoder, Model, Tokenizer};

pub struct Opened {
    pub tokenizer: Tokenizer,
    spelling: Spelling,
}

/// Reads the bytes of a tokenizer.json. Padding and truncation are the caller's, as in transformers.
pub fn open(bytes: &[u8]) -> Result<Opened, String> {
    let words = |error: tokenizers::Error| error.to_string();
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(words)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(words)?;
    if let Some(changed) = with_python_patterns(tokenizer.get_pre_tokenizer())? {
        tokenizer.with_pre_tokenizer(Some(changed));
    }
    if let Some(changed) = with_python_patterns(tokenizer.get_normalizer())? {
        tokenizer.with_normalizer(Some(changed));
    }
    if let Some(changed) = with_python_patterns(tokenizer.get_decoder())? {
        tokenizer.with_decoder(Some(changed));
    }
    let spelling = Spelling::of(&serde_json::to_value(tokenizer.get_decoder()).unwrap_or_default());
    Ok(Opened { tokenizer, spelling })
}

/// A component with its regular expressions as Python's tokenizers read them; none where it has none.
fn with_python_patterns<T: Serialize + DeserializeOwned>(component: Option<&T>) -> Result<Option<T>, String> {
    let Some(component) = component else { return Ok(None) };
    let mut json = serde_json::to_value(component).map_err(|error| error.to_string())?;
    match translate_patterns(&mut json) {
        true => serde_json::from_value(json).map(Some).map_err(|error| error.to_string()),
        false => Ok(None),
    }
}

fn translate_patterns(json: &mut Value) -> bool {
    match json {
        Value::Object(map) => map.iter_mut().fold(false, |changed, (key, value)| match value {
            Value::String(pattern) if key == "Regex" => {
                *pattern = oniguruma::translated(pattern);
                true
            }
            _ => translate_patterns(value) || changed,
        }),
        Value::Array(list) => list.iter_mut().fold(false, |changed, value| translate_patterns(value) || changed),
        _ => false,
    }
}

/// Adds tokens, a JSON list of what tokenizer.json has in `added_tokens`.
pub fn add(tokenizer: &mut Tokenizer, tokens: &str) -> Result<(), String> {
    let tokens: Vec<AddedToken> = serde_json::from_str(tokens).map_err(|error| error.to_string())?;
    // One after the other, since each gets the next id.
    for token in tokens {
        match token.special {
            true => tokenizer.add_special_tokens(&[token]),
            false => tokenizer.add_tokens(&[token]),
        };
    }
    Ok(())
}

/// Ids to text, with special tokens or without. Bytes in a row are read together: what is no character in them becomes U+FFFD, and the characters beside it
/// stay, where the crate gives up the whole row. So a text that grows keeps what it had.
pub fn decode(Opened { tokenizer, spelling }: &Opened, ids: &[u32], special: bool) -> Result<String, String> {
    let added = tokenizer.get_added_vocabulary();
    let mut tokens: Vec<String> = Vec::with_capacity(ids.len());
    let mut row: Vec<u8> = Vec::new();
    for id in ids {
        // An added token is shown as the normalizer leaves it, as in the crate's own decoding.
        let Some(token) = added.simple_id_to_token(*id).or_else(|| tokenizer.get_model().id_to_token(*id)) else {
            continue;
        };
        match byte_of(&token) {
            Some(byte) if spelling.byte_fallback => row.push(byte),
            // A file may mark byte tokens as special; they are text all the same.
            None if !special && added.is_special_token(&token) => {}
            _ => {
                if !row.is_empty() {
                    tokens.push(String::from_utf8_lossy(&std::mem::take(&mut row)).into_owned());
                }
                tokens.push(token);
            }
        }
    }
    if !row.is_empty() {
        tokens.push(String::from_utf8_lossy(&row).into_owned());
    }
    match tokenizer.get_decoder() {
        Some(decoder) => decoder.decode(tokens).map_err(|error| error.to_string()),
        None => Ok(tokens.join(" ")),
    }
}

/// The byte that a token like <0x0A> stands for.
fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
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
    let listed: Vec<Value> = added
        .iter()
        .map(|(id, token)| json!({ "id": id, "content": token.content, "special": token.special }))
        .collect();
    json!({ "size": size(tokenizer), "tokens": tokenizer.get_vocab_size(true), "added": listed }).to_string()
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
        if let Some(byte) = byte_of(token).filter(|_| self.byte_fallback) {
            return vec![byte];
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
pub fn all_bytes(Opened { tokenizer, spelling }: &Opened) -> Vec<u8> {
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
