//! `tojson` as transformers gives it to templates: Python's `json.dumps` with ensure_ascii=False.

use super::arguments::bind;
use super::value::*;
use minijinja::value::{Value, ValueKind};
use std::fmt::Write;

/// Spaces that one level may be indented by.
const MAXIMUM_INDENT: i64 = 1000;

struct Style {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sorted: bool,
}

pub fn to_json(args: &[Value]) -> Result<Value> {
    let [value, ascii, indent, separators, sorted] =
        bind("tojson", args, ["x", "ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match (indent.as_str(), integer(&indent)) {
            (Some(text), _) => text.to_string(),
            (_, Some(count)) if count <= MAXIMUM_INDENT as i128 => " ".repeat(count.max(0) as usize),
            _ => return fail(format!("an indent must be a text or a number up to {MAXIMUM_INDENT}")),
        }),
    };
    let mut style = Style {
        ascii: ascii.is_some_and(|flag| flag.is_true()),
        item: if indent.is_some() { "," } else { ", " }.into(),
        key: ": ".into(),
        sorted: sorted.is_some_and(|flag| flag.is_true()),
        indent,
    };
    if let Some(pair) = separators.filter(|pair| !pair.is_none()) {
        match items(&pair)?.as_slice() {
            [item, key] => (style.item, style.key) = (text(item), text(key)),
            _ => return fail("separators must be a pair of texts"),
        }
    }
    let mut out = String::new();
    write_json(&mut out, &value.unwrap_or_default(), &style, 0)?;
    Ok(Value::from(out))
}

fn write_json(out: &mut String, value: &Value, style: &Style, depth: usize) -> Result<()> {
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&json_number(value)),
        ValueKind::String => write_text(out, value.as_str().unwrap_or_default(), style.ascii),
        ValueKind::Seq if sort_of(value) != Some(Sort::Range) => {
            let list = items(value)?;
            out.push('[');
            for (i, item) in list.iter().enumerate() {
                out.push_str(if i > 0 { &style.item } else { "" });
                new_line(out, style, depth + 1);
                write_json(out, item, style, depth + 1)?;
            }
            if !list.is_empty() {
                new_line(out, style, depth);
            }
            out.push(']');
        }
        ValueKind::Map => {
            let mut keys = items(value)?;
            if style.sorted {
                keys.sort_by(|a, b| order(a, b).unwrap_or(std::cmp::Ordering::Equal));
            }
            out.push('{');
            for (i, key) in keys.iter().enumerate() {
                out.push_str(if i > 0 { &style.item } else { "" });
                new_line(out, style, depth + 1);
                let name = match key.kind() {
                    ValueKind::String => text(key),
                    ValueKind::Number => json_number(key),
                    ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_string(),
                    ValueKind::None => "null".to_string(),
                    _ => {
                        return fail(format!(
                            "keys must be str, int, float, bool or None, not {}",
                            type_name(key)
                        ))
                    }
                };
                write_text(out, &name, style.ascii);
                out.push_str(&style.key);
                write_json(out, &value.get_item(key)?, style, depth + 1)?;
            }
            if !keys.is_empty() {
                new_line(out, style, depth);
            }
            out.push('}');
        }
        _ => return fail(format!("Object of type {} is not JSON serializable", type_name(value))),
    }
    Ok(())
}

fn new_line(out: &mut String, style: &Style, depth: usize) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        for _ in 0..depth {
            out.push_str(indent);
        }
    }
}

fn json_number(value: &Value) -> String {
    match number(value) {
        Some(real) if !value.is_integer() && real.is_nan() => "NaN".into(),
        Some(real) if !value.is_integer() && real.is_infinite() => {
            if real > 0.0 { "Infinity" } else { "-Infinity" }.into()
        }
        _ => repr(value),
    }
}

fn write_text(out: &mut String, text: &str, ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            _ if (c as u32) < 0x20 || (ascii && !(' '..='~').contains(&c)) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}
