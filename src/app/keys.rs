//! Reading the private keys of the apps.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::Error;
use crate::github::key::{Key, KeyError};
use crate::model::AppName;
use crate::settings::{self, Settings};

/// The keys of each app, newest first.
pub type Keys = BTreeMap<AppName, Vec<Key>>;

/// The keys of every app. Nothing else of the daemon is needed to read them, so that a bad one is found before anything
/// is bound.
pub fn load_keys(settings: &Settings) -> Result<Keys, Error> {
    load_further_keys(settings, &Keys::new())
}

/// The keys of every app: those of `known` that came from files that are still named, and what the other files hold.
pub(super) fn load_further_keys(settings: &Settings, known: &Keys) -> Result<Keys, Error> {
    let load = |(name, app): (&AppName, _)| {
        let known = known.get(name).map(Vec::as_slice).unwrap_or_default();
        Ok((name.clone(), read_keys(app, known).into_iter().collect::<Result<_, _>>()?))
    };
    settings.apps.iter().map(load).collect()
}

/// The keys of an app; those of files in `known` are not read again.
pub(super) fn read_keys(app: &settings::App, known: &[Key]) -> Vec<Result<Key, KeyError>> {
    match &app.keys {
        settings::Keys::Files(paths) => {
            let known = |path: &Path| known.iter().find(|key| key.path() == Some(path)).cloned();
            paths.iter().map(|path| known(path).map_or_else(|| Key::read(path), Ok)).collect()
        }
        settings::Keys::Inline { variable, pem } => vec![Key::parse(pem.expose(), variable)],
    }
}

/// Lets every key sign once: an inconsistent key is found here, not by GitHub.
pub(super) fn self_test(keys: &Keys) -> Result<(), KeyError> {
    keys.values().flatten().try_for_each(Key::self_test)
}
