//! Jinja's tests (`x is …`) as jinja2 has them.

use super::operators::{arithmetic, compare, contains};
use super::value::*;
use minijinja::value::{Value, ValueKind};
use minijinja::Environment;

pub fn register(env: &mut Environment) {
    for (names, operator) in [
        (["eq", "equalto", "=="], "%=="),
        (["ne", "!=", "!="], "%!="),
        (["lt", "lessthan", "<"], "%<"),
        (["le", "<=", "<="], "%<="),
        (["gt", "greaterthan", ">"], "%>"),
        (["ge", ">=", ">="], "%>="),
    ] {
        for name in names {
            env.add_test(name, move |a: Value, b: Value| compare(operator, &a, &b));
        }
    }
    env.add_test("in", |item: Value, container: Value| contains(&container, &item));
    env.add_test("sameas", |a: Value, b: Value| type_name(&a) == type_name(&b) && equal(&a, &b));
    env.add_test("defined", |x: Value| !x.is_undefined());
    env.add_test("undefined", |x: Value| x.is_undefined());
    env.add_test("none", |x: Value| x.is_none());
    env.add_test("boolean", |x: Value| x.kind() == ValueKind::Bool);
    env.add_test("true", |x: Value| x.kind() == ValueKind::Bool && x.is_true());
    env.add_test("false", |x: Value| x.kind() == ValueKind::Bool && !x.is_true());
    env.add_test("integer", |x: Value| x.is_integer());
    env.add_test("float", |x: Value| type_name(&x) == "float");
    env.add_test("number", |x: Value| matches!(x.kind(), ValueKind::Number | ValueKind::Bool));
    env.add_test("string", |x: Value| x.kind() == ValueKind::String);
    env.add_test("mapping", |x: Value| x.kind() == ValueKind::Map);
    env.add_test("iterable", |x: Value| items_exist(&x) || x.is_undefined());
    env.add_test("sequence", |x: Value| {
        matches!(x.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined)
    });
    env.add_test("callable", |x: Value| matches!(x.kind(), ValueKind::Plain | ValueKind::Undefined));
    env.add_test("escaped", |x: Value| x.is_safe());
    env.add_test("lower", |x: Value| letters(&x, char::is_lowercase, char::is_uppercase));
    env.add_test("upper", |x: Value| letters(&x, char::is_uppercase, char::is_lowercase));
    env.add_test("odd", |x: Value| rest_is(&x, 2, 1));
    env.add_test("even", |x: Value| rest_is(&x, 2, 0));
    env.add_test("filter", |name: Value| super::filters::exists(&text(&name)));
    env.add_test("divisibleby", |x: Value, by: Value| {
        Ok::<_, minijinja::Error>(equal(&arithmetic("%", &x, &by)?, &Value::from(0)))
    });
}

fn items_exist(x: &Value) -> bool {
    matches!(x.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Iterable)
}

fn letters(x: &Value, wanted: fn(char) -> bool, other: fn(char) -> bool) -> bool {
    let text = text(x);
    text.chars().any(wanted) && !text.chars().any(other)
}

fn rest_is(x: &Value, by: i64, rest: i64) -> Result<bool> {
    Ok(equal(&arithmetic("%", x, &Value::from(by))?, &Value::from(rest)))
}
