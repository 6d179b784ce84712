//! Jinja's filters as jinja2 has them, with the arguments and results that Python's have.

use super::arguments::{bind, int_of, split, str_of};
use super::operators::{arithmetic, attribute, escaped, subscript};
use super::value::*;
use super::{json, methods};
use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Environment, FormatStyle, State};

type Filter = fn(&State, &[Value]) -> Result<Value>;

/// Whether there is a filter of that name.
pub fn exists(name: &str) -> bool {
    FILTERS.iter().any(|(known, _)| *known == name)
}

pub fn register(env: &mut Environment) {
    for (name, filter) in FILTERS {
        env.add_filter(*name, move |state: &State, args: Rest<Value>| match args.first() {
            Some(first) if !first.is_kwargs() => filter(state, &args),
            _ => fail("a filter needs a value"),
        });
    }
}

const FILTERS: &[(&str, Filter)] = &[
    ("abs", |_, args| {
        let [x] = bind("abs", args, ["x"])?;
        let x = x.unwrap_or_default();
        match (integer(&x), number(&x)) {
            (Some(whole), _) => Ok(from_integer(whole.abs())),
            (_, Some(real)) => Ok(Value::from(real.abs())),
            _ => defined(&x).and_then(|()| fail(format!("bad operand type for abs(): '{}'", type_name(&x)))),
        }
    }),
    ("attr", |_, args| {
        let [of, name] = bind("attr", args, ["obj", "name"])?;
        let (of, name) = (of.unwrap_or_default(), text(&name.unwrap_or_default()));
        Ok(match of.kind() == ValueKind::Map && !methods::exists(&of, &name) {
            true => Value::UNDEFINED,
            false => attribute(&of, &name),
        })
    }),
    ("batch", batch),
    ("capitalize", |_, args| word("capitalize", args, methods::capitalized)),
    ("center", |_, args| {
        let [value, width] = bind("center", args, ["value", "width"])?;
        let width = width.map_or(Ok(80), |width| int_of("center", &width))?;
        methods::padded(&text(&value.unwrap_or_default()), width, " ", "center").map(Value::from)
    }),
    ("count", |_, args| length(&args[0]).map(Value::from)),
    ("length", |_, args| length(&args[0]).map(Value::from)),
    ("d", default),
    ("default", default),
    ("dictsort", dictsort),
    ("e", |_, args| Ok(Value::from_safe_string(escaped(&args[0])))),
    ("escape", |_, args| Ok(Value::from_safe_string(escaped(&args[0])))),
    ("forceescape", |_, args| Ok(Value::from_safe_string(escaped(&Value::from(text(&args[0])))))),
    ("filesizeformat", |_, args| {
        let [value, binary] = bind("filesizeformat", args, ["value", "binary"])?;
        let bytes = to_float(&value.unwrap_or_default()).unwrap_or(0.0);
        let binary = binary.is_some_and(|binary| binary.is_true());
        Ok(Value::from(minijinja_contrib::filters::filesizeformat(bytes, Some(binary))))
    }),
    ("first", |_, args| Ok(items(&args[0])?.into_iter().next().unwrap_or_default())),
    ("last", |_, args| Ok(items(&args[0])?.pop().unwrap_or_default())),
    ("float", |_, args| {
        let [value, otherwise] = bind("float", args, ["value", "default"])?;
        let value = value.unwrap_or_default();
        defined(&value)?;
        Ok(to_float(&value).map_or(otherwise.unwrap_or(Value::from(0.0)), Value::from))
    }),
    ("format", |_, args| {
        let format = text(&args[0]);
        match split(&args[1..]) {
            (Some(named), []) => methods::percent(&format, &named),
            (Some(_), _) => fail("can't handle positional and keyword arguments at the same time"),
            (None, placed) => methods::format_with(FormatStyle::Printf, &format, placed).map(Value::from),
        }
    }),
    ("groupby", groupby),
    ("indent", indent),
    ("int", int),
    ("items", |_, args| match args[0].kind() {
        ValueKind::Undefined => Ok(generator(Vec::new())),
        ValueKind::Map => Ok(generator(pairs(&args[0])?)),
        _ => fail("Can only get item pairs from a mapping."),
    }),
    ("join", |_, args| {
        let [value, by, of] = bind("join", args, ["value", "d", "attribute"])?;
        let by = by.map_or(String::new(), |by| text(&by));
        let parts = items(&value.unwrap_or_default())?;
        let parts: Vec<String> =
            parts.iter().map(|part| of.as_ref().map_or_else(|| text(part), |of| text(&look(part, of)))).collect();
        Ok(Value::from(parts.join(&by)))
    }),
    ("list", |_, args| items(&args[0]).map(Value::from)),
    ("lower", |_, args| word("lower", args, str::to_lowercase)),
    ("upper", |_, args| word("upper", args, str::to_uppercase)),
    ("title", |_, args| word("title", args, titled)),
    ("map", map),
    ("max", |_, args| extreme("max", args, std::cmp::Ordering::Greater)),
    ("min", |_, args| extreme("min", args, std::cmp::Ordering::Less)),
    ("pprint", |_, args| Ok(Value::from(repr(&args[0])))),
    ("random", |state, args| {
        // The moment decides, so that a rendering can be repeated.
        let list = items(&args[0])?;
        let moment = state.lookup("%moment").and_then(|moment| moment.as_usize()).unwrap_or(0);
        Ok(list.get(moment % list.len().max(1)).cloned().unwrap_or_default())
    }),
    ("reject", |state, args| select(state, args, false, false)),
    ("rejectattr", |state, args| select(state, args, true, false)),
    ("select", |state, args| select(state, args, false, true)),
    ("selectattr", |state, args| select(state, args, true, true)),
    ("replace", |_, args| {
        let [value, old, new, count] = bind("replace", args, ["s", "old", "new", "count"])?;
        let (value, old) = (text(&value.unwrap_or_default()), text(&old.unwrap_or_default()));
        let new = text(&new.unwrap_or_default());
        Ok(Value::from(match count.filter(|count| !count.is_none()) {
            Some(count) if int_of("replace", &count)? >= 0 => {
                value.replacen(&old, &new, int_of("replace", &count)? as usize)
            }
            _ => value.replace(&old, &new),
        }))
    }),
    ("reverse", |_, args| match args[0].as_str() {
        Some(text) => Ok(Value::from(text.chars().rev().collect::<String>())),
        None => Ok(generator(items(&args[0])?.into_iter().rev().collect())),
    }),
    ("round", round),
    ("safe", |_, args| Ok(Value::from_safe_string(text(&args[0])))),
    ("slice", slice),
    ("sort", |_, args| {
        let [value, reverse, exact, by] = bind("sort", args, ["value", "reverse", "case_sensitive", "attribute"])?;
        let exact = exact.is_some_and(|exact| exact.is_true());
        let keys = |item: &Value| match &by {
            Some(by) if !by.is_none() => {
                text(by).split(',').map(|by| folded(look(item, &by.into()), exact)).collect()
            }
            _ => vec![folded(item.clone(), exact)],
        };
        let list = items(&value.unwrap_or_default())?;
        sorted(list, keys, reverse.is_some_and(|reverse| reverse.is_true())).map(Value::from)
    }),
    ("string", |_, args| Ok(if args[0].is_safe() { args[0].clone() } else { Value::from(text(&args[0])) })),
    ("striptags", |_, args| Ok(Value::from(minijinja_contrib::filters::striptags(text(&args[0]))))),
    ("sum", |_, args| {
        let [value, by, start] = bind("sum", args, ["iterable", "attribute", "start"])?;
        let mut sum = start.unwrap_or(Value::from(0));
        for item in items(&value.unwrap_or_default())? {
            let part = by.as_ref().filter(|by| !by.is_none()).map_or(item.clone(), |by| look(&item, by));
            sum = arithmetic("+", &sum, &part)?;
        }
        Ok(sum)
    }),
    ("tojson", |_, args| json::to_json(args)),
    ("trim", |state, args| {
        let [value, chars] = bind("trim", args, ["value", "chars"])?;
        let value = Value::from(text(&value.unwrap_or_default()));
        methods::call(state, &value, "strip", &[chars.unwrap_or(Value::from(()))])
    }),
    ("truncate", truncate),
    ("unique", |_, args| {
        let [value, exact, by] = bind("unique", args, ["value", "case_sensitive", "attribute"])?;
        let exact = exact.is_some_and(|exact| exact.is_true());
        let mut seen: Vec<Value> = Vec::new();
        let mut kept = Vec::new();
        for item in items(&value.unwrap_or_default())? {
            let key = by.as_ref().map_or(item.clone(), |by| look(&item, by));
            let key = folded(key, exact);
            if !seen.iter().any(|one| equal(one, &key)) {
                seen.push(key);
                kept.push(item);
            }
        }
        Ok(generator(kept))
    }),
    ("urlencode", |_, args| match args[0].kind() {
        ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => {
            let list = if args[0].kind() == ValueKind::Map { pairs(&args[0])? } else { items(&args[0])? };
            let parts = list.iter().map(|pair| {
                let pair = items(pair)?;
                Ok(match pair.as_slice() {
                    [key, value] => format!("{}={}", quoted(&text(key), true), quoted(&text(value), true)),
                    _ => return fail("urlencode takes pairs"),
                })
            });
            Ok(Value::from(parts.collect::<Result<Vec<_>>>()?.join("&")))
        }
        _ => Ok(Value::from(quoted(&text(&args[0]), false))),
    }),
    ("wordcount", |_, args| {
        let words = text(&args[0]);
        let words = words.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        Ok(Value::from(words.filter(|word| !word.is_empty()).count()))
    }),
    ("wordwrap", wordwrap),
    ("xmlattr", |_, args| {
        let [of, space] = bind("xmlattr", args, ["d", "autospace"])?;
        let mut parts = Vec::new();
        for pair in pairs(&of.unwrap_or_default())? {
            let (key, value) = (subscript(&pair, &Value::from(0)), subscript(&pair, &Value::from(1)));
            if value.is_none() || value.is_undefined() {
                continue;
            }
            if text(&key).contains(|c: char| is_space(c) || "/>=".contains(c)) {
                return fail(format!("Invalid character in attribute name: {}", repr(&key)));
            }
            parts.push(format!("{}=\"{}\"", escaped(&key), escaped(&value)));
        }
        let leading = if parts.is_empty() || space.is_some_and(|space| !space.is_true()) { "" } else { " " };
        Ok(Value::from(leading.to_string() + &parts.join(" ")))
    }),
];

/// `item.a.b.0`, as `attribute=` names it.
fn look(item: &Value, path: &Value) -> Value {
    let Some(path) = path.as_str() else { return subscript(item, path) };
    path.split('.').fold(item.clone(), |at, part| match part.parse::<i64>() {
        Ok(index) => subscript(&at, &Value::from(index)),
        Err(_) => subscript(&at, &Value::from(part)),
    })
}

/// A text in small letters, unless case counts.
fn folded(value: Value, exact: bool) -> Value {
    match value.as_str() {
        Some(text) if !exact => Value::from(text.to_lowercase()),
        _ => value,
    }
}

fn pairs(of: &Value) -> Result<Vec<Value>> {
    if of.kind() != ValueKind::Map {
        return fail(format!("'{} object' has no attribute 'items'", type_name(of)));
    }
    of.try_iter()?.map(|key| Ok(tuple(vec![key.clone(), of.get_item(&key)?]))).collect()
}

fn sorted(list: Vec<Value>, keys: impl Fn(&Value) -> Vec<Value>, reverse: bool) -> Result<Vec<Value>> {
    let mut failed = None;
    let mut keyed: Vec<(Vec<Value>, Value)> = list.into_iter().map(|item| (keys(&item), item)).collect();
    keyed.sort_by(|(a, _), (b, _)| {
        let mut found = std::cmp::Ordering::Equal;
        for (a, b) in a.iter().zip(b) {
            found = order(a, b).unwrap_or_else(|error| {
                failed.get_or_insert(error);
                std::cmp::Ordering::Equal
            });
            if found.is_ne() {
                break;
            }
        }
        if reverse { found.reverse() } else { found }
    });
    failed.map_or_else(|| Ok(keyed.into_iter().map(|(_, item)| item).collect()), Err)
}

fn word(name: &str, args: &[Value], change: impl Fn(&str) -> String) -> Result<Value> {
    let [value] = bind(name, args, ["s"])?;
    let value = value.unwrap_or_default();
    let changed = change(&text(&value));
    Ok(if value.is_safe() { Value::from_safe_string(changed) } else { Value::from(changed) })
}

/// Jinja's title: words begin after white space, hyphens and opening brackets.
fn titled(whole: &str) -> String {
    let mut begins = true;
    let mut out = String::new();
    for c in whole.chars() {
        match begins {
            true => out.extend(c.to_uppercase()),
            false => out.extend(c.to_lowercase()),
        }
        begins = c.is_whitespace() || "-({[<".contains(c);
    }
    out
}

fn default(_: &State, args: &[Value]) -> Result<Value> {
    let [value, otherwise, falsy] = bind("default", args, ["value", "default_value", "boolean"])?;
    let value = value.unwrap_or_default();
    let missing = value.is_undefined() || (falsy.is_some_and(|falsy| falsy.is_true()) && !value.is_true());
    Ok(if missing { otherwise.unwrap_or(Value::from("")) } else { value })
}

fn batch(_: &State, args: &[Value]) -> Result<Value> {
    let [value, count, fill] = bind("batch", args, ["value", "linecount", "fill_with"])?;
    let count = int_of("batch", &count.unwrap_or_default())?.max(1) as usize;
    let fill = fill.filter(|fill| !fill.is_none());
    let list = items(&value.unwrap_or_default())?;
    let rows = list.chunks(count).map(|row| {
        let mut row = row.to_vec();
        if let Some(fill) = &fill {
            row.resize(count.min(row.len() + super::MAXIMUM_RANGE), fill.clone());
        }
        Value::from(row)
    });
    Ok(generator(rows.collect()))
}

fn slice(_: &State, args: &[Value]) -> Result<Value> {
    let [value, count, fill] = bind("slice", args, ["value", "slices", "fill_with"])?;
    let count = int_of("slice", &count.unwrap_or_default())?;
    if !(1..=super::MAXIMUM_RANGE as i64).contains(&count) {
        return fail(format!("cannot slice into {count} parts"));
    }
    let list = items(&value.unwrap_or_default())?;
    let (each, more) = (list.len() / count as usize, list.len() % count as usize);
    let fill = fill.filter(|fill| !fill.is_none());
    let mut at = 0;
    let mut rows = Vec::new();
    for number in 0..count as usize {
        let end = at + each + (number < more) as usize;
        let mut row = list[at..end].to_vec();
        row.extend(fill.clone().filter(|_| number >= more));
        rows.push(Value::from(row));
        at = end;
    }
    Ok(generator(rows))
}

fn dictsort(_: &State, args: &[Value]) -> Result<Value> {
    let [value, exact, by, reverse] = bind("dictsort", args, ["value", "case_sensitive", "by", "reverse"])?;
    let exact = exact.is_some_and(|exact| exact.is_true());
    let place = match by.map_or("key".to_string(), |by| text(&by)).as_str() {
        "key" => 0,
        "value" => 1,
        _ => return fail("You can only sort by either \"key\" or \"value\""),
    };
    let keys = |pair: &Value| vec![folded(subscript(pair, &Value::from(place)), exact)];
    let list = pairs(&value.unwrap_or_default())?;
    sorted(list, keys, reverse.is_some_and(|reverse| reverse.is_true())).map(Value::from)
}

fn groupby(_: &State, args: &[Value]) -> Result<Value> {
    let [value, by, otherwise, exact] = bind("groupby", args, ["value", "attribute", "default", "case_sensitive"])?;
    let (by, exact) = (by.unwrap_or_default(), exact.is_some_and(|exact| exact.is_true()));
    let key = |item: &Value| {
        let found = look(item, &by);
        if found.is_undefined() { otherwise.clone().unwrap_or_default() } else { found }
    };
    let list = sorted(items(&value.unwrap_or_default())?, |item| vec![folded(key(item), exact)], false)?;
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for item in list {
        let of = key(&item);
        match groups.last_mut() {
            Some((last, group)) if equal(&folded(last.clone(), exact), &folded(of.clone(), exact)) => group.push(item),
            _ => groups.push((of, vec![item])),
        }
    }
    Ok(Value::from(
        groups
            .into_iter()
            .map(|(of, group)| {
                Value::from_object(Sequence { sort: Sort::Group, items: vec![of, Value::from(group)] })
            })
            .collect::<Vec<_>>(),
    ))
}

fn indent(state: &State, args: &[Value]) -> Result<Value> {
    let [value, width, first, blank] = bind("indent", args, ["s", "width", "first", "blank"])?;
    let space = match width {
        None => "    ".to_string(),
        Some(width) => match width.as_str() {
            Some(text) => text.to_string(),
            None => methods::padded("", int_of("indent", &width)?, " ", "ljust")?,
        },
    };
    let whole = Value::from(text(&value.unwrap_or_default()) + "\n");
    let lines = items(&methods::call(state, &whole, "splitlines", &[])?)?;
    let blank = blank.is_some_and(|blank| blank.is_true());
    let mut out = if first.is_some_and(|first| first.is_true()) { space.clone() } else { String::new() };
    for (i, line) in lines.iter().map(text).enumerate() {
        if i > 0 {
            out.push('\n');
            out.push_str(if blank || !line.is_empty() { &space } else { "" });
        }
        out.push_str(&line);
    }
    Ok(Value::from(out))
}

fn to_float(value: &Value) -> Option<f64> {
    let Some(text) = value.as_str() else { return number(value) };
    let text = text.trim_matches(is_space);
    // Rust reads the same spellings of infinity and NaN; Python takes underscores between digits too.
    text.replace('_', "").parse().ok()
}

fn int(_: &State, args: &[Value]) -> Result<Value> {
    let [value, otherwise, base] = bind("int", args, ["value", "default", "base"])?;
    let value = value.unwrap_or_default();
    defined(&value)?;
    let base = base.map_or(Ok(10), |base| int_of("int", &base))?;
    let whole = match value.as_str() {
        Some(text) => parse_int(text.trim_matches(is_space), base),
        None => integer(&value),
    };
    let whole = whole.or_else(|| {
        let real = to_float(&value)?;
        (real.is_finite() && real.abs() < 1e38).then_some(real.trunc() as i128)
    });
    Ok(whole.map_or(otherwise.unwrap_or(Value::from(0)), from_integer))
}

fn parse_int(text: &str, base: i64) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (if text.starts_with('-') { -1 } else { 1 }, rest),
        None => (1, text),
    };
    let small = digits.to_lowercase().replace('_', "");
    let prefix = |mark| small.strip_prefix(mark);
    let (base, digits) = match base {
        16 | 0 if prefix("0x").is_some() => (16, prefix("0x")?),
        8 | 0 if prefix("0o").is_some() => (8, prefix("0o")?),
        2 | 0 if prefix("0b").is_some() => (2, prefix("0b")?),
        0 => (10, small.as_str()),
        2..=36 => (base as u32, small.as_str()),
        _ => return None,
    };
    (!digits.starts_with(['-', '+'])).then(|| i128::from_str_radix(digits, base).ok()).flatten().map(|n| n * sign)
}

fn round(_: &State, args: &[Value]) -> Result<Value> {
    let [value, precision, method] = bind("round", args, ["value", "precision", "method"])?;
    let value = value.unwrap_or_default();
    let places = precision.map_or(Ok(0), |places| int_of("round", &places))?.clamp(-400, 400);
    let Some(real) = number(&value) else {
        defined(&value)?;
        return fail(format!("type {} doesn't define __round__ method", type_name(&value)));
    };
    let scale = 10f64.powi(places as i32);
    Ok(match method.map_or("common".to_string(), |method| text(&method)).as_str() {
        "common" if integer(&value).is_some() && places >= 0 => value,
        // Rust writes the exact value rounded half to even, as Python rounds it.
        "common" if places >= 0 => Value::from(format!("{real:.*}", places as usize).parse::<f64>().unwrap_or(real)),
        "common" => {
            let rounded = (real * scale).round_ties_even() / scale;
            if integer(&value).is_some() { from_integer(rounded as i128) } else { Value::from(rounded) }
        }
        "ceil" => Value::from((real * scale).ceil() / scale),
        "floor" => Value::from((real * scale).floor() / scale),
        _ => return fail("method must be common, ceil or floor"),
    })
}

fn extreme(name: &str, args: &[Value], wanted: std::cmp::Ordering) -> Result<Value> {
    let [value, exact, by] = bind(name, args, ["value", "case_sensitive", "attribute"])?;
    let exact = exact.is_some_and(|exact| exact.is_true());
    let key = |item: &Value| folded(by.as_ref().map_or(item.clone(), |by| look(item, by)), exact);
    let mut best: Option<Value> = None;
    for item in items(&value.unwrap_or_default())? {
        let better = match &best {
            None => true,
            Some(best) => order(&key(&item), &key(best))? == wanted,
        };
        if better {
            best = Some(item);
        }
    }
    Ok(best.unwrap_or_default())
}

/// Jinja's `map`, `select` and their like take what counts as false for an empty list.
fn items_if_any(value: &Value) -> Result<Vec<Value>> {
    if value.is_true() { items(value) } else { Ok(Vec::new()) }
}

fn map(state: &State, args: &[Value]) -> Result<Value> {
    let (named, placed) = split(args);
    let list = items_if_any(&placed[0])?;
    let by = named.as_ref().map(|named| named.get_attr("attribute")).transpose()?.filter(|by| !by.is_undefined());
    if let (Some(by), 1) = (by, placed.len()) {
        let otherwise = named.map(|named| named.get_attr("default")).transpose()?.unwrap_or_default();
        let found = list.iter().map(|item| {
            let found = look(item, &by);
            if found.is_undefined() { otherwise.clone() } else { found }
        });
        return Ok(generator(found.collect()));
    }
    let [_, filter, rest @ ..] = placed else { return fail("map requires a filter argument") };
    let filter = str_of("map", filter)?;
    let changed = list.into_iter().map(|item| {
        let mut all = vec![item];
        all.extend(rest.iter().cloned());
        all.extend(named.clone());
        state.apply_filter(&filter, &all)
    });
    Ok(generator(changed.collect::<Result<_>>()?))
}

/// `select`, `reject` and, of an attribute, `selectattr`, `rejectattr`.
fn select(state: &State, args: &[Value], of_attribute: bool, keep: bool) -> Result<Value> {
    let (placed, rest) = match (of_attribute, args) {
        (true, [_, by, rest @ ..]) => (Some(by), rest),
        (true, _) => return fail("Missing parameter for attribute name"),
        _ => (None, &args[1..]),
    };
    let mut kept = Vec::new();
    for item in items_if_any(&args[0])? {
        let subject = placed.map_or(item.clone(), |by| look(&item, by));
        let holds = match rest {
            [] => subject.is_true(),
            [test, more @ ..] => {
                let test = str_of("select", test)?;
                let mut all = vec![subject];
                all.extend(more.iter().cloned());
                state.perform_test(&test, &all)?
            }
        };
        if holds == keep {
            kept.push(item);
        }
    }
    Ok(generator(kept))
}

fn truncate(_: &State, args: &[Value]) -> Result<Value> {
    let [value, most, kill, end, leeway] = bind("truncate", args, ["s", "length", "killwords", "end", "leeway"])?;
    let whole = text(&value.unwrap_or_default());
    let most = most.map_or(Ok(255), |most| int_of("truncate", &most))?;
    let leeway = leeway.filter(|leeway| !leeway.is_none()).map_or(Ok(5), |leeway| int_of("truncate", &leeway))?;
    let end = end.map_or("...".to_string(), |end| text(&end));
    let kept = most - end.chars().count() as i64;
    if kept < 0 || leeway < 0 {
        return fail(format!("expected length >= {}, got {most}", end.chars().count()));
    }
    if whole.chars().count() as i64 <= most.saturating_add(leeway) {
        return Ok(Value::from(whole));
    }
    let part: String = whole.chars().take(kept as usize).collect();
    let part = match kill.is_some_and(|kill| kill.is_true()) {
        true => part.as_str(),
        false => part.rsplit_once(' ').map_or(part.as_str(), |(before, _)| before),
    };
    Ok(Value::from(part.to_string() + &end))
}

/// Percent-encoding of everything but letters, digits, `_.-~` and, outside of queries, `/`.
fn quoted(text: &str, query: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' if query => out.push('+'),
            b'/' if !query => out.push('/'),
            _ if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Python's textwrap of each line: words and the spaces between them fill rows, whose outer spaces are dropped.
fn wordwrap(state: &State, args: &[Value]) -> Result<Value> {
    let [value, width, long, by, _] =
        bind("wordwrap", args, ["s", "width", "break_long_words", "wrapstring", "break_on_hyphens"])?;
    let width = width.map_or(Ok(79), |width| int_of("wordwrap", &width))?.max(1) as usize;
    let breaks = long.is_none_or(|long| long.is_true());
    let by = by.filter(|by| !by.is_none()).map_or("\n".to_string(), |by| text(&by));
    let whole = Value::from(text(&value.unwrap_or_default()));
    let mut rows: Vec<String> = Vec::new();
    for line in items(&methods::call(state, &whole, "splitlines", &[])?)? {
        let letters: Vec<char> = text(&line).chars().collect();
        let mut row: Vec<char> = Vec::new();
        let mut full: Vec<String> = Vec::new();
        let mut finish = |row: &mut Vec<char>| {
            let kept: String = row.drain(..).collect();
            full.push(kept.trim_end_matches(is_space).to_string());
        };
        for word in letters.chunk_by(|a, b| is_space(*a) == is_space(*b)) {
            let mut word = word;
            if row.len() + word.len() > width && breaks && word.len() > width && !is_space(word[0]) {
                while word.len() + row.len() > width {
                    let (part, rest) = word.split_at(width - row.len().min(width - 1));
                    row.extend(part);
                    finish(&mut row);
                    word = rest;
                }
            } else if row.len() + word.len() > width && !row.is_empty() {
                finish(&mut row);
            }
            if !(row.is_empty() && is_space(word.first().copied().unwrap_or(' '))) {
                row.extend(word);
            }
        }
        if !row.is_empty() {
            finish(&mut row);
        }
        rows.push(full.join(&by));
    }
    Ok(Value::from(rows.join(&by)))
}
