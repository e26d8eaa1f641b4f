//! Where settings come from: flags, variables, a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::Secret;

/// All that configures the daemon. The default is nothing at all: no flag, no variable, no file.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The flags that stand for a key. They win over everything else.
    pub flags: Vec<Flag>,
    /// The variables.
    pub environment: Environment,
    /// The file that `--config` names; else `GHTOKEND_CONFIG` may name one.
    pub file: Option<PathBuf>,
    /// The file that is read if nothing names one and it is there.
    pub fallback: Option<PathBuf>,
}

impl Sources {
    /// The process's own: its environment, and the system's file if `file` is `None`.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let environment = Environment::of_process();
        Self { flags, environment, file, fallback: Some(SYSTEM_FILE.into()) }
    }
}

/// A command-line flag that stands for a key.
#[derive(Debug, Clone)]
pub struct Flag {
    /// As the user typed it, such as `--listen`.
    pub name: &'static str,
    /// The key it sets, such as `listen.tcp`.
    pub key: &'static str,
    /// Its value; lists are comma-separated.
    pub value: String,
}

/// Environment variables, as an argument. Shows names only.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, Secret>);

impl Environment {
    /// The process's variables, as far as they can concern us.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        };
        std::env::vars_os().filter_map(text).collect()
    }

    /// The variables that say where the daemon listens: all that a client needs; it may have only some of the others.
    pub fn of_listeners(&self) -> Self {
        let listeners = |name: &String| name.starts_with("GHTOKEND_LISTEN__") || name == "GHTOKEND_CONFIG";
        Self(
            self.0
                .iter()
                .filter(|(name, _)| listeners(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        )
    }

    /// The value of a variable that is no secret; an empty one counts as unset.
    pub fn value(&self, name: &str) -> Option<String> {
        self.non_empty(name).map(|value| value.expose().to_owned())
    }

    /// The value of a variable; an empty one counts as unset.
    pub(super) fn non_empty(&self, name: &str) -> Option<&Secret> {
        self.0.get(name).filter(|value| !value.expose().is_empty())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.expose()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let ours = |name: &String| {
            name.starts_with("GHTOKEND_") || name.starts_with("GITHUB_") || name == "NO_COLOR"
        };
        let variables = variables.into_iter().map(|(name, value)| (name.into(), Secret::from(value.into())));
        Self(variables.filter(|(name, _)| ours(name)).collect())
    }
}

pub(super) const SYSTEM_FILE: &str = "/etc/ghtokend/ghtokend.toml";
