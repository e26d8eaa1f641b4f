//! The stacked layers, read key by key: each value is typed by its key, never guessed.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use config::{Config, Value, ValueKind};
use jiff::SignedDuration;

use super::error::{Error, looks_like_key, quote};
use super::layer::Layer;

/// What all sources together say.
pub(super) struct Values(Value);

impl Values {
    /// Stacks layers, the weakest first.
    pub(super) fn stack(layers: impl IntoIterator<Item = Layer>) -> Result<Self, Error> {
        let mut builder = Config::builder();
        for layer in layers {
            builder = builder.add_source(layer);
        }
        // Layers are in memory and their keys are known ones: `config` has nothing to object to.
        let stacked = builder.build().map_err(|_| Error::new("configuration", "cannot be put together"))?;
        Ok(Self(stacked.cache))
    }

    /// The value of a key. One that is set nowhere and has no default reads as nothing.
    pub(super) fn get(&self, key: &str) -> Item<'_> {
        self.find(key).unwrap_or(Item(&NOTHING))
    }

    /// The value of a key, if it is set or has a default.
    pub(super) fn find(&self, key: &str) -> Option<Item<'_>> {
        key.split('.').try_fold(&self.0, |value, name| entries(value)?.get(name)).map(Item)
    }

    /// The names below a section.
    pub(super) fn names(&self, section: &str) -> Vec<&str> {
        let section = entries(&self.0).and_then(|sections| sections.get(section));
        let mut names: Vec<&str> = section
            .and_then(entries)
            .into_iter()
            .flat_map(|entries| entries.keys().map(String::as_str))
            .collect();
        names.sort_unstable();
        names
    }
}

/// One value with its origin.
#[derive(Clone, Copy)]
pub(super) struct Item<'a>(&'a Value);

impl<'a> Item<'a> {
    /// `file:line:column: key`, variable, flag, or that it is a default.
    pub(super) fn origin(self) -> &'a str {
        self.0.origin().unwrap_or("configuration")
    }

    /// That this value is wrong, with its origin.
    pub(super) fn error(self, problem: impl Into<String>) -> Error {
        Error::new(self.origin(), problem)
    }

    /// Text as it stands.
    pub(super) fn text(self) -> Result<&'a str, Error> {
        match &self.0.kind {
            ValueKind::String(text) if looks_like_key(text) => {
                Err(self.error("is the text of a key or certificate: name the path of a file that holds it"))
            }
            ValueKind::String(text) => Ok(text),
            other => Err(self.error(format!("is {}, and text in quotes is wanted", describe(other)))),
        }
    }

    /// Text that is not empty, if any.
    pub(super) fn non_empty(self) -> Result<Option<&'a str>, Error> {
        Ok(Some(self.text()?).filter(|text| !text.is_empty()))
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(self, words: &[(&str, T)]) -> Result<T, Error> {
        let text = self.text()?;
        words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
            let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.error(format!("{} is not one of {}", quote(text), allowed.join(", ")))
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(self) -> Result<bool, Error> {
        match &self.0.kind {
            ValueKind::Boolean(flag) => Ok(*flag),
            ValueKind::String(text) if text == "true" => Ok(true),
            ValueKind::String(text) if text == "false" => Ok(false),
            _ => Err(self.error(format!("{} is not true or false", self.shown()))),
        }
    }

    /// A number within `range`.
    pub(super) fn number(self, range: RangeInclusive<u64>) -> Result<u64, Error> {
        let number = match &self.0.kind {
            ValueKind::I64(number) => u64::try_from(*number).ok(),
            ValueKind::String(text) => digits(text),
            _ => None,
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let allowed = match (range.start(), range.end()) {
                (least, &MOST) => format!("of at least {least}"),
                (least, most) => format!("from {least} to {most}"),
            };
            self.error(format!("{} is not a whole number {allowed}", self.shown()))
        })
    }

    /// An id or a name: text, or a number written without quotes.
    pub(super) fn text_or_number(self) -> Result<String, Error> {
        match &self.0.kind {
            ValueKind::I64(number) => Ok(number.to_string()),
            _ => Ok(self.text()?.to_owned()),
        }
    }

    /// A duration such as `"1h30m"`, a day at most: no token lives longer.
    pub(super) fn duration(self) -> Result<Duration, Error> {
        let parsed = match &self.0.kind {
            ValueKind::String(text) => text.parse::<SignedDuration>().ok(),
            _ => None,
        };
        let duration = parsed.and_then(|parsed| Duration::try_from(parsed).ok());
        duration.filter(|duration| *duration <= MAX_DURATION).ok_or_else(|| {
            let shape = "a duration such as \"500ms\", \"30s\" or \"1h30m\", at most 24h";
            self.error(format!("{} is not {shape}", self.shown()))
        })
    }

    /// A duration above zero.
    pub(super) fn timeout(self) -> Result<Duration, Error> {
        let duration = self.duration()?;
        if duration.is_zero() {
            return Err(self.error("is zero, so nothing could ever be done in time"));
        }
        Ok(duration)
    }

    /// A size such as `"64MiB"`, or a number of bytes.
    pub(super) fn bytes(self) -> Result<u64, Error> {
        let bytes = match &self.0.kind {
            ValueKind::I64(number) => u64::try_from(*number).ok(),
            ValueKind::String(text) => {
                let (number, unit) =
                    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
                let unit = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, bytes)| *bytes);
                digits(number).zip(unit).and_then(|(number, unit)| number.checked_mul(unit))
            }
            _ => None,
        };
        bytes.ok_or_else(|| {
            self.error(format!("{} is not a size such as \"512KiB\", \"64MiB\" or \"1GiB\"", self.shown()))
        })
    }

    /// A path, or `None` if it is empty.
    pub(super) fn path(self) -> Result<Option<PathBuf>, Error> {
        let Some(text) = self.non_empty()? else { return Ok(None) };
        if text.contains(|char: char| char.is_control()) {
            return Err(self.error("has a control character in it, such as a line end: a path is wanted"));
        }
        Ok(Some(text.into()))
    }

    /// The values of a list; a single one stands for a list of one.
    pub(super) fn list(self) -> Result<Vec<Item<'a>>, Error> {
        let items: Vec<Item<'a>> = match &self.0.kind {
            ValueKind::Array(items) => items.iter().map(Item).collect(),
            ValueKind::String(text) if text.is_empty() => Vec::new(),
            _ => vec![self],
        };
        for item in &items {
            if item.text()?.is_empty() {
                return Err(item.error("has an empty item in its list: remove it"));
            }
        }
        Ok(items)
    }

    /// The items of a list, of whatever kind.
    pub(super) fn items(self) -> Result<Vec<Item<'a>>, Error> {
        match &self.0.kind {
            ValueKind::Array(items) => Ok(items.iter().map(Item).collect()),
            other => Err(self.error(format!("is {}, and a list is wanted", describe(other)))),
        }
    }

    /// The tables of an array of tables.
    pub(super) fn tables(self) -> Result<Vec<Item<'a>>, Error> {
        let items: Vec<_> = match &self.0.kind {
            ValueKind::Nil => Vec::new(),
            ValueKind::Array(items) => items.iter().map(Item).collect(),
            _ => vec![self],
        };
        match items.iter().all(|item| entries(item.0).is_some()) {
            true => Ok(items),
            false => Err(self.error("[[prefetch]] is a list of tables: two brackets, and its keys below")),
        }
    }

    /// The members of a table, in the order of their names.
    pub(super) fn members(self) -> Result<Vec<(&'a str, Item<'a>)>, Error> {
        let members = entries(self.0).ok_or_else(|| {
            self.error(format!(
                "is {}, and a table such as {{ contents = \"read\" }} is wanted",
                describe(&self.0.kind)
            ))
        })?;
        let mut members: Vec<_> = members.iter().map(|(name, value)| (name.as_str(), Item(value))).collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        Ok(members)
    }

    /// Whether it is an array, such as of tables, with anything in it.
    pub(super) fn has_items(self) -> bool {
        !matches!(&self.0.kind, ValueKind::Nil)
            && !matches!(&self.0.kind, ValueKind::Array(items) if items.is_empty())
    }

    /// The value, for a message.
    pub(super) fn shown(self) -> String {
        match &self.0.kind {
            ValueKind::String(text) => quote(text),
            ValueKind::I64(number) => number.to_string(),
            ValueKind::Boolean(flag) => flag.to_string(),
            other => describe(other).into(),
        }
    }
}

fn entries(value: &Value) -> Option<&config::Map<String, Value>> {
    match &value.kind {
        ValueKind::Table(entries) => Some(entries),
        _ => None,
    }
}

fn describe(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "a boolean",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a number",
        ValueKind::Float(_) => "a fraction",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}

fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

static NOTHING: std::sync::LazyLock<Value> = std::sync::LazyLock::new(Value::default);
/// The most that a number in TOML can be.
pub(super) const MOST: u64 = i64::MAX as u64;
const MAX_DURATION: Duration = Duration::from_hours(24);
const UNITS: [(&str, u64); 5] = [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
