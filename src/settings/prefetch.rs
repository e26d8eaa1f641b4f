//! `[[prefetch]]`: which tokens to mint at start, by the names of the parameters of `GET /token`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use super::Prefetch;
use super::apps::Apps;
use super::error::{Error, quote};
use super::values::{Item, Values};
use crate::model::{AppName, Dialect, Level, Permission, Scope, Selector};

/// The entries, for apps that are configured and a GitHub that can serve them.
pub(super) fn read(values: &Values, apps: &Apps, dialect: Dialect) -> Result<Vec<Prefetch>, Error> {
    let tables = values.get("prefetch").tables()?;
    tables.into_iter().map(|table| Entry::new(table)?.read(apps, dialect)).collect()
}

/// One table, its keys known.
struct Entry<'a> {
    table: Item<'a>,
    members: BTreeMap<&'a str, Item<'a>>,
}

impl<'a> Entry<'a> {
    fn new(table: Item<'a>) -> Result<Self, Error> {
        let members = BTreeMap::from_iter(table.members()?);
        match members.iter().find(|(name, _)| !KNOWN.contains(name)) {
            None => Ok(Self { table, members }),
            Some((name, item)) => {
                let likeness = |known: &&str| strsim::jaro_winkler(known, name);
                let nearest = KNOWN.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
                let problem =
                    format!("is not a known key; the nearest one is {}", nearest.unwrap_or_default());
                Err(item.error(problem))
            }
        }
    }

    fn read(&self, apps: &Apps, dialect: Dialect) -> Result<Prefetch, Error> {
        let selector = self.selector()?;
        let prefetch = Prefetch {
            app: self.app(apps)?,
            scope: self.scope(&selector)?,
            selector,
            user: self.parse("user")?,
        };
        let narrowed = prefetch.scope != Scope::default();
        match (dialect, &prefetch) {
            (Dialect::Apps, Prefetch { user: Some(_), .. }) => {
                Err(self.table.error("user: today's GitHub has no tokens on behalf of users: leave it out"))
            }
            (Dialect::Integrations, Prefetch { selector: Selector::Enterprise(_), .. }) => Err(self
                .table
                .error("enterprise: dialect \"integrations\" knows none: use owner or installation")),
            (Dialect::Integrations, _) if narrowed => Err(self
                .table
                .error("dialect \"integrations\" narrows no token: use owner or installation alone")),
            _ => Ok(prefetch),
        }
    }

    fn app(&self, apps: &Apps) -> Result<Option<AppName>, Error> {
        let names = || apps.apps.keys().map(AppName::as_str).collect::<Vec<_>>().join(", ");
        match (self.members.get("app"), self.parse::<AppName>("app")?) {
            (Some(item), Some(name)) if !apps.apps.contains_key(&name) => {
                Err(item.error(format!("no app {name} is configured: there are {}", names())))
            }
            (None, _) if apps.default_app.is_none() && !apps.apps.is_empty() => Err(self
                .table
                .error(format!("several apps are configured ({}): choose one with app", names()))),
            (_, name) => Ok(name),
        }
    }

    fn selector(&self) -> Result<Selector, Error> {
        let given: Vec<_> = SELECTORS.into_iter().filter(|name| self.members.contains_key(name)).collect();
        if let [one, another, ..] = given.as_slice() {
            return Err(self.table.error(format!("{one} and {another} each name an installation: keep one")));
        }
        if let Some(item) = self.members.get("repo") {
            let (owner, name) = item
                .text()?
                .split_once('/')
                .ok_or_else(|| item.error("is not of the form \"OWNER/NAME\""))?;
            return Ok(Selector::Repository(parsed(*item, owner)?, parsed(*item, name)?));
        }
        let id = self.parse("installation")?.map(Selector::Id);
        let owner = self.parse("owner")?.map(Selector::Owner);
        let enterprise = self.parse("enterprise")?.map(Selector::Enterprise);
        Ok(id.or(owner).or(enterprise).unwrap_or(Selector::Default))
    }

    fn scope(&self, selector: &Selector) -> Result<Scope, Error> {
        let mut scope = Scope {
            repositories: self.list("repositories")?,
            repository_ids: self.list("repository_ids")?,
            permissions: self.permissions()?,
        };
        if let Selector::Repository(_, name) = selector {
            if scope.names_repositories() {
                let problem = "repo already narrows the token to one repository: \
                               leave repositories and repository_ids out, or choose by owner";
                return Err(self.table.error(problem));
            }
            scope.repositories = Some([name.clone()].into());
        }
        Ok(scope)
    }

    fn permissions(&self) -> Result<Option<BTreeMap<Permission, Level>>, Error> {
        let Some(item) = self.members.get("permissions") else { return Ok(None) };
        let members = item.members()?;
        if members.is_empty() {
            return Err(item.error("is empty: name permissions, or leave it out for all of them"));
        }
        let one = |(name, level): (&str, Item<'_>)| Ok((parsed(level, name)?, parsed(level, level.text()?)?));
        members.into_iter().map(one).collect::<Result<_, Error>>().map(Some)
    }

    fn list<T: FromStr<Err: Display> + Ord>(&self, name: &str) -> Result<Option<BTreeSet<T>>, Error> {
        let Some(item) = self.members.get(name) else { return Ok(None) };
        let items = item.items()?;
        if items.is_empty() {
            return Err(item.error("is empty: name some, or leave it out for all of them"));
        }
        let one = |item: Item<'_>| parsed(item, &item.text_or_number()?);
        items.into_iter().map(one).collect::<Result<_, Error>>().map(Some)
    }

    fn parse<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Error> {
        let item = self.members.get(name);
        item.map(|item| parsed(*item, &item.text_or_number()?)).transpose()
    }
}

fn parsed<T: FromStr<Err: Display>>(item: Item<'_>, text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: T::Err| match quote(text) {
        shown if shown.starts_with('"') => item.error(error.to_string()),
        hidden => item.error(format!("{hidden} is not what belongs here")),
    })
}

const KNOWN: [&str; 9] = [
    "installation",
    "owner",
    "repo",
    "enterprise",
    "repositories",
    "repository_ids",
    "permissions",
    "user",
    "app",
];
const SELECTORS: [&str; 4] = ["installation", "owner", "repo", "enterprise"];
