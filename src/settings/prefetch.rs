//! `[[prefetch]]`: which tokens to mint at start, by the names of the parameters of `GET /token`.

use std::collections::BTreeMap;

use super::apps::Apps;
use super::error::{Error, may_be_secret};
use super::values::{Item, Values};
use crate::model::token_parameters::{Kind, Parameter, Source, most_similar};
use crate::model::{AppName, Dialect, ParameterError, Scope, Selector, TokenParameters, UserId};

/// A token to mint at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefetch {
    /// Which app; `None`, the default, is the default one.
    pub app: Option<AppName>,
    /// Which installation; [`Selector::Default`] by default.
    pub selector: Selector,
    /// What it is narrowed to; nothing by default.
    pub scope: Scope,
    /// On whose behalf; nobody's by default.
    pub user: Option<UserId>,
}

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
        match members.iter().find(|(name, _)| Source::Prefetch.parameter(name).is_none()) {
            None => Ok(Self { table, members }),
            Some((name, item)) => {
                let nearest = most_similar(name, Source::Prefetch.parameters().map(|known| known.name));
                let problem =
                    format!("is not a known key; the nearest one is {}", nearest.unwrap_or_default());
                Err(item.error(problem))
            }
        }
    }

    fn read(&self, apps: &Apps, dialect: Dialect) -> Result<Prefetch, Error> {
        let TokenParameters { app, selector, scope, user, .. } = self.parameters()?;
        let prefetch = Prefetch { app: self.app(app, apps)?, selector, scope, user };
        let narrowed = prefetch.scope != Scope::default();
        let (can, name) = (dialect.capabilities(), dialect.as_str());
        let problem = match &prefetch {
            Prefetch { user: Some(_), .. } if !can.user_tokens => {
                "user: dialect \"{}\" has no tokens on behalf of users: leave it out"
            }
            Prefetch { selector: Selector::Enterprise(_), .. } if !can.enterprise_lookup => {
                "enterprise: dialect \"{}\" knows none: use owner or installation"
            }
            _ if narrowed && !can.narrowing => {
                "dialect \"{}\" narrows no token: use owner or installation alone"
            }
            _ => return Ok(prefetch),
        };
        Err(self.table.error(problem.replace("{}", name)))
    }

    fn parameters(&self) -> Result<TokenParameters, Error> {
        let mut parameters = TokenParameters::default();
        for parameter in Source::Prefetch.parameters() {
            let Some(&item) = self.members.get(parameter.name) else { continue };
            let values = values(parameter, item)?;
            let texts = values.iter().map(|(_, text)| text.as_str());
            parameters.set_items(parameter, texts).map_err(|error| self.error(error, &values))?;
        }
        parameters.finish().map_err(|error| self.error(error, &[]))
    }

    /// The error at the line of the value that is wrong, without the value where it could be a secret.
    fn error(&self, error: ParameterError, values: &[(Item<'a>, String)]) -> Error {
        match error {
            ParameterError::Value { parameter, item: None, problem } => {
                self.members.get(parameter).unwrap_or(&self.table).error(problem)
            }
            ParameterError::Value { item: Some(index), problem, .. } => match values.get(index) {
                Some((item, text)) if text.split([':', '/']).chain([text.as_str()]).any(may_be_secret) => {
                    item.error("the value (not shown) is not what belongs here")
                }
                found => found.map_or(self.table, |(item, _)| *item).error(problem),
            },
            ParameterError::Conflict { .. } => self.table.error(error.about("")),
        }
    }

    fn app(&self, name: Option<AppName>, apps: &Apps) -> Result<Option<AppName>, Error> {
        let names = || apps.apps.keys().map(AppName::as_str).collect::<Vec<_>>().join(", ");
        match (self.members.get("app"), name) {
            (Some(item), Some(name)) if !apps.apps.contains_key(&name) => {
                Err(item.error(format!("no app {name} is configured: there are {}", names())))
            }
            (None, _) if apps.default_app.is_none() && !apps.apps.is_empty() => Err(self
                .table
                .error(format!("several apps are configured ({}): choose one with app", names()))),
            (_, name) => Ok(name),
        }
    }
}

/// The items of a value, each with its place in the file.
fn values<'a>(parameter: &Parameter, item: Item<'a>) -> Result<Vec<(Item<'a>, String)>, Error> {
    match parameter.kind {
        Kind::Selector(_) | Kind::Single(_) => Ok(vec![(item, item.text_or_number()?)]),
        Kind::Names(_) | Kind::Numbers(_) => {
            item.items()?.into_iter().map(|item| Ok((item, item.text_or_number()?))).collect()
        }
        Kind::Pairs(_) => {
            let pair = |(name, level): (&str, Item<'a>)| Ok((level, format!("{name}:{}", level.text()?)));
            item.members()?.into_iter().map(pair).collect()
        }
    }
}
