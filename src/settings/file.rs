//! The file as a layer: strict TOML, every value with its line and column.

use std::io::ErrorKind;
use std::path::PathBuf;

use config::{Map, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::{Error, may_be_secret, quote};
use super::key_names::{self, ONLY_IN_THE_FILE, section_of};
use super::layer::Layer;
use super::sources::Sources;
use crate::model::AppName;
use crate::secret_file::{self, Accept, ReadError};

/// The file that the sources name, or nothing if they name none.
pub(super) fn load(sources: &Sources) -> Result<Layer, Error> {
    let variable =
        || sources.environment.non_empty("GHTOKEND_CONFIG").map(|path| PathBuf::from(path.expose()));
    let (path, required) = match (sources.file.clone().or_else(variable), &sources.fallback) {
        (Some(path), _) => (path, true),
        (None, Some(path)) => (path.clone(), false),
        (None, None) => return Ok(Layer::default()),
    };
    let name = path.display().to_string();
    match secret_file::read(&path, Accept::Stream, MAX_FILE_BYTES) {
        Ok(contents) => {
            let text = contents.text().map_err(|_| Error::new(name.as_str(), "is not UTF-8 text"))?;
            Document { name: Some(&name), text }.parse()
        }
        Err(ReadError::Unreadable(error)) if error.kind() == ErrorKind::NotFound && !required => {
            Ok(Layer::default())
        }
        Err(error) => Err(Error::new(name, error.to_string())),
    }
}

/// The documented defaults are the defaults: they cannot drift apart.
pub(super) fn defaults() -> Result<Layer, Error> {
    Document { name: None, text: include_str!("../../config/ghtokend.toml") }.parse()
}

type Name<'a> = Spanned<DeString<'a>>;

struct Document<'a> {
    /// `None` for the built-in defaults.
    name: Option<&'a str>,
    text: &'a str,
}

impl Document<'_> {
    fn parse(&self) -> Result<Layer, Error> {
        let table = DeTable::parse(self.text).map_err(|error| {
            // Only its message: the rest of it quotes the line, which may hold a secret.
            let at = self.position(error.span().map_or(0, |span| span.start));
            Error::new(at, format!("is not TOML: {}", error.message().replace('\n', ", ")))
        })?;
        let mut layer = Layer::default();
        self.collect("", table.get_ref(), &mut layer)?;
        Ok(layer)
    }

    fn collect(&self, section: &str, table: &DeTable<'_>, layer: &mut Layer) -> Result<(), Error> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            self.check_app_name(section, name)?;
            let key = match section {
                "" => name.get_ref().to_string(),
                _ => format!("{section}.{}", name.get_ref()),
            };
            match value.get_ref() {
                DeValue::Table(inner) if key_names::has_section(&key) => {
                    if inner.is_empty() && section == "apps" {
                        let problem = "is empty: set its id and private_key_file";
                        return Err(Error::new(self.header(name), format!("[{key}] {problem}")));
                    }
                    self.collect(&key, inner, layer)?;
                }
                _ if key_names::has(&key) => {
                    let (origin, kind) = self.value(&key, name, value)?;
                    layer.insert(key, &origin, kind);
                }
                value => return Err(self.unknown(&key, name, value)),
            }
        }
        Ok(())
    }

    fn check_app_name(&self, section: &str, name: &Name<'_>) -> Result<(), Error> {
        if section != "apps" || name.get_ref().parse::<AppName>().is_ok() {
            return Ok(());
        }
        let problem = "is not an app's name: a-z, 0-9 and _ are allowed";
        Err(Error::new(self.header(name), format!("[apps.NAME]: {} {problem}", quote(name.get_ref()))))
    }

    fn unknown(&self, key: &str, name: &Name<'_>, value: &DeValue<'_>) -> Error {
        let shown = shown(key);
        let problem = if key_names::has_section(key) {
            format!("{key} is a section: write [{key}] and its keys below")
        } else if value.is_table() && !key.contains('.') {
            format!(
                "{shown} is not a known section; the nearest one is [{}]",
                key_names::nearest_section(key)
            )
        } else {
            format!("{shown} is not a known key; the nearest one is {}", key_names::nearest(key))
        };
        Error::new(self.header(name), problem)
    }

    fn value(
        &self,
        key: &str,
        name: &Name<'_>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(String, ValueKind), Error> {
        let is_tables = ONLY_IN_THE_FILE.contains(&key);
        let origin = match self.name {
            None => format!("the default of {key}"),
            Some(_) if is_tables => self.header(name),
            Some(_) => format!("{}: {key}", self.position(value.span().start)),
        };
        let item = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
            DeValue::Table(inner) if is_tables => {
                let origin = format!("{}: [[{key}]]", self.position(item.span().start));
                Ok(Value::new(Some(&origin), ValueKind::Table(self.members(key, inner)?)))
            }
            _ => self.value(key, name, item).map(|(origin, kind)| Value::new(Some(&origin), kind)),
        };
        let kind = match value.get_ref() {
            DeValue::String(text) => ValueKind::String(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(ValueKind::I64)
                .map_err(|_| Error::new(&origin, "is too large a number for any key"))?,
            DeValue::Float(_) => ValueKind::Float(f64::NAN),
            DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
            DeValue::Datetime(_) => return Err(Error::new(&origin, "is a date, and no key takes one")),
            DeValue::Array(items) => ValueKind::Array(items.iter().map(item).collect::<Result<_, _>>()?),
            DeValue::Table(_) if is_tables => ValueKind::Array(vec![Value::default()]),
            DeValue::Table(inner) if ONLY_IN_THE_FILE.contains(&section_of(key)) => {
                ValueKind::Table(self.members(key, inner)?)
            }
            DeValue::Table(_) => return Err(Error::new(&origin, "is a table where a plain value belongs")),
        };
        Ok((origin, kind))
    }

    /// The members of a table that is a value, each with its own place.
    fn members(&self, key: &str, table: &DeTable<'_>) -> Result<Map<String, Value>, Error> {
        let member = |(name, value): (&Name<'_>, &Spanned<DeValue<'_>>)| {
            let key = format!("{key}.{}", shown(name.get_ref()));
            let (_, kind) = self.value(&key, name, value)?;
            let origin = format!("{}: {key}", self.position(name.span().start));
            Ok((name.get_ref().to_string(), Value::new(Some(&origin), kind)))
        };
        table.iter().map(member).collect()
    }

    /// Where a name stands, or the header `[…]` or `[[…]]` that it is part of.
    fn header(&self, name: &Name<'_>) -> String {
        let start = name.span().start;
        let line = self.text[..start].rfind('\n').map_or(0, |end| end + 1);
        let before = &self.text[line..start];
        let header = before.trim_start().starts_with('[');
        let indent = before.len() - before.trim_start().len();
        self.position(if header { line + indent } else { start })
    }

    /// `file:line:column`, both from 1; columns are characters.
    fn position(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&char| char != '\n').count() + 1;
        format!("{}:{line}:{column}", self.name.unwrap_or("built-in defaults"))
    }
}

/// A name, unless it may be a line of a private key: without quotes around it, that can pass for one.
fn shown(name: &str) -> &str {
    if may_be_secret(name) { "this" } else { name }
}

/// Thousands of apps.
const MAX_FILE_BYTES: usize = 4 << 20;
