//! The stacked layers: the values of all sources, each with its origin.

use config::{Config, Map, Source, Value, ValueKind};

use super::error::{Error, looks_like_key, quote};

/// The values of all sources.
pub(super) struct Values(Value);

impl Values {
    /// Stacks layers, the weakest first.
    pub(super) fn stack<L>(layers: impl IntoIterator<Item = L>) -> Result<Self, Error>
    where
        L: Source + Send + Sync + 'static,
    {
        let builder = layers.into_iter().fold(Config::builder(), |builder, layer| builder.add_source(layer));
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

    pub(super) fn section(&self, name: impl Into<String>) -> Section<'_> {
        Section { values: self, name: name.into() }
    }

    /// The names below a section.
    pub(super) fn names(&self, section: &str) -> Vec<&str> {
        let section = self.find(section).and_then(|item| entries(item.0));
        let mut names: Vec<&str> = section.into_iter().flat_map(Map::keys).map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// The values of one section.
pub(crate) struct Section<'a> {
    values: &'a Values,
    /// Such as `listen` or `apps.NAME`.
    pub(super) name: String,
}

impl<'a> Section<'a> {
    /// The value of a key; the defaults of `[apps.NAME]` are those of `[app]`.
    pub(super) fn get(&self, key: &str) -> Item<'a> {
        let own = self.values.find(&format!("{}.{key}", self.name));
        own.unwrap_or_else(|| self.values.get(&format!("app.{key}")))
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

    /// An error about this value.
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

    /// An id or a name: text, or a number written without quotes.
    pub(super) fn text_or_number(self) -> Result<String, Error> {
        match &self.0.kind {
            ValueKind::I64(number) => Ok(number.to_string()),
            _ => Ok(self.text()?.to_owned()),
        }
    }

    /// What the text, or a boolean as text, parses as.
    pub(super) fn parsed<T, E>(self, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        match &self.0.kind {
            ValueKind::String(text) => parse(text).ok(),
            ValueKind::Boolean(flag) => parse(if *flag { "true" } else { "false" }).ok(),
            _ => None,
        }
    }

    /// A number, or text of digits alone.
    pub(super) fn number(self) -> Option<u64> {
        match &self.0.kind {
            ValueKind::I64(number) => u64::try_from(*number).ok(),
            ValueKind::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        }
    }

    /// The values of a list; a single one stands for a list of one.
    pub(super) fn list(self) -> Result<Vec<Self>, Error> {
        let items: Vec<Self> = match &self.0.kind {
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
    pub(super) fn items(self) -> Result<Vec<Self>, Error> {
        match &self.0.kind {
            ValueKind::Array(items) => Ok(items.iter().map(Item).collect()),
            other => Err(self.error(format!("is {}, and a list is wanted", describe(other)))),
        }
    }

    /// The tables of an array of tables.
    pub(super) fn tables(self) -> Result<Vec<Self>, Error> {
        let items = match &self.0.kind {
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
    pub(super) fn members(self) -> Result<Vec<(&'a str, Self)>, Error> {
        let members = entries(self.0).ok_or_else(|| {
            let kind = describe(&self.0.kind);
            self.error(format!("is {kind}, and a table such as {{ contents = \"read\" }} is wanted"))
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

fn entries(value: &Value) -> Option<&Map<String, Value>> {
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

static NOTHING: std::sync::LazyLock<Value> = std::sync::LazyLock::new(Value::default);
/// The most that a number in TOML can be.
pub(super) const MAX_NUMBER: u64 = i64::MAX as u64;
