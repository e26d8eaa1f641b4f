//! One source of settings as flat, dotted keys, each value with its origin; and the keys that there are.

use config::{ConfigError, Map, Source, Value, ValueKind};

use super::error::Error;
use super::{Environment, Flag, file};
use crate::model::AppName;

/// The values that one source sets. Stacked by `config`, which keeps the origin of the value that wins.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer(Map<String, Value>);

impl Layer {
    pub(super) fn insert(&mut self, key: String, origin: &str, kind: ValueKind) {
        self.0.insert(key, Value::new(Some(&origin.to_owned()), kind));
    }

    /// `GHTOKEND_SECTION__KEY`. A name without `__` is not ours: Kubernetes makes such for services.
    pub(super) fn of_environment(environment: &Environment, known: &Known) -> Result<Self, Error> {
        let mut layer = Self::default();
        for (name, value) in environment.iter() {
            let Some(path) = name.strip_prefix(PREFIX).filter(|path| path.contains(SEPARATOR)) else {
                continue;
            };
            let key = path.to_ascii_lowercase().replace(SEPARATOR, ".");
            if ONLY_IN_THE_FILE.contains(&section_of(&key)) {
                let problem = format!("[[{}]] tables are only in the file", section_of(&key));
                return Err(Error::new(name, problem));
            }
            if !known.has(&key) {
                let nearest = known.nearest(&key).to_ascii_uppercase().replace('.', SEPARATOR);
                let problem = format!("is not a known key; the nearest one is {PREFIX}{nearest}");
                return Err(Error::new(name, problem));
            }
            layer.insert_text(known, key, name, value);
        }
        Ok(layer)
    }

    /// The names that everyone uses.
    pub(super) fn of_well_known(environment: &Environment, known: &Known) -> Self {
        let mut layer = Self::default();
        for (name, key) in WELL_KNOWN {
            if let Some(value) = environment.non_empty(name) {
                layer.insert_text(known, key.into(), name, value.expose());
            }
        }
        layer
    }

    /// Command-line flags.
    pub(super) fn of_flags(flags: &[Flag], known: &Known) -> Result<Self, Error> {
        let mut layer = Self::default();
        for flag in flags {
            if !known.has(flag.key) {
                return Err(Error::new(
                    flag.name,
                    format!("stands for {}, which is not a known key", flag.key),
                ));
            }
            layer.insert_text(known, flag.key.into(), flag.name, &flag.value);
        }
        Ok(layer)
    }

    fn insert_text(&mut self, known: &Known, key: String, origin: &str, text: &str) {
        let item = |text: &str| Value::new(Some(&origin.to_owned()), text.trim());
        let kind = match known.is_list(&key) {
            true if text.trim().is_empty() => ValueKind::Array(Vec::new()),
            true => ValueKind::Array(text.split(',').map(item).collect()),
            // Secrets mounted as variables often end with a newline.
            false => ValueKind::String(text.trim().into()),
        };
        self.insert(key, origin, kind);
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The keys that there are: those of the documented defaults, and `apps.NAME.*`.
#[derive(Debug)]
pub(super) struct Known {
    /// The defaults, as a layer below all others.
    pub(super) defaults: Layer,
}

impl Known {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self { defaults: file::defaults(DEFAULTS)? })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        match app_key(key) {
            Some((name, rest)) => {
                name.parse::<AppName>().is_ok() && (rest == "default" || self.has(&format!("app.{rest}")))
            }
            None => self.defaults.0.contains_key(key) || ONLY_IN_THE_FILE.contains(&key),
        }
    }

    /// Whether keys can follow this one after a dot.
    pub(super) fn has_section(&self, key: &str) -> bool {
        let app = key.strip_prefix("apps.").is_some_and(|name| !name.contains('.'));
        app || key == "apps" || self.defaults.0.keys().any(|known| section_of(known) == key)
    }

    /// The known key that looks most like `key`.
    pub(super) fn nearest(&self, key: &str) -> String {
        let (section, wanted) = match app_key(key) {
            Some((name, rest)) => (format!("apps.{name}."), format!("app.{rest}")),
            None => ("app.".into(), key.to_owned()),
        };
        let likeness = |known: &str| {
            // A known name in the wrong section is a likelier mistake than a wrong name in the right one.
            let same_name = known.rsplit('.').next() == wanted.rsplit('.').next();
            strsim::jaro_winkler(known, &wanted) + f64::from(u8::from(same_name))
        };
        let keys = self.defaults.0.keys().map(String::as_str);
        let nearest = keys.max_by(|a, b| likeness(a).total_cmp(&likeness(b)).then(b.cmp(a)));
        let nearest = nearest.unwrap_or_default();
        nearest.strip_prefix("app.").map_or_else(|| nearest.to_owned(), |rest| format!("{section}{rest}"))
    }

    /// The section that looks most like `name`.
    pub(super) fn nearest_section(&self, name: &str) -> &str {
        let likeness = |section: &str| strsim::jaro_winkler(section, &name.to_ascii_lowercase());
        let sections =
            self.defaults.0.keys().map(|key| section_of(key)).chain(["apps"]).chain(ONLY_IN_THE_FILE);
        sections.max_by(|a, b| likeness(a).total_cmp(&likeness(b)).then(b.cmp(a))).unwrap_or_default()
    }

    fn is_list(&self, key: &str) -> bool {
        let key = app_key(key).map_or_else(|| key.to_owned(), |(_, rest)| format!("app.{rest}"));
        self.defaults.0.get(&key).is_some_and(|value| matches!(value.kind, ValueKind::Array(_)))
    }
}

/// `NAME` and `KEY` of `apps.NAME.KEY`.
fn app_key(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("apps.")?.split_once('.')
}

pub(super) fn section_of(key: &str) -> &str {
    key.split_once('.').map_or(key, |(section, _)| section)
}

/// The documented defaults are the defaults: they cannot drift apart.
const DEFAULTS: &str = include_str!("../../config/ghtokend.toml");
const PREFIX: &str = "GHTOKEND_";
const SEPARATOR: &str = "__";
/// Arrays of tables.
pub(super) const ONLY_IN_THE_FILE: [&str; 2] = ["callers", "prefetch"];
const WELL_KNOWN: [(&str, &str); 4] = [
    ("GITHUB_APP_ID", "app.id"),
    ("GITHUB_APP_PRIVATE_KEY_FILE", "app.private_key_file"),
    ("GITHUB_APP_INSTALLATION_ID", "app.installation"),
    ("GITHUB_API_URL", "github.api_url"),
];
