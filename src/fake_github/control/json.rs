//! Request bodies, and error messages that name the invalid field and what it may be.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Parses `text`, which may be empty for `{}`. The error says what is wrong with it.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let text = if text.is_empty() { b"{}" } else { text };
    let value: Value =
        serde_json::from_slice(text).map_err(|error| format!("the body is not JSON: {error}"))?;
    T::deserialize(&value).map_err(|error| {
        let error = error.to_string();
        match invalid_field(&value, &error) {
            Some(field) => format!("`{field}`: {}", in_words(&error)),
            None => in_words(&error),
        }
    })
}

/// The one field whose value `error` is about. serde names fields that are unknown or missing itself, but of a
/// wrong value it says only what it is.
fn invalid_field<'a>(value: &'a Value, error: &str) -> Option<&'a str> {
    let (what, _) = error.split_once(", expected")?;
    let (_, found) = what.split_once(": ").filter(|(how, _)| how.starts_with("invalid "))?;
    let mut named = Vec::new();
    fields(value, &mut |name, value| {
        if as_serde_names(value) == found {
            named.push(name);
        }
    });
    match named[..] {
        [name] => Some(name),
        _ => None,
    }
}

fn fields<'a>(value: &'a Value, visit: &mut impl FnMut(&'a str, &'a Value)) {
    for (name, value) in value.as_object().into_iter().flatten() {
        visit(name, value);
        fields(value, visit);
    }
}

fn as_serde_names(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("boolean `{value}`"),
        Value::Number(value) if value.is_f64() => format!("floating point `{value}`"),
        Value::Number(value) => format!("integer `{value}`"),
        Value::String(value) => format!("string {value:?}"),
        Value::Array(_) => "sequence".to_owned(),
        Value::Object(_) => "map".to_owned(),
    }
}

/// `error` with the names of Rust types in words.
fn in_words(error: &str) -> String {
    let unsigned = ["u16", "u32", "u64", "usize"];
    let words = unsigned.iter().fold(error.to_owned(), |text, name| {
        text.replace(&format!("expected {name}"), "expected a whole number, not negative")
    });
    words.replace("expected i64", "expected a whole number").replace("expected f64", "expected a number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_github::faults::fault::Fault;

    fn check(text: &str, expected: &str) {
        assert_eq!(parse::<Fault>(text.as_bytes()).unwrap_err(), expected, "{text}");
    }

    #[test]
    fn error_names_invalid_field_at_any_depth() {
        check(
            r#"{"times": "x", "effect": {"kind": "stall"}}"#,
            "`times`: invalid type: string \"x\", expected a whole number, not negative",
        );
        check(
            r#"{"path": "/", "effect": {"kind": "status", "body": "", "status": "x"}}"#,
            "`status`: invalid type: string \"x\", expected a whole number, not negative",
        );
        check(
            r#"{"method": [], "effect": {"kind": "html", "status": 503}}"#,
            "`method`: invalid type: sequence, expected a string",
        );
        check(r#"{"times": 1}"#, "missing field `effect`");
        check("{", "the body is not JSON: EOF while parsing an object at line 1 column 1");
    }
}
