//! Chat templates: minijinja as parser and machine, with the meaning that jinja2 and transformers give to templates.

mod arguments;
mod filters;
mod json;
mod methods;
mod operators;
mod rewrite;
mod tests;
mod time;
mod value;

use minijinja::machinery::{make_string_output, parse, CodeGenerator, Instructions, Vm, WhitespaceConfig};
use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, Value};
use minijinja::{AutoEscape, Environment, Error, State, UndefinedBehavior};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use value::{fail, Result, Sequence, Sort};

/// Numbers that `range()` may give, as in Jinja's sandbox.
const MAXIMUM_RANGE: usize = 100_000;
/// Macros, blocks and loops that may call each other; the stack of the module has room for these.
const MAXIMUM_DEPTH: usize = 150;

/// A compiled template. Its parts borrow from a source and an environment that are never freed: an instance of the
/// module holds one template.
pub struct Template {
    env: &'static Environment<'static>,
    instructions: Instructions<'static>,
    blocks: BTreeMap<&'static str, Instructions<'static>>,
}

impl Template {
    pub fn new(source: &str) -> std::result::Result<Template, String> {
        let source: &'static str = Box::leak(prepared(source).into_boxed_str());
        let env: &'static Environment<'static> = Box::leak(Box::new(environment()));
        let whitespace = WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };
        let tree = parse(source, "", Default::default(), whitespace).map_err(|error| words(&error))?;
        let tree = rewrite::Rewriter { source }.statement(&tree).map_err(|error| words(&error))?;
        let mut generator = CodeGenerator::new("", source);
        generator.compile_stmt(&tree);
        let (instructions, blocks) = generator.finish();
        Ok(Template { env, instructions, blocks })
    }

    /// The text for the variables in a JSON object. `now` is the local time, for strftime_now().
    pub fn render(&self, variables: &str) -> std::result::Result<String, String> {
        let variables: serde_json::Value = serde_json::from_str(variables).map_err(|error| error.to_string())?;
        let mut out = String::new();
        let root = Value::from_serialize(variables);
        Vm::new(self.env)
            .eval(&self.instructions, root, &self.blocks, &mut make_string_output(&mut out), AutoEscape::None)
            .map_err(|error| words(&error))?;
        Ok(out)
    }
}

/// Line ends as Jinja reads them, and the tag of transformers that marks what an assistant said: to a rendering it is a
/// scope and nothing else.
fn prepared(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        rest = tag;
        let inner = tag.trim_start_matches(['-', '+']).trim_start();
        for (name, instead) in [("endgeneration", "endwith"), ("generation", "with")] {
            let Some(after) = inner.strip_prefix(name) else { continue };
            if after.trim_start().trim_start_matches(['-', '+']).starts_with("%}") {
                out.push_str(&tag[..tag.len() - inner.len()]);
                out.push_str(instead);
                rest = after;
            }
            break;
        }
    }
    out + rest
}

/// An error's own words and its line, without minijinja's name of the kind.
fn words(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

fn environment() -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_recursion_limit(MAXIMUM_DEPTH);
    env.set_formatter(|out, state, value| {
        let text = match state.auto_escape() {
            AutoEscape::None => value::text(value),
            _ => operators::escaped(value),
        };
        out.write_str(&text).map_err(Error::from)
    });
    filters::register(&mut env);
    tests::register(&mut env);
    operators::register(&mut env);
    // `self` exists in each template of Jinja, though only its blocks are of use.
    env.add_global("self", Value::from_serialize(BTreeMap::<String, ()>::new()));
    env.add_function("range", |args: Rest<Value>| range(&args));
    env.add_function("dict", |args: Rest<Value>| {
        let (named, placed) = arguments::split(&args);
        let mut all = Vec::new();
        for source in placed.iter().chain(&named) {
            for key in value::items(source)? {
                let (key, value) = match source.kind() {
                    minijinja::value::ValueKind::Map => (key.clone(), source.get_item(&key)?),
                    _ => (key.get_item_by_index(0)?, key.get_item_by_index(1)?),
                };
                all.push((key, value));
            }
        }
        Ok::<_, Error>(all.into_iter().collect::<Value>())
    });
    env.add_function("namespace", |args: Rest<Value>| {
        let (named, placed) = arguments::split(&args);
        let start = placed.first().or(named.as_ref()).cloned();
        for name in start.iter().chain(&named).flat_map(Value::try_iter).flatten() {
            if name.as_str().is_some_and(|name| name.starts_with('_')) {
                return fail(format!("a namespace cannot have an attribute '{name}' that begins with _"));
            }
        }
        minijinja::functions::namespace(start)
    });
    env.add_function("cycler", |args: Rest<Value>| {
        Value::from_object(Cycler { items: args.to_vec(), at: AtomicUsize::new(0) })
    });
    env.add_function("joiner", minijinja_contrib::globals::joiner);
    env.add_function("raise_exception", |message: Option<Value>, rest: Kwargs| -> Result<Value> {
        let message = message.or_else(|| rest.get("message").ok());
        fail(message.map_or(String::new(), |message| value::text(&message)))
    });
    env.add_function("strftime_now", time::strftime_now);
    env
}

/// Jinja's `cycler`: each `next()` gives the next of its items.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = self.at.load(Ordering::Relaxed) % self.items.len().max(1);
        if key.as_str() == Some("current") { self.items.get(at).cloned() } else { None }
    }
    fn call_method(self: &Arc<Self>, _: &State<'_, '_>, name: &str, _: &[Value]) -> Result<Value> {
        match name {
            "next" => {
                let at = self.at.fetch_add(1, Ordering::Relaxed) % self.items.len().max(1);
                Ok(self.items.get(at).cloned().unwrap_or_default())
            }
            "reset" => {
                self.at.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => fail(format!("a cycler has no method '{name}'")),
        }
    }
}

fn range(args: &[Value]) -> Result<Value> {
    let (start, stop, step) = match args {
        [stop] => (0, arguments::int_of("range", stop)?, 1),
        [start, stop] => (arguments::int_of("range", start)?, arguments::int_of("range", stop)?, 1),
        [start, stop, step] => (
            arguments::int_of("range", start)?,
            arguments::int_of("range", stop)?,
            arguments::int_of("range", step)?,
        ),
        _ => return fail("range expected 1 to 3 arguments"),
    };
    if step == 0 {
        return fail("range() arg 3 must not be zero");
    }
    let distance = (stop as i128 - start as i128) * step.signum() as i128;
    let count = (distance + step.unsigned_abs() as i128 - 1) / step.unsigned_abs() as i128;
    if count > MAXIMUM_RANGE as i128 {
        return fail(format!("Range too big. The sandbox blocks ranges larger than {MAXIMUM_RANGE}."));
    }
    let items = (0..count.max(0)).map(|i| Value::from(start + i as i64 * step)).collect();
    Ok(Value::from_object(Sequence { sort: Sort::Range, items }))
}
