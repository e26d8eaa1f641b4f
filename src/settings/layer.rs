//! One source of settings as flat, dotted keys, each value with its origin.

use config::{ConfigError, Map, Source, Value, ValueKind};

use super::error::Error;
use super::key_names::{self, ONLY_IN_THE_FILE, section_of};
use super::sources::{Environment, Flag};

/// The values that one source sets. Stacked by `config`, which keeps the origin of the value that wins.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer(Map<String, Value>);

impl Layer {
    pub(super) fn insert(&mut self, key: String, origin: &str, kind: ValueKind) {
        self.0.insert(key, Value::new(Some(&origin.to_owned()), kind));
    }

    /// `GHTOKEND_SECTION__KEY`. A name without `__` is not ours: Kubernetes makes such for services.
    pub(super) fn of_environment(environment: &Environment) -> Result<Self, Error> {
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
            if !key_names::has(&key) {
                let nearest = key_names::nearest(&key).to_ascii_uppercase().replace('.', SEPARATOR);
                let problem = format!("is not a known key; the nearest one is {PREFIX}{nearest}");
                return Err(Error::new(name, problem));
            }
            layer.insert_text(&key, name, value);
        }
        Ok(layer)
    }

    /// The names that everyone uses.
    pub(super) fn of_well_known(environment: &Environment) -> Self {
        let mut layer = Self::default();
        for (name, key) in WELL_KNOWN {
            if let Some(value) = environment.non_empty(name) {
                layer.insert_text(key, name, value.expose());
            }
        }
        layer
    }

    /// Command-line flags.
    pub(super) fn of_flags(flags: &[Flag]) -> Result<Self, Error> {
        let mut layer = Self::default();
        for Flag { name, key, value } in flags {
            if !key_names::has(key) {
                return Err(Error::new(*name, format!("stands for {key}, which is not a known key")));
            }
            layer.insert_text(key, name, value);
        }
        Ok(layer)
    }

    fn insert_text(&mut self, key: &str, origin: &str, text: &str) {
        let item = |text: &str| Value::new(Some(&origin.to_owned()), text.trim());
        let kind = match key_names::is_list(key) {
            true if text.trim().is_empty() => ValueKind::Array(Vec::new()),
            true => ValueKind::Array(text.split(',').map(item).collect()),
            // Secrets mounted as variables often end with a newline.
            false => ValueKind::String(text.trim().into()),
        };
        self.insert(key.to_owned(), origin, kind);
    }

    #[cfg(test)]
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
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

const PREFIX: &str = "GHTOKEND_";
const SEPARATOR: &str = "__";
const WELL_KNOWN: [(&str, &str); 4] = [
    ("GITHUB_APP_ID", "app.id"),
    ("GITHUB_APP_PRIVATE_KEY_FILE", "app.private_key_file"),
    ("GITHUB_APP_INSTALLATION_ID", "app.installation"),
    ("GITHUB_API_URL", "github.api_url"),
];
