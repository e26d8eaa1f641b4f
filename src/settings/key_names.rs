//! Which keys there are, and which is meant by one that there is not.

use super::key_table;
use crate::model::AppName;

/// Whether there is this key.
pub(super) fn has(key: &str) -> bool {
    match app_key(key) {
        Some((name, rest)) => {
            name.parse::<AppName>().is_ok() && (rest == DEFAULT || has(&format!("app.{rest}")))
        }
        None => ONLY_IN_THE_FILE.contains(&key) || key_table::all().any(|known| known.name == key),
    }
}

/// Whether keys can follow this one after a dot.
pub(super) fn has_section(key: &str) -> bool {
    let app = key.strip_prefix("apps.").is_some_and(|name| !name.contains('.'));
    app || key == "apps" || key_table::all().any(|known| section_of(known.name) == key)
}

/// Whether a variable for this key holds several values.
pub(super) fn is_list(key: &str) -> bool {
    let key = app_key(key).map_or_else(|| key.to_owned(), |(_, rest)| format!("app.{rest}"));
    key_table::all().any(|known| known.name == key && known.is_list)
}

/// The known key that looks most like `key`.
pub(super) fn nearest(key: &str) -> String {
    let (section, wanted) = match app_key(key) {
        Some((name, rest)) => (format!("apps.{name}."), format!("app.{rest}")),
        None => ("app.".into(), key.to_owned()),
    };
    let nearest = most_like(key_table::all().map(|known| known.name), |known| {
        // A known name in the wrong section is a likelier mistake than a wrong name in the right one.
        let same_name = known.rsplit('.').next() == wanted.rsplit('.').next();
        strsim::jaro_winkler(known, &wanted) + f64::from(u8::from(same_name))
    });
    nearest.strip_prefix("app.").map_or_else(|| nearest.to_owned(), |rest| format!("{section}{rest}"))
}

/// The section that looks most like `name`.
pub(super) fn nearest_section(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    let sections =
        key_table::all().map(|known| section_of(known.name)).chain(["apps"]).chain(ONLY_IN_THE_FILE);
    most_like(sections, |section| strsim::jaro_winkler(section, &name))
}

fn most_like(names: impl Iterator<Item = &'static str>, likeness: impl Fn(&str) -> f64) -> &'static str {
    names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)).then(b.cmp(a))).unwrap_or_default()
}

/// `NAME` and `KEY` of `apps.NAME.KEY`.
fn app_key(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("apps.")?.split_once('.')
}

pub(super) fn section_of(key: &str) -> &str {
    key.split_once('.').map_or(key, |(section, _)| section)
}

/// The key of `[apps.NAME]` that `[app]` has not.
pub(super) const DEFAULT: &str = "default";
/// Arrays of tables.
pub(super) const ONLY_IN_THE_FILE: [&str; 2] = ["callers", "prefetch"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::file::defaults;

    #[test]
    fn every_key_has_a_documented_default() {
        let defaults = defaults().unwrap();
        for key in key_table::all() {
            assert!(defaults.has(key.name), "{} is not in config/ghtokend.toml", key.name);
        }
    }
}
