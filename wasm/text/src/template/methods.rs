//! Methods of Python's str, list, tuple and dict. What minijinja-contrib's pycompat has as Python does goes there.

use super::arguments::{bind, int_of, split, str_of};
use super::value::*;
use minijinja::value::{Value, ValueKind};
use minijinja::{format_filter, Error, ErrorKind, FormatStyle, State};

const OF_STR: &[&str] = &[
    "capitalize", "casefold", "center", "count", "encode", "endswith", "expandtabs", "find", "format", "format_map",
    "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric",
    "isprintable", "isspace", "istitle", "isupper", "join", "ljust", "lower", "lstrip", "partition", "removeprefix",
    "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "startswith", "strip", "swapcase", "title", "translate", "upper", "zfill",
];
const OF_LIST: &[&str] = &["copy", "count", "index"];
const OF_TUPLE: &[&str] = &["count", "index"];
const OF_DICT: &[&str] = &["copy", "fromkeys", "get", "items", "keys", "values"];
/// What the sandbox of transformers refuses, since it changes a value.
const CHANGING: &[&str] =
    &["append", "clear", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault", "sort", "update"];

/// Whether Python's type has such a method that the sandbox allows.
pub fn exists(of: &Value, name: &str) -> bool {
    let names = match type_name(of) {
        "str" | "Markup" => OF_STR,
        "list" => OF_LIST,
        "tuple" | "range" => OF_TUPLE,
        "dict" => OF_DICT,
        _ => return false,
    };
    names.contains(&name)
}

/// `of.name(args)`.
pub fn call(state: &State, of: &Value, name: &str, args: &[Value]) -> Result<Value> {
    if of.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, format!("cannot call {name}() of an undefined value")));
    }
    if !exists(of, name) {
        if matches!(of.kind(), ValueKind::Seq | ValueKind::Map) && CHANGING.contains(&name) {
            return fail(format!("access to attribute '{name}' of '{}' object is unsafe.", type_name(of)));
        }
        return match of.kind() {
            // A macro or function that is an item, an attribute of a loop, a method of another object.
            ValueKind::Map => match of.get_attr(name) {
                Ok(found) if !found.is_undefined() => found.call(state, args),
                _ => of.call_method(state, name, args),
            },
            ValueKind::Plain => of.call_method(state, name, args),
            _ => fail(format!("'{} object' has no attribute '{name}'", type_name(of))),
        };
    }
    match of.kind() {
        ValueKind::String => of_str(state, of, name, args),
        ValueKind::Map => of_dict(of, name, args),
        _ => of_list(of, name, args),
    }
}

fn of_dict(of: &Value, name: &str, args: &[Value]) -> Result<Value> {
    let keys = || items(of);
    let view = |name, items| Value::from_object(Sequence { sort: Sort::View(name), items });
    match name {
        "get" => {
            let [key, otherwise] = bind("get", args, ["key", "default"])?;
            let key = key.map_or_else(|| fail("get expected at least 1 argument, got 0"), Ok)?;
            let found = of.get_item(&key).unwrap_or_default();
            Ok(if found.is_undefined() { otherwise.unwrap_or(Value::from(())) } else { found })
        }
        "keys" => Ok(view("dict_keys", keys()?)),
        "values" => {
            let values = keys()?.iter().map(|key| of.get_item(key)).collect::<Result<_>>()?;
            Ok(view("dict_values", values))
        }
        "items" => {
            let pairs = keys()?.into_iter().map(|key| Ok(tuple(vec![key.clone(), of.get_item(&key)?])));
            Ok(view("dict_items", pairs.collect::<Result<_>>()?))
        }
        "fromkeys" => {
            let [keys, value] = bind("fromkeys", args, ["iterable", "value"])?;
            let value = value.unwrap_or(Value::from(()));
            Ok(items(&keys.unwrap_or_default())?.into_iter().map(|key| (key, value.clone())).collect())
        }
        _ => Ok(of.clone()),
    }
}

fn of_list(of: &Value, name: &str, args: &[Value]) -> Result<Value> {
    if name == "copy" {
        return Ok(of.clone());
    }
    let [wanted, start, stop] = bind(name, args, ["value", "start", "stop"])?;
    let wanted = wanted.map_or_else(|| fail(format!("{name}() takes a value")), Ok)?;
    let list = items(of)?;
    if name == "count" {
        return Ok(Value::from(list.iter().filter(|item| equal(item, &wanted)).count()));
    }
    let (from, to) = range_of(start, stop, list.len())?;
    match (from..to).find(|at| equal(&list[*at], &wanted)) {
        Some(at) => Ok(Value::from(at)),
        None => fail(format!("{} is not in list", repr(&wanted))),
    }
}

/// Two optional bounds as Python's slices take them.
fn range_of(start: Option<Value>, stop: Option<Value>, length: usize) -> Result<(usize, usize)> {
    let place = |bound: Option<Value>, otherwise: usize| -> Result<usize> {
        match bound.filter(|value| !value.is_none()) {
            None => Ok(otherwise),
            Some(value) => {
                let at = int_of("find", &value)?;
                Ok(if at < 0 { at.saturating_add(length as i64).max(0) as usize } else { at as usize }.min(length))
            }
        }
    };
    Ok((place(start, 0)?, place(stop, length)?))
}

fn of_str(state: &State, of: &Value, name: &str, args: &[Value]) -> Result<Value> {
    let whole = of.as_str().unwrap_or_default();
    let strings = |list: Vec<String>| Value::from(list.into_iter().map(Value::from).collect::<Vec<_>>());
    Ok(match name {
        "strip" | "lstrip" | "rstrip" => {
            let [set] = bind(name, args, ["chars"])?;
            let set = set.filter(|set| !set.is_none()).map(|set| str_of(name, &set)).transpose()?;
            let drops = |c: char| set.as_ref().map_or_else(|| is_space(c), |set| set.contains(c));
            let mut kept = whole;
            if name != "rstrip" {
                kept = kept.trim_start_matches(drops);
            }
            if name != "lstrip" {
                kept = kept.trim_end_matches(drops);
            }
            Value::from(kept)
        }
        "split" | "rsplit" => {
            let [by, most] = bind(name, args, ["sep", "maxsplit"])?;
            let by = by.filter(|by| !by.is_none()).map(|by| str_of(name, &by)).transpose()?;
            let most = most.map_or(Ok(-1), |most| int_of(name, &most))?;
            let most = if most < 0 { usize::MAX } else { most as usize };
            if by.as_deref() == Some("") {
                return fail("empty separator");
            }
            strings(match (by, name) {
                (None, "split") => split_space(whole, most),
                (None, _) => rsplit_space(whole, most),
                (Some(by), "split") => {
                    whole.splitn(most.saturating_add(1), by.as_str()).map(str::to_string).collect()
                }
                (Some(by), _) => {
                    let mut parts: Vec<_> =
                        whole.rsplitn(most.saturating_add(1), by.as_str()).map(str::to_string).collect();
                    parts.reverse();
                    parts
                }
            })
        }
        "splitlines" => {
            let [keep] = bind(name, args, ["keepends"])?;
            strings(lines(whole, keep.is_some_and(|keep| keep.is_true())))
        }
        "partition" | "rpartition" => {
            let [by] = bind(name, args, ["sep"])?;
            let by = str_of(name, &by.unwrap_or_default())?;
            if by.is_empty() {
                return fail("empty separator");
            }
            let found = if name == "partition" { whole.split_once(&by) } else { whole.rsplit_once(&by) };
            tuple(match (found, name) {
                (Some((before, after)), _) => vec![before.into(), by.into(), after.into()],
                (None, "partition") => vec![whole.into(), "".into(), "".into()],
                (None, _) => vec!["".into(), "".into(), whole.into()],
            })
        }
        "replace" => {
            let [old, new, most] = bind(name, args, ["old", "new", "count"])?;
            let (old, new) = (str_of(name, &old.unwrap_or_default())?, str_of(name, &new.unwrap_or_default())?);
            let most = most.map_or(Ok(-1), |most| int_of(name, &most))?;
            Value::from(if most < 0 { whole.replace(&old, &new) } else { whole.replacen(&old, &new, most as usize) })
        }
        "startswith" | "endswith" => {
            let [parts, start, stop] = bind(name, args, [if name == "startswith" { "prefix" } else { "suffix" }, "start", "end"])?;
            let parts = parts.unwrap_or_default();
            let letters: Vec<char> = whole.chars().collect();
            let (from, to) = range_of(start, stop, letters.len())?;
            let part: String = letters[from.min(to)..to].iter().collect();
            let parts = match sort_of(&parts) {
                Some(Sort::Tuple) => items(&parts)?,
                _ => vec![parts],
            };
            let mut found = false;
            for one in parts {
                let Some(one) = one.as_str() else {
                    return fail(format!("{name} first arg must be str or a tuple of str, not {}", type_name(&one)));
                };
                found |= if name == "startswith" { part.starts_with(one) } else { part.ends_with(one) };
            }
            Value::from(found)
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [wanted, start, stop] = bind(name, args, ["sub", "start", "end"])?;
            let wanted = str_of(name, &wanted.unwrap_or_default())?;
            let letters: Vec<char> = whole.chars().collect();
            let (from, to) = range_of(start, stop, letters.len())?;
            let part: String = letters[from.min(to)..to].iter().collect();
            if name == "count" {
                return Ok(Value::from(match wanted.is_empty() {
                    true => part.chars().count() + 1,
                    false => part.matches(&wanted).count(),
                }));
            }
            let at = if name.starts_with('r') { part.rfind(&wanted) } else { part.find(&wanted) };
            match at {
                Some(at) => Value::from(from + part[..at].chars().count()),
                None if name.ends_with("index") => return fail("substring not found"),
                None => Value::from(-1),
            }
        }
        "join" => {
            let [list] = bind(name, args, ["iterable"])?;
            let mut joined = String::new();
            for (i, item) in items(&list.unwrap_or_default())?.iter().enumerate() {
                let Some(part) = item.as_str() else {
                    return fail(format!("sequence item {i}: expected str instance, {} found", type_name(item)));
                };
                joined.push_str(if i > 0 { whole } else { "" });
                joined.push_str(part);
            }
            Value::from(joined)
        }
        "removeprefix" => Value::from(whole.strip_prefix(&str_arg(name, args)?).unwrap_or(whole)),
        "removesuffix" => Value::from(whole.strip_suffix(&str_arg(name, args)?).unwrap_or(whole)),
        "capitalize" => Value::from(capitalized(whole)),
        "title" => Value::from(titled(whole)),
        "swapcase" => Value::from(
            whole
                .chars()
                .flat_map(|c| -> Vec<char> {
                    if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
                })
                .collect::<String>(),
        ),
        "casefold" => Value::from(whole.to_lowercase().replace('ß', "ss")),
        "lower" => Value::from(whole.to_lowercase()),
        "upper" => Value::from(whole.to_uppercase()),
        "center" | "ljust" | "rjust" | "zfill" => {
            let [width, fill] = bind(name, args, ["width", "fillchar"])?;
            let width = int_of(name, &width.unwrap_or_default())?;
            let fill = fill.map_or(Ok(if name == "zfill" { "0" } else { " " }.to_string()), |c| str_of(name, &c))?;
            if fill.chars().count() != 1 {
                return fail("The fill character must be exactly one character long");
            }
            Value::from(padded(whole, width, &fill, name)?)
        }
        "expandtabs" => {
            let [size] = bind(name, args, ["tabsize"])?;
            Value::from(expanded(whole, size.map_or(Ok(8), |size| int_of(name, &size))?)?)
        }
        "encode" => Value::from_bytes(whole.as_bytes().to_vec()),
        "format" => Value::from(format_with(FormatStyle::StrFormat, whole, args)?),
        "isalpha" => Value::from(every(whole, char::is_alphabetic)),
        "isalnum" => Value::from(every(whole, char::is_alphanumeric)),
        "isdigit" | "isdecimal" => Value::from(every(whole, is_digit)),
        "isnumeric" => Value::from(every(whole, char::is_numeric)),
        "isspace" => Value::from(every(whole, is_space)),
        "isascii" => Value::from(whole.is_ascii()),
        "islower" => Value::from(whole.chars().any(char::is_lowercase) && !whole.chars().any(char::is_uppercase)),
        "isupper" => Value::from(whole.chars().any(char::is_uppercase) && !whole.chars().any(char::is_lowercase)),
        "istitle" => Value::from(whole.chars().any(char::is_alphabetic) && titled(whole) == whole),
        "isidentifier" => {
            let mut letters = whole.chars();
            let first = letters.next().is_some_and(|c| c.is_alphabetic() || c == '_');
            Value::from(first && letters.all(|c| c.is_alphanumeric() || c == '_'))
        }
        _ => return minijinja_contrib::pycompat::unknown_method_callback(state, of, name, args),
    })
}

fn str_arg(name: &str, args: &[Value]) -> Result<String> {
    let [value] = bind(name, args, ["value"])?;
    str_of(name, &value.unwrap_or_default())
}

fn every(text: &str, holds: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(holds)
}

/// Decimal digits of other scripts lie in runs of ten; Rust has no table of them, but knows which are numeric letters.
fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || matches!(c as u32, 0x660..=0x669 | 0x6f0..=0x6f9 | 0x966..=0x96f | 0xff10..=0xff19 | 0xb2 | 0xb3 | 0xb9 | 0x2070 | 0x2074..=0x2079 | 0x2080..=0x2089)
}

fn split_space(whole: &str, most: usize) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = whole.trim_start_matches(is_space);
    while !rest.is_empty() {
        if parts.len() == most {
            // What is left keeps its inner spaces.
            parts.push(rest.trim_end_matches(is_space).to_string());
            break;
        }
        let end = rest.find(is_space).unwrap_or(rest.len());
        parts.push(rest[..end].to_string());
        rest = rest[end..].trim_start_matches(is_space);
    }
    parts
}

fn rsplit_space(whole: &str, most: usize) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = whole.trim_end_matches(is_space);
    while !rest.is_empty() {
        if parts.len() == most {
            parts.push(rest.to_string());
            break;
        }
        let start = rest.rfind(is_space).map_or(0, |at| at + rest[at..].chars().next().map_or(1, char::len_utf8));
        parts.push(rest[start..].to_string());
        rest = rest[..start].trim_end_matches(is_space);
    }
    parts.reverse();
    parts
}

fn lines(whole: &str, keep: bool) -> Vec<String> {
    let ends = |c: char| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut parts = Vec::new();
    let mut rest = whole;
    while let Some(at) = rest.find(ends) {
        let mark = rest[at..].chars().next().map_or(1, char::len_utf8);
        let mark = if rest[at..].starts_with("\r\n") { 2 } else { mark };
        parts.push(rest[..if keep { at + mark } else { at }].to_string());
        rest = &rest[at + mark..];
    }
    if !rest.is_empty() {
        parts.push(rest.to_string());
    }
    parts
}

pub fn capitalized(whole: &str) -> String {
    let mut letters = whole.chars();
    letters.next().map_or(String::new(), |first| {
        first.to_uppercase().collect::<String>() + &letters.as_str().to_lowercase()
    })
}

/// `str.title()`: a letter after a letter is small, any other is large.
fn titled(whole: &str) -> String {
    let mut inside = false;
    let mut out = String::new();
    for c in whole.chars() {
        match inside {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        inside = c.is_alphabetic();
    }
    out
}

/// Characters that a text may be padded to.
const MAXIMUM_WIDTH: i64 = 10_000_000;

pub fn padded(whole: &str, width: i64, fill: &str, how: &str) -> Result<String> {
    if width > MAXIMUM_WIDTH {
        return fail(format!("a text of {width} characters is more than {MAXIMUM_WIDTH}"));
    }
    let length = whole.chars().count();
    let missing = (width.max(0) as usize).saturating_sub(length);
    Ok(match how {
        "ljust" => whole.to_string() + &fill.repeat(missing),
        "rjust" => fill.repeat(missing) + whole,
        "zfill" => {
            let sign = if whole.starts_with(['+', '-']) { 1 } else { 0 };
            whole[..sign].to_string() + &fill.repeat(missing) + &whole[sign..]
        }
        _ => {
            // CPython puts the odd one to the left where the width is odd.
            let left = missing / 2 + (missing & width as usize & 1);
            fill.repeat(left) + whole + &fill.repeat(missing - left)
        }
    })
}

fn expanded(whole: &str, size: i64) -> Result<String> {
    if size > MAXIMUM_WIDTH {
        return fail("a tab is too wide");
    }
    let mut out = String::new();
    let mut column = 0;
    for c in whole.chars() {
        match c {
            '\t' if size > 0 => {
                let gap = size - column % size;
                out.push_str(&" ".repeat(gap as usize));
                column += gap;
            }
            '\t' => {}
            _ => {
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                out.push(c);
            }
        }
    }
    Ok(out)
}

/// `text % values`.
pub fn percent(format: &str, values: &Value) -> Result<Value> {
    let mut args = match sort_of(values) {
        Some(Sort::Tuple) => items(values)?,
        _ => vec![values.clone()],
    };
    // minijinja has no %r: a value's representation is handed on as a text.
    let mut out = String::with_capacity(format.len());
    let mut rest = format;
    let mut at = 0;
    while let Some(start) = rest.find('%') {
        let length = rest[start + 1..].find(|c: char| c.is_alphabetic() || c == '%' || c == '(');
        let end = start + 2 + length.unwrap_or(rest.len().saturating_sub(start + 2));
        let (spec, after) = rest.split_at(end.min(rest.len()));
        match (spec.ends_with('r'), args.get_mut(at)) {
            (true, Some(value)) => {
                *value = Value::from(repr(value));
                out.push_str(&spec[..spec.len() - 1]);
                out.push('s');
            }
            _ => out.push_str(spec),
        }
        at += !spec.ends_with('%') as usize;
        rest = after;
    }
    out.push_str(rest);
    Ok(Value::from(format_with(FormatStyle::Printf, &out, &args)?))
}

/// minijinja's formatting, with lists and mappings as Python writes them.
pub fn format_with(style: FormatStyle, format: &str, args: &[Value]) -> Result<String> {
    let (named, placed) = split(args);
    let python = |value: &Value| match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Plain | ValueKind::Undefined => Value::from(text(value)),
        _ => value.clone(),
    };
    let mut all: Vec<Value> = placed.iter().map(python).collect();
    all.extend(named);
    format_filter(style, format, &all)
}
