//! Python's operators, attributes and subscripts, as functions that the rewritten template calls.

use super::methods;
use super::value::*;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};
use std::cmp::Ordering;

/// Elements and characters that a repetition may have: more than any prompt, and a quick refusal of `'a' * 10**10`.
const MAXIMUM_REPEATED: i128 = 100_000_000;

pub fn register(env: &mut Environment) {
    for name in ["%==", "%!=", "%<", "%<=", "%>", "%>=", "%in", "%not in"] {
        env.add_function(name, move |a: Value, b: Value| compare(name, &a, &b));
    }
    env.add_function("%compare", |args: minijinja::value::Rest<Value>| -> Result<bool> {
        // left, operator, right, operator, right …
        for step in args.windows(3).step_by(2) {
            if !compare(step[1].as_str().unwrap_or_default(), &step[0], &step[2])? {
                return Ok(false);
            }
        }
        Ok(true)
    });
    for name in ["%+", "%-", "%*", "%/", "%//", "%%", "%**"] {
        env.add_function(name, move |a: Value, b: Value| arithmetic(&name[1..], &a, &b));
    }
    // Texts marked as safe are joined as they are, since chat templates do not escape.
    env.add_function("%~", |a: Value, b: Value| text(&a) + &text(&b));
    env.add_function("%same", |a: Value| a);
    env.add_function("%negative", |a: Value| match (integer(&a), number(&a)) {
        (Some(whole), _) => Ok(from_integer(-whole)),
        (_, Some(real)) => Ok(Value::from(-real)),
        _ => {
            defined(&a)?;
            fail(format!("bad operand type for unary -: '{}'", type_name(&a)))
        }
    });
    env.add_function("%tuple", |args: minijinja::value::Rest<Value>| tuple(args.to_vec()));
    env.add_function("%iterate", |a: Value| -> Result<Value> {
        match a.kind() {
            // Characters as a list, since minijinja's loop does not see which one of a text is the last.
            ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => Ok(a),
            _ => items(&a).map(Value::from),
        }
    });
    env.add_function("%attribute", |of: Value, name: String, described: String| {
        // Names of Python's own are undefined, also in what is undefined.
        if of.is_undefined() && name.starts_with("__") {
            return Ok(Value::UNDEFINED);
        }
        reach(&of, &described)?;
        Ok::<_, Error>(attribute(&of, &name))
    });
    env.add_function("%item", |of: Value, key: Value, described: String| {
        reach(&of, &described)?;
        Ok::<_, Error>(subscript(&of, &key))
    });
    env.add_function("%slice", |of: Value, start: Value, stop: Value, step: Value| slice(&of, [start, stop, step]));
    env.add_function("%method", |state: &State, args: minijinja::value::Rest<Value>| {
        methods::call(state, &args[0], args[1].as_str().unwrap_or_default(), &args[2..])
    });
}

/// Refuses to look into an undefined value.
fn reach(of: &Value, described: &str) -> Result<()> {
    match of.is_undefined() {
        true => Err(Error::new(ErrorKind::UndefinedError, format!("'{described}' is undefined"))),
        false => Ok(()),
    }
}

/// `of.name` as Jinja has it: an attribute of the object, else its item, else undefined.
pub fn attribute(of: &Value, name: &str) -> Value {
    if methods::exists(of, name) {
        return Value::from_object(BoundMethod { of: of.clone(), name: name.to_string() });
    }
    if sort_of(of) == Some(Sort::Group) {
        let place = ["grouper", "list"].iter().position(|part| *part == name);
        return place.and_then(|at| of.get_item_by_index(at).ok()).unwrap_or_default();
    }
    match of.kind() {
        ValueKind::Map | ValueKind::Plain | ValueKind::Iterable => of.get_attr(name).unwrap_or_default(),
        _ => Value::UNDEFINED,
    }
}

/// `of[key]` as Jinja has it: an item, else the attribute of that name, else undefined.
pub fn subscript(of: &Value, key: &Value) -> Value {
    let found = match of.kind() {
        ValueKind::Map | ValueKind::Plain => of.get_item(key).unwrap_or_default(),
        ValueKind::Seq | ValueKind::String => match integer(key) {
            Some(at) => nth(of, at).unwrap_or_default(),
            None => Value::UNDEFINED,
        },
        _ => Value::UNDEFINED,
    };
    match (found.is_undefined(), key.as_str()) {
        (true, Some(name)) => attribute(of, name),
        _ => found,
    }
}

fn nth(of: &Value, at: i128) -> Option<Value> {
    let length = length(of).ok()? as i128;
    let at = if at < 0 { at + length } else { at };
    if !(0..length).contains(&at) {
        return None;
    }
    match of.as_str() {
        Some(text) => text.chars().nth(at as usize).map(|c| Value::from(c.to_string())),
        None => of.get_item_by_index(at as usize).ok(),
    }
}

fn slice(of: &Value, bounds: [Value; 3]) -> Result<Value> {
    defined(of)?;
    let whole = |value: &Value| -> Result<Option<i128>> {
        match (value.is_none(), integer(value)) {
            (true, _) => Ok(None),
            (_, Some(number)) => Ok(Some(number)),
            _ => fail("slice indices must be integers or None"),
        }
    };
    let (start, stop, step) = (whole(&bounds[0])?, whole(&bounds[1])?, whole(&bounds[2])?.unwrap_or(1));
    if step == 0 {
        return fail("slice step cannot be zero");
    }
    let (list, count): (Vec<Value>, usize) = match of.kind() {
        ValueKind::Seq => (of.try_iter()?.collect(), length(of)?),
        ValueKind::String => (Vec::new(), length(of)?),
        _ => return fail(format!("'{}' object cannot be sliced", type_name(of))),
    };
    let length = count as i128;
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place = |bound: Option<i128>, otherwise: i128| match bound {
        None => otherwise,
        Some(at) if at < 0 => (at + length).max(lowest),
        Some(at) => at.min(highest),
    };
    let first = place(start, if step > 0 { lowest } else { highest });
    let end = place(stop, if step > 0 { highest } else { lowest });
    let mut taken = Vec::new();
    let mut at = first;
    while (step > 0 && at < end) || (step < 0 && at > end) {
        taken.push(at as usize);
        at = at.saturating_add(step);
    }
    Ok(match of.as_str() {
        Some(text) => {
            let letters: Vec<char> = text.chars().collect();
            Value::from(taken.into_iter().map(|at| letters[at]).collect::<String>())
        }
        None => {
            let items: Vec<Value> = taken.into_iter().map(|at| list[at].clone()).collect();
            match sort_of(of) {
                Some(sort) => Value::from_object(Sequence { sort, items }),
                None => Value::from(items),
            }
        }
    })
}

pub fn contains(container: &Value, item: &Value) -> Result<bool> {
    match container.kind() {
        ValueKind::Undefined => Ok(false),
        ValueKind::String => match item.as_str() {
            Some(part) => Ok(container.as_str().unwrap_or_default().contains(part)),
            None => fail(format!("'in <string>' requires string as left operand, not {}", type_name(item))),
        },
        ValueKind::Map => match item.kind() {
            ValueKind::Map => fail("unhashable type: 'dict'"),
            ValueKind::Seq if type_name(item) == "list" => fail("unhashable type: 'list'"),
            _ => Ok(container.try_iter()?.any(|key| equal(&key, item))),
        },
        ValueKind::Seq | ValueKind::Iterable => Ok(container.try_iter()?.any(|one| equal(&one, item))),
        _ => fail(format!("argument of type '{}' is not iterable", type_name(container))),
    }
}

pub fn compare(name: &str, a: &Value, b: &Value) -> Result<bool> {
    Ok(match name {
        "%==" => equal(a, b),
        "%!=" => !equal(a, b),
        "%in" => contains(b, a)?,
        "%not in" => !contains(b, a)?,
        _ => {
            if [a, b].iter().any(|value| number(value).is_some_and(f64::is_nan)) {
                return Ok(false);
            }
            let found = order(a, b)?;
            match name {
                "%<" => found == Ordering::Less,
                "%<=" => found != Ordering::Greater,
                "%>" => found == Ordering::Greater,
                _ => found != Ordering::Less,
            }
        }
    })
}

/// The text of a value with `&`, `<`, `>` and quotes as entities, as markupsafe does it.
pub fn escaped(value: &Value) -> String {
    if value.is_safe() {
        return text(value);
    }
    let mut out = String::new();
    for c in text(value).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

fn repeated(of: &Value, count: i128) -> Result<Value> {
    let count = count.max(0);
    if length(of)? as i128 * count > MAXIMUM_REPEATED {
        return fail(format!("a repetition of more than {MAXIMUM_REPEATED} elements"));
    }
    if let Some(text) = of.as_str() {
        return Ok(Value::from(text.repeat(count as usize)));
    }
    let once = items(of)?;
    let all: Vec<Value> = (0..count).flat_map(|_| once.iter().cloned()).collect();
    Ok(if sort_of(of) == Some(Sort::Tuple) { tuple(all) } else { Value::from(all) })
}

fn is_repeatable(value: &Value) -> bool {
    value.as_str().is_some() || matches!(type_name(value), "list" | "tuple")
}

pub fn arithmetic(op: &str, a: &Value, b: &Value) -> Result<Value> {
    defined(a)?;
    defined(b)?;
    let unsupported = || {
        fail(format!("unsupported operand type(s) for {op}: '{}' and '{}'", type_name(a), type_name(b)))
    };
    match op {
        "+" if a.as_str().is_some() && b.as_str().is_some() => {
            return Ok(match a.is_safe() || b.is_safe() {
                true => Value::from_safe_string(escaped(a) + &escaped(b)),
                false => Value::from(text(a) + &text(b)),
            });
        }
        "+" if a.as_str().is_some() => {
            return fail(format!("can only concatenate str (not \"{}\") to str", type_name(b)));
        }
        "+" if is_repeatable(a) && type_name(a) == type_name(b) => {
            let mut all = items(a)?;
            all.extend(items(b)?);
            return Ok(if sort_of(a) == Some(Sort::Tuple) { tuple(all) } else { Value::from(all) });
        }
        "*" if is_repeatable(a) => return integer(b).map_or_else(unsupported, |count| repeated(a, count)),
        "*" if is_repeatable(b) => return integer(a).map_or_else(unsupported, |count| repeated(b, count)),
        "%" if a.as_str().is_some() => return methods::percent(a.as_str().unwrap_or_default(), b),
        _ => {}
    }
    if let (Some(x), Some(y)) = (integer(a), integer(b)) {
        let whole = |result: Option<i128>| {
            result.map_or_else(|| fail(format!("the result of {op} is too large")), |n| Ok(from_integer(n)))
        };
        match op {
            "+" => return whole(x.checked_add(y)),
            "-" => return whole(x.checked_sub(y)),
            "*" => return whole(x.checked_mul(y)),
            "//" | "%" if y == 0 => return fail("integer division or modulo by zero"),
            "//" => return whole(Some(x.div_euclid(y) - ((y < 0 && x.rem_euclid(y) != 0) as i128))),
            "%" => {
                let rest = x % y;
                return whole(Some(if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest }));
            }
            "**" if y >= 0 => return whole(u32::try_from(y).ok().and_then(|power| x.checked_pow(power))),
            _ => {}
        }
    }
    let (Some(x), Some(y)) = (number(a), number(b)) else { return unsupported() };
    Ok(Value::from(match op {
        "+" => x + y,
        "-" => x - y,
        "*" => x * y,
        "/" | "//" | "%" if y == 0.0 => return fail("division by zero"),
        "/" => x / y,
        "//" => (x / y).floor(),
        "%" => x - y * (x / y).floor(),
        _ => x.powf(y),
    }))
}
