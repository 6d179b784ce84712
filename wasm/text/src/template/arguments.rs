//! Binds the arguments of a call to names, as Python does.

use super::value::{fail, Result};
use minijinja::value::Value;

/// The values for `names`, by place or by name. More, unknown or doubled ones are errors.
pub fn bind<const N: usize>(function: &str, args: &[Value], names: [&str; N]) -> Result<[Option<Value>; N]> {
    let mut bound: [Option<Value>; N] = [const { None }; N];
    let (named, placed) = split(args);
    if placed.len() > N {
        return fail(format!("{function}() takes at most {N} arguments ({} given)", placed.len()));
    }
    for (slot, value) in bound.iter_mut().zip(placed) {
        *slot = Some(value.clone());
    }
    for key in named.iter().flat_map(|named| named.try_iter()).flatten() {
        let name = key.as_str().unwrap_or_default();
        let Some(at) = names.iter().position(|known| *known == name) else {
            return fail(format!("{function}() got an unexpected keyword argument '{name}'"));
        };
        if bound[at].is_some() {
            return fail(format!("{function}() got multiple values for argument '{name}'"));
        }
        bound[at] = Some(named.as_ref().map_or(Ok(Value::UNDEFINED), |named| named.get_item(&key))?);
    }
    Ok(bound)
}

/// Keyword arguments, which minijinja hands on as the last value, and the others.
pub fn split(args: &[Value]) -> (Option<Value>, &[Value]) {
    match args.split_last() {
        Some((last, rest)) if last.is_kwargs() => (Some(last.clone()), rest),
        _ => (None, args),
    }
}

/// An argument that must be a text.
pub fn str_of(function: &str, value: &Value) -> Result<String> {
    match value.as_str() {
        Some(text) => Ok(text.to_string()),
        None => fail(format!("{function}() must be given a str, not {}", super::value::type_name(value))),
    }
}

/// An argument that must be an integer.
pub fn int_of(function: &str, value: &Value) -> Result<i64> {
    match super::value::integer(value).and_then(|number| i64::try_from(number).ok()) {
        Some(number) => Ok(number),
        None => fail(format!(
            "{function}(): '{}' object cannot be interpreted as an integer",
            super::value::type_name(value)
        )),
    }
}
