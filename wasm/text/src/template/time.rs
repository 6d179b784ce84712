//! `strftime_now`, with Python's directives.

use super::value::{fail, Result};
use chrono::format::{Item, StrftimeItems};
use chrono::NaiveDate;
use minijinja::value::Value;
use minijinja::State;

/// The local time, which the caller of a rendering hands on as numbers in `%now`.
pub fn strftime_now(state: &State, format: String) -> Result<String> {
    let parts: Vec<u32> = state
        .lookup("%now")
        .iter()
        .flat_map(Value::try_iter)
        .flatten()
        .filter_map(|part| part.as_usize().map(|part| part as u32))
        .collect();
    let [year, month, day, hour, minute, second, milli] = parts[..] else {
        return fail("strftime_now() has no time");
    };
    let now = NaiveDate::from_ymd_opt(year as i32, month, day)
        .and_then(|date| date.and_hms_milli_opt(hour, minute, second, milli));
    let Some(now) = now else { return fail("strftime_now() has no time") };
    // Python counts microseconds where chrono counts nanoseconds, and a time without a zone has an empty one.
    let format = format.replace("%f", "%6f").replace("%Z", "").replace("%z", "");
    let items: Vec<Item> = StrftimeItems::new(&format).collect();
    if items.iter().any(|item| matches!(item, Item::Error)) {
        return fail(format!("strftime_now() does not know a directive of '{format}'"));
    }
    Ok(now.format_with_items(items.into_iter()).to_string())
}
