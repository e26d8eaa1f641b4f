//! The effective configuration, as a file that could be used again, with secrets masked; and what of it a reload changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Settings;
use super::apps::{App, Keys};
use super::key_names::DEFAULT;
use super::key_table::AppKeys;
use super::prefetch::Prefetch;
use super::section::Table;
use super::toml::Toml as _;
use crate::model::{AppName, Scope, Selector};

impl Settings {
    /// All settings as TOML, with secrets masked.
    pub fn effective(&self) -> String {
        let mut tables = vec![self.listen.table(), self.github.table()];
        tables.extend(self.app_tables());
        tables.extend([self.cache.table(), self.shutdown.table(), self.runtime.table()]);
        tables.extend([self.log.table(), self.audit.table(), self.webhook.table()]);
        tables.extend(self.prefetch_tables());
        tables.iter().map(written).collect::<Vec<_>>().join("\n")
    }

    /// These settings, with what of `new` can be applied without a restart: `log.level`, `listen.allowed_hosts`,
    /// `listen.require_client_header`, and the key files of an app that is still the same app.
    pub fn with_live_part_of(&self, new: &Self) -> Self {
        let mut next = self.clone();
        next.log.level = new.log.level;
        next.listen.allowed_hosts.clone_from(&new.listen.allowed_hosts);
        next.listen.require_client_header = new.listen.require_client_header;
        for (name, app) in &mut next.apps {
            if let Some(new) = new.apps.get(name).filter(|new| new.id == app.id) {
                app.keys.clone_from(&new.keys);
            }
        }
        next
    }

    /// The keys whose values are not the same here and in `other`, such as `listen.tcp`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let fixed = [
            self.listen.differences(&other.listen),
            self.github.differences(&other.github),
            self.cache.differences(&other.cache),
            self.shutdown.differences(&other.shutdown),
            self.runtime.differences(&other.runtime),
            self.log.differences(&other.log),
            self.audit.differences(&other.audit),
            self.webhook.differences(&other.webhook),
        ];
        let (ours, theirs) = (self.named_values(), other.named_values());
        let named = ours.keys().chain(theirs.keys()).filter(|key| ours.get(*key) != theirs.get(*key));
        let all = fixed.concat().into_iter().map(str::to_owned).chain(named.cloned());
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The values of the tables of which there can be several, or none.
    fn named_values(&self) -> BTreeMap<String, String> {
        let tables = self.app_tables().into_iter().chain(self.prefetch_tables());
        let values = |Table { name, lines }: Table| {
            lines.into_iter().map(move |(key, value)| (format!("{name}.{key}"), value))
        };
        tables.flat_map(values).collect()
    }

    fn app_tables(&self) -> Vec<Table> {
        let several = self.apps.len() > 1;
        let table = |(name, app): (&AppName, &App)| {
            let mut table = app_table(app);
            if *name != AppName::default() || several {
                table.name = format!("apps.{name}");
            }
            if several && self.default_app.as_ref() == Some(name) {
                table.lines.push((DEFAULT, true.toml()));
            }
            table
        };
        self.apps.iter().map(table).collect()
    }

    fn prefetch_tables(&self) -> Vec<Table> {
        let numbered = (1..).zip(&self.prefetch);
        numbered
            .map(|(n, entry)| Table { name: format!("{PREFETCH}{n}"), lines: prefetched(entry) })
            .collect()
    }
}

fn app_table(app: &App) -> Table {
    let mut keys = AppKeys {
        id: Some(app.id.clone()),
        private_key_file: Vec::new(),
        installation: app.installation.map_or(0, |id| id.get()),
    };
    match &app.keys {
        Keys::Files(paths) => keys.private_key_file.clone_from(paths),
        Keys::Inline { variable, .. } => {
            let mut table = keys.table();
            for (_, value) in table.lines.iter_mut().filter(|(key, _)| *key == "private_key_file") {
                value.push_str(&format!(" # the private key is in {variable}"));
            }
            return table;
        }
    }
    keys.table()
}

fn prefetched(prefetch: &Prefetch) -> Vec<(&'static str, String)> {
    let by_repository = matches!(prefetch.selector, Selector::Repository(..));
    let selector = match (&prefetch.selector, prefetch.selector.parameter()) {
        (Selector::Id(id), Some((name, _))) => Some((name, id.to_string())),
        (_, parameter) => parameter.map(|(name, value)| (name, value.toml())),
    };
    let Scope { repositories, repository_ids, permissions } = &prefetch.scope;
    let names = repositories.as_ref().filter(|_| !by_repository);
    let permissions = permissions.as_ref().map(|permissions| {
        let levels = permissions.iter().map(|(name, level)| format!("{name} = {}", level.as_str().toml()));
        format!("{{ {} }}", levels.collect::<Vec<_>>().join(", "))
    });
    let lines = [
        prefetch.app.as_ref().map(|app| ("app", app.as_str().toml())),
        selector,
        names.map(|names| ("repositories", Vec::from_iter(names.clone()).toml())),
        repository_ids.as_ref().map(|ids| ("repository_ids", Vec::from_iter(ids.clone()).toml())),
        permissions.map(|permissions| ("permissions", permissions)),
        prefetch.user.map(|user| ("user", user.to_string())),
    ];
    lines.into_iter().flatten().collect()
}

// Writing to a `String` cannot fail.
fn written(table: &Table) -> String {
    let mut text = match table.name.starts_with(PREFETCH) {
        true => "[[prefetch]]\n".to_owned(),
        false => format!("[{}]\n", table.name),
    };
    for (key, value) in &table.lines {
        let _ = writeln!(text, "{key} = {value}");
    }
    text
}

const PREFETCH: &str = "prefetch.";
