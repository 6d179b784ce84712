//! llguidance behind a C interface: a vocabulary, and matchers that tell which tokens may come next.
//!
//! Pointers are to this module's memory. The caller allocates what it passes in and frees it; what a call returns stays
//! valid until the next call with the same matcher. Texts are UTF-8. A matcher that has failed keeps its error, and
//! then permits nothing.

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use std::sync::Arc;
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

/// The tokens of a model as a trie, from which matchers are made.
pub struct Vocabulary {
    factory: ParserFactory,
}

/// One text that is being written under a grammar.
pub struct Grammar {
    matcher: Matcher,
    /// Bit `id % 32` of word `id / 32` tells whether the token may come next.
    mask: Vec<u32>,
    text: Vec<u8>,
}

#[no_mangle]
pub extern "C" fn allocate(bytes: usize) -> *mut u8 {
    let mut block = Vec::<u8>::with_capacity(bytes);
    let pointer = block.as_mut_ptr();
    std::mem::forget(block);
    pointer
}

/// # Safety
/// `pointer` is what `allocate(bytes)` gave.
#[no_mangle]
pub unsafe extern "C" fn release(pointer: *mut u8, bytes: usize) {
    drop(Vec::from_raw_parts(pointer, 0, bytes));
}

/// `lengths`: bytes of each token [count]; `bytes`: all tokens, one after the other. Special tokens begin with 0xFF.
/// `end` is the id that ends a text. Null when the tokens make no vocabulary.
///
/// # Safety
/// Both pointers hold what is said.
#[no_mangle]
pub unsafe extern "C" fn vocabulary_new(count: usize, lengths: *const u32, bytes: *const u8, end: u32) -> *mut Vocabulary {
    let mut at = 0;
    let words: Vec<Vec<u8>> = std::slice::from_raw_parts(lengths, count)
        .iter()
        .map(|&length| {
            let word = std::slice::from_raw_parts(bytes.add(at), length as usize).to_vec();
            at += length as usize;
            word
        })
        .collect();
    let trie = TokTrie::from(&TokRxInfo::new(count as u32, end), &words);
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    match ParserFactory::new_simple(&environment) {
        Ok(mut factory) => {
            factory.quiet();
            // Grammars come from requests: what takes too much memory or time to prepare is refused.
            *factory.limits_mut() = ParserLimits { max_lexer_states: 100_000, ..ParserLimits::default() };
            Box::into_raw(Box::new(Vocabulary { factory }))
        }
        Err(_) => std::ptr::null_mut(),
    }
}

/// `kind` 0: a JSON schema, 1: a Lark grammar, 2: a regular expression. Ask `grammar_error` whether it was understood.
///
/// # Safety
/// `vocabulary` lives, and `text` has `length` bytes.
#[no_mangle]
pub unsafe extern "C" fn grammar_new(vocabulary: *const Vocabulary, kind: u32, text: *const u8, length: usize) -> *mut Grammar {
    let text = String::from_utf8_lossy(std::slice::from_raw_parts(text, length));
    let tag = ["json_schema", "lark", "regex"][kind as usize];
    let parser = TopLevelGrammar::from_tagged_str(tag, &text).and_then(|grammar| (&*vocabulary).factory.create_parser(grammar));
    let matcher = Matcher::new(parser);
    let text = matcher.get_error().unwrap_or_default().into_bytes();
    Box::into_raw(Box::new(Grammar { matcher, mask: Vec::new(), text }))
}

/// Bytes of the text that `grammar_text` points to: the error of the last call, or the bytes of `grammar_forced`.
///
/// # Safety
/// `grammar` lives.
#[no_mangle]
pub unsafe extern "C" fn grammar_text_length(grammar: *const Grammar) -> usize {
    (&*grammar).text.len()
}

/// # Safety
/// `grammar` lives.
#[no_mangle]
pub unsafe extern "C" fn grammar_text(grammar: *const Grammar) -> *const u8 {
    (&*grammar).text.as_ptr()
}

/// Which tokens may come next, [⌈count / 32⌉]; null, with an error text, when the grammar has failed.
///
/// # Safety
/// `grammar` lives.
#[no_mangle]
pub unsafe extern "C" fn grammar_mask(grammar: *mut Grammar) -> *const u32 {
    let grammar = &mut *grammar;
    match grammar.matcher.compute_mask_or_eos() {
        Ok(mask) => {
            grammar.mask.clear();
            grammar.mask.extend_from_slice(mask.as_slice());
            grammar.mask.as_ptr()
        }
        Err(error) => {
            grammar.text = error.to_string().into_bytes();
            std::ptr::null()
        }
    }
}

/// Goes on by one token; 0, with an error text, when it may not come here.
///
/// # Safety
/// `grammar` lives.
#[no_mangle]
pub unsafe extern "C" fn grammar_consume(grammar: *mut Grammar, id: u32) -> u32 {
    let grammar = &mut *grammar;
    match grammar.matcher.consume_token(id) {
        Ok(()) => 1,
        Err(error) => {
            grammar.text = error.to_string().into_bytes();
            0
        }
    }
}

/// Whether the text is complete and nothing may follow.
///
/// # Safety
/// `grammar` lives.
#[no_mangle]
pub unsafe extern "C" fn grammar_stopped(grammar: *const Grammar) -> u32 {
    (&*grammar).matcher.is_stopped() as u32
}

/// Finds the bytes that must come next, whatever the model says, and gives their number; `grammar_text` has them.
///
/// # Safety
/// `grammar` lives.
#[no_mangle]
pub unsafe extern "C" fn grammar_forced(grammar: *mut Grammar) -> usize {
    let grammar = &mut *grammar;
    grammar.text = grammar.matcher.compute_ff_bytes();
    grammar.text.len()
}

/// # Safety
/// `grammar` lives, and is not used any more.
#[no_mangle]
pub unsafe extern "C" fn grammar_free(grammar: *mut Grammar) {
    drop(Box::from_raw(grammar));
}

/// # Safety
/// `vocabulary` lives, and neither it nor its matchers are used any more.
#[no_mangle]
pub unsafe extern "C" fn vocabulary_free(vocabulary: *mut Vocabulary) {
    drop(Box::from_raw(vocabulary));
}
