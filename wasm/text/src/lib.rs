//! Text on its way into a model and out of it: Hugging Face's tokenizers and chat templates, as one WASM module.
//!
//! An instance holds one tokenizer or one template. Functions take texts as an address and a length of memory that
//! `allocate` gave, return 0 or, after an error, 1, and leave their result, or the words of the error, at `result`.
//! Work is bounded from outside: the build puts a counter into every loop and function (meter/), and the memory is
//! given by the caller with its maximum.

mod oniguruma;
mod random;
pub mod template;
pub mod tokenizer;

use std::cell::RefCell;
use template::Template;
use tokenizer::Opened;

struct Instance {
    tokenizer: Option<Opened>,
    template: Option<Template>,
    result: Vec<u8>,
}

thread_local! {
    static INSTANCE: RefCell<Instance> =
        const { RefCell::new(Instance { tokenizer: None, template: None, result: Vec::new() }) };
}

/// Runs `work` on the instance and keeps what it gives.
fn answer(work: impl FnOnce(&mut Instance) -> Result<Vec<u8>, String>) -> u32 {
    INSTANCE.with_borrow_mut(|instance| {
        let (status, result) = match work(instance) {
            Ok(result) => (0, result),
            Err(words) => (1, words.into_bytes()),
        };
        instance.result = result;
        status
    })
}

/// The bytes that the caller wrote, which are given back after the call.
unsafe fn taken(address: *mut u8, length: usize) -> Vec<u8> {
    Vec::from_raw_parts(address, length, length)
}

fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

fn opened(instance: &Instance) -> Result<&Opened, String> {
    instance.tokenizer.as_ref().ok_or_else(|| "no tokenizer is open".to_string())
}

fn id_bytes(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// Memory for `length` bytes. The next call that is given it frees it.
#[no_mangle]
pub extern "C" fn allocate(length: usize) -> *mut u8 {
    let mut bytes = vec![0u8; length].into_boxed_slice();
    let address = bytes.as_mut_ptr();
    std::mem::forget(bytes);
    address
}

#[no_mangle]
pub extern "C" fn result_address() -> *const u8 {
    INSTANCE.with_borrow(|instance| instance.result.as_ptr())
}

#[no_mangle]
pub extern "C" fn result_length() -> usize {
    INSTANCE.with_borrow(|instance| instance.result.len())
}

/// # Safety
/// `address` comes from `allocate(length)`; so in all functions below.
#[no_mangle]
pub unsafe extern "C" fn tokenizer_open(address: *mut u8, length: usize) -> u32 {
    let bytes = taken(address, length);
    answer(|instance| {
        let opened = tokenizer::open(&bytes)?;
        let described = tokenizer::describe(&opened.tokenizer);
        instance.tokenizer = Some(opened);
        Ok(described.into_bytes())
    })
}

/// Adds a JSON list of tokens, and describes the tokenizer anew.
/// # Safety
/// As above.
#[no_mangle]
pub unsafe extern "C" fn tokenizer_add(address: *mut u8, length: usize) -> u32 {
    let tokens = utf8(taken(address, length));
    answer(|instance| {
        let opened = instance.tokenizer.as_mut().ok_or_else(|| "no tokenizer is open".to_string())?;
        tokenizer::add(&mut opened.tokenizer, &tokens?)?;
        Ok(tokenizer::describe(&opened.tokenizer).into_bytes())
    })
}

/// Text to ids.
/// # Safety
/// As above.
#[no_mangle]
pub unsafe extern "C" fn tokenizer_encode(address: *mut u8, length: usize, special: u32) -> u32 {
    let text = utf8(taken(address, length));
    answer(|instance| {
        let encoded = opened(instance)?.tokenizer.encode_fast(text?, special != 0).map_err(|error| error.to_string())?;
        Ok(id_bytes(encoded.get_ids()))
    })
}

/// Ids (u32) to text.
/// # Safety
/// As above.
#[no_mangle]
pub unsafe extern "C" fn tokenizer_decode(address: *mut u8, length: usize, special: u32) -> u32 {
    let bytes = taken(address, length);
    answer(|instance| {
        let ids: Vec<u32> =
            bytes.chunks_exact(4).map(|part| u32::from_le_bytes([part[0], part[1], part[2], part[3]])).collect();
        Ok(tokenizer::decode(opened(instance)?, &ids, special != 0)?.into_bytes())
    })
}

/// The id of a token by its own text; empty when there is none.
/// # Safety
/// As above.
#[no_mangle]
pub unsafe extern "C" fn tokenizer_id(address: *mut u8, length: usize) -> u32 {
    let token = utf8(taken(address, length));
    answer(|instance| Ok(opened(instance)?.tokenizer.token_to_id(&token?).map_or(Vec::new(), |id| id_bytes(&[id]))))
}

/// A token's own text, after a byte that says that it exists.
#[no_mangle]
pub extern "C" fn tokenizer_token(id: u32) -> u32 {
    answer(|instance| {
        Ok(opened(instance)?.tokenizer.id_to_token(id).map_or(Vec::new(), |token| ["+".to_string(), token].concat().into_bytes()))
    })
}

/// The bytes of every token, as tokenizer::all_bytes lays them out.
#[no_mangle]
pub extern "C" fn tokenizer_bytes() -> u32 {
    answer(|instance| Ok(tokenizer::all_bytes(opened(instance)?)))
}

/// Compiles a template.
/// # Safety
/// As above.
#[no_mangle]
pub unsafe extern "C" fn template_open(address: *mut u8, length: usize) -> u32 {
    let source = utf8(taken(address, length));
    answer(|instance| {
        instance.template = Some(Template::new(&source?)?);
        Ok(Vec::new())
    })
}

/// The text for the variables in a JSON object.
/// # Safety
/// As above.
#[no_mangle]
pub unsafe extern "C" fn template_render(address: *mut u8, length: usize) -> u32 {
    let variables = utf8(taken(address, length));
    answer(|instance| {
        let template = instance.template.as_ref().ok_or_else(|| "no template is open".to_string())?;
        Ok(template.render(&variables?)?.into_bytes())
    })
}
