//! Values as Python writes and compares them: `str`, `repr`, tuples, views, generators, bound methods.

use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use std::cmp::Ordering;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering as Memory};
use std::sync::Arc;

pub type Result<T> = std::result::Result<T, Error>;

/// An error with the words that Python or Jinja have for it.
pub fn fail<T>(words: impl Into<std::borrow::Cow<'static, str>>) -> Result<T> {
    Err(Error::new(ErrorKind::InvalidOperation, words))
}

/// What a sequence is to Python, where it is not a list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sort {
    Tuple,
    /// What `groupby` gives: a tuple whose items are also `grouper` and `list`.
    Group,
    /// The result of `range(…)`.
    Range,
    /// `dict.keys()` and its like, with the name that Python writes.
    View(&'static str),
}

#[derive(Debug)]
pub struct Sequence {
    pub sort: Sort,
    pub items: Vec<Value>,
}

impl Object for Sequence {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.sort {
            Sort::View(_) => ObjectRepr::Iterable,
            _ => ObjectRepr::Seq,
        }
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items.get(key.as_usize()?).cloned()
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }
    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items.len())
    }
    fn is_true(self: &Arc<Self>) -> bool {
        !self.items.is_empty()
    }
}

pub fn tuple(items: Vec<Value>) -> Value {
    Value::from_object(Sequence { sort: Sort::Tuple, items })
}

pub fn sort_of(value: &Value) -> Option<Sort> {
    value.downcast_object_ref::<Sequence>().map(|it| it.sort)
}

/// What `map`, `select` and their like give: true, without a length, and empty once it was gone through.
#[derive(Debug)]
pub struct Generator {
    items: Vec<Value>,
    spent: AtomicBool,
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.spent.swap(true, Memory::Relaxed) {
            true => Enumerator::Values(Vec::new()),
            false => Enumerator::Values(self.items.clone()),
        }
    }
    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }
    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

pub fn generator(items: Vec<Value>) -> Value {
    Value::from_object(Generator { items, spent: AtomicBool::new(false) })
}

/// `"text".upper` without its call.
#[derive(Debug)]
pub struct BoundMethod {
    pub of: Value,
    pub name: String,
}

impl Object for BoundMethod {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
    fn call(self: &Arc<Self>, state: &State<'_, '_>, args: &[Value]) -> Result<Value> {
        super::methods::call(state, &self.of, &self.name, args)
    }
}

/// Python's name of a value's type.
pub fn type_name(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "Undefined",
        ValueKind::None => "NoneType",
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        ValueKind::String if value.is_safe() => "Markup",
        ValueKind::String => "str",
        ValueKind::Bytes => "bytes",
        ValueKind::Seq | ValueKind::Iterable => match sort_of(value) {
            Some(Sort::Tuple | Sort::Group) => "tuple",
            Some(Sort::Range) => "range",
            Some(Sort::View(name)) => name,
            None if value.kind() == ValueKind::Iterable => "generator",
            None => "list",
        },
        ValueKind::Map => "dict",
        _ => "function",
    }
}

/// The items of anything that Python goes through.
pub fn items(value: &Value) -> Result<Vec<Value>> {
    match value.kind() {
        ValueKind::Undefined => Ok(Vec::new()),
        ValueKind::String | ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            Ok(value.try_iter()?.collect())
        }
        _ => fail(format!("'{}' object is not iterable", type_name(value))),
    }
}

/// `len(value)`.
pub fn length(value: &Value) -> Result<usize> {
    if let Some(text) = value.as_str() {
        return Ok(text.chars().count());
    }
    match value.kind() {
        ValueKind::Undefined => Some(0),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => value.len(),
        _ => None,
    }
    .map_or_else(|| fail(format!("object of type '{}' has no len()", type_name(value))), Ok)
}

/// `str(value)`.
pub fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) if value.kind() == ValueKind::String => text.to_string(),
        _ if value.is_undefined() => String::new(),
        _ => repr(value),
    }
}

/// `repr(value)`.
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(&mut out, value);
    out
}

fn write_repr(out: &mut String, value: &Value) {
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if value.is_integer() => write!(out, "{value}").unwrap_or_default(),
        ValueKind::Number => out.push_str(&float_repr(f64::try_from(value.clone()).unwrap_or(f64::NAN))),
        ValueKind::String => quote(out, value.as_str().unwrap_or_default()),
        ValueKind::Bytes => {
            out.push('b');
            quote(out, &String::from_utf8_lossy(value.as_bytes().unwrap_or_default()));
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, &key);
                out.push_str(": ");
                write_repr(out, &value.get_item(&key).unwrap_or_default());
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let sort = sort_of(value);
            let (open, close) = match sort {
                Some(Sort::Tuple | Sort::Group) if value.len() == Some(1) => ("(".to_string(), ",)"),
                Some(Sort::Tuple | Sort::Group) => ("(".to_string(), ")"),
                Some(Sort::Range) => return write_range(out, value),
                Some(Sort::View(name)) => (format!("{name}(["), "])"),
                None if value.kind() == ValueKind::Iterable => {
                    return out.push_str("<generator object>");
                }
                None => ("[".to_string(), "]"),
            };
            out.push_str(&open);
            for (i, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, &item);
            }
            out.push_str(close);
        }
        _ => match value.downcast_object_ref::<BoundMethod>() {
            Some(it) => {
                let _ = write!(out, "<built-in method {} of {} object>", it.name, type_name(&it.of));
            }
            None => out.push_str(&value.to_string()),
        },
    }
}

fn write_range(out: &mut String, value: &Value) {
    let items: Vec<i64> =
        value.try_iter().into_iter().flatten().filter_map(|item| item.as_i64()).collect();
    let step = if items.len() > 1 { items[1] - items[0] } else { 1 };
    let first = items.first().copied().unwrap_or(0);
    let stop = items.last().map_or(0, |last| last + step.signum());
    let _ = match step {
        1 => write!(out, "range({first}, {stop})"),
        _ => write!(out, "range({first}, {stop}, {step})"),
    };
}

/// A float's shortest digits, with an exponent where Python has one: below 1e-4 and from 1e16 on.
pub fn float_repr(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number == 0.0 || (-4..16).contains(&exponent) {
        let plain = format!("{number}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// A string literal as Python writes it.
fn quote(out: &mut String, text: &str) {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(mark);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            _ if c == mark => {
                out.push('\\');
                out.push(c);
            }
            _ if is_printable(c) => out.push(c),
            _ => {
                let code = c as u32;
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(mark);
}

/// `str.isprintable()` of a character: Rust escapes the same categories, and grapheme extenders too, which Python shows.
fn is_printable(c: char) -> bool {
    if (' '..='~').contains(&c) {
        return true;
    }
    if c.is_control() || c.is_whitespace() {
        return false;
    }
    let code = c as u32;
    let formatting = matches!(code,
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x8e2 | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e
        | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb | 0xe000..=0xf8ff | 0xe0001..=0xe007f | 0xf0000..=0x10ffff);
    // Assigned or not: Rust's own escape knows, but it also escapes combining marks, which are printable.
    !formatting && (c.escape_debug().count() == 1 || is_mark(c))
}

fn is_mark(c: char) -> bool {
    // A combining mark is escaped at the start of a string only; after a letter it is written as it is.
    format!("a{c}").escape_debug().count() == 2
}

/// White space to `str.strip()` and `str.split()`: Rust's, and the four separators U+001C to U+001F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `left == right`: numbers by value (True is 1), sequences of one type item by item, mappings in any order.
pub fn equal(left: &Value, right: &Value) -> bool {
    match (left.kind(), right.kind()) {
        (ValueKind::Undefined, ValueKind::Undefined) | (ValueKind::None, ValueKind::None) => true,
        (ValueKind::String, ValueKind::String) => left.as_str() == right.as_str(),
        (ValueKind::Bytes, ValueKind::Bytes) => left.as_bytes() == right.as_bytes(),
        (ValueKind::Bool | ValueKind::Number, ValueKind::Bool | ValueKind::Number) => {
            match (integer(left), integer(right)) {
                (Some(a), Some(b)) => a == b,
                _ => number(left) == number(right),
            }
        }
        (ValueKind::Map, ValueKind::Map) => {
            left.len() == right.len()
                && left.try_iter().into_iter().flatten().all(|key| {
                    match (left.get_item(&key), right.get_item(&key)) {
                        (Ok(a), Ok(b)) => (!b.is_undefined() || a.is_undefined()) && equal(&a, &b),
                        _ => false,
                    }
                })
        }
        (ValueKind::Seq, ValueKind::Seq) => {
            sort_of(left) == sort_of(right)
                && left.len() == right.len()
                && left
                    .try_iter()
                    .into_iter()
                    .flatten()
                    .zip(right.try_iter().into_iter().flatten())
                    .all(|(a, b)| equal(&a, &b))
        }
        (ValueKind::Iterable | ValueKind::Plain, _) => match (left.as_object(), right.as_object()) {
            (Some(_), Some(_)) => !address(left).is_null() && std::ptr::eq(address(left), address(right)),
            _ => false,
        },
        _ => false,
    }
}

fn address(value: &Value) -> *const u8 {
    match value.downcast_object_ref::<Generator>() {
        Some(it) => it as *const Generator as *const u8,
        None => std::ptr::null(),
    }
}

/// Order of two values; an error where Python has none.
pub fn order(left: &Value, right: &Value) -> Result<Ordering> {
    let numeric = |value: &Value| matches!(value.kind(), ValueKind::Bool | ValueKind::Number);
    if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
        return Ok(a.cmp(b));
    }
    if numeric(left) && numeric(right) {
        if let (Some(a), Some(b)) = (integer(left), integer(right)) {
            return Ok(a.cmp(&b));
        }
        return Ok(number(left).partial_cmp(&number(right)).unwrap_or(Ordering::Equal));
    }
    if left.kind() == ValueKind::Seq && right.kind() == ValueKind::Seq && sort_of(left) == sort_of(right) {
        for (a, b) in left.try_iter()?.zip(right.try_iter()?) {
            if !equal(&a, &b) {
                return order(&a, &b);
            }
        }
        return Ok(left.len().cmp(&right.len()));
    }
    defined(left)?;
    defined(right)?;
    fail(format!("'<' not supported between instances of '{}' and '{}'", type_name(left), type_name(right)))
}

/// An error for an undefined value, where Jinja lets none pass.
pub fn defined(value: &Value) -> Result<()> {
    match value.is_undefined() {
        true => Err(Error::new(ErrorKind::UndefinedError, "a value that is used here is undefined")),
        false => Ok(()),
    }
}

/// An integer's value; a bool counts as 0 or 1.
pub fn integer(value: &Value) -> Option<i128> {
    match value.kind() {
        ValueKind::Bool => Some(value.is_true() as i128),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    }
}

/// A number's value as a float.
pub fn number(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(value.is_true() as u8 as f64),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok().map(|n| n as f64),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        _ => None,
    }
}

/// An integer as the smallest value that holds it.
pub fn from_integer(number: i128) -> Value {
    match i64::try_from(number) {
        Ok(small) => Value::from(small),
        Err(_) => Value::from(number),
    }
}
