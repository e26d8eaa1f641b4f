//! Token parameters: which token a caller asks for. Each once, with its name, its help and how its value is read.
//!
//! The query of `GET /token`, `[[prefetch]]`, the bodies of GitHub's mint endpoints and the command line are all read by
//! this list. A new parameter is a row of [`PARAMETERS`].

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

use super::id::Invalid;
use super::{AppName, Level, Permission, Scope, Selector, UserId};

/// One parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Its name in a query and in `[[prefetch]]`.
    pub name: &'static str,
    /// Its name on the command line.
    pub flag: &'static str,
    /// Its name in the body of GitHub's mint endpoints; `None`: it has no place there.
    pub member: Option<&'static str>,
    /// What stands for its value in a help text.
    pub placeholder: &'static str,
    /// What it means, in one line.
    pub help: &'static str,
    /// What its value is.
    pub kind: Kind,
    sources: &'static [Source],
}

/// Where parameters come from, beside the bodies of GitHub's mint endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `GET /token?…`, `POST /git-credential/get?…`.
    Query,
    /// `[[prefetch]]` in the configuration.
    Prefetch,
    /// The commands that get a token.
    CommandLine,
}

/// What the value of a parameter is, and how one item of it is read.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// It names the installation: one such parameter at most.
    Selector(fn(&str) -> Result<Selector, String>),
    /// One text or number.
    Single(Read),
    /// A list of names.
    Names(Read),
    /// A list of numbers.
    Numbers(Read),
    /// Pairs, each as `NAME:LEVEL`.
    Pairs(Read),
}

type Read = fn(&mut TokenParameters, &str) -> Result<(), String>;

/// All of them, in the order in which they are listed to people.
pub static PARAMETERS: &[Parameter] = &[
    row("installation", "ID", "By the installation's id", Kind::Selector(|id| Ok(Selector::Id(parse(id)?)))),
    row(
        "owner",
        "LOGIN",
        "By the user or organisation that it is on",
        Kind::Selector(|login| Ok(Selector::Owner(parse(login)?))),
    ),
    row(
        REPO,
        "OWNER/NAME",
        "By a repository, to which the token is narrowed",
        Kind::Selector(|text| {
            let (owner, name) = text.split_once('/').ok_or_else(|| {
                Invalid::new(text, "a repository", "OWNER/NAME, as acme/widgets").to_string()
            })?;
            Ok(Selector::Repository(parse(owner)?, parse(name)?))
        }),
    ),
    row(
        "enterprise",
        "SLUG",
        "By the enterprise that it is on",
        Kind::Selector(|slug| Ok(Selector::Enterprise(parse(slug)?))),
    ),
    row(
        "repositories",
        "A,B",
        "Only these repositories, by name",
        Kind::Names(|token, name| {
            token.scope.repositories.get_or_insert_default().insert(parse(name)?);
            Ok(())
        }),
    )
    .in_body("repositories"),
    row(
        "repository_ids",
        "1,2",
        "Only these repositories, by id",
        Kind::Numbers(|token, id| {
            token.scope.repository_ids.get_or_insert_default().insert(parse(id)?);
            Ok(())
        }),
    )
    .in_body("repository_ids")
    .with_flag("repository-ids"),
    row(
        "permissions",
        "NAME:LEVEL,…",
        "Only these permissions, such as contents:read,issues:write",
        Kind::Pairs(|token, pair| {
            // From the end: no level holds a colon, and a name that does is the mistake.
            let (name, level) = pair.rsplit_once(':').ok_or_else(|| {
                let form = "NAME:LEVEL, as contents:read";
                Invalid::new(pair, "a permission with its level", form).to_string()
            })?;
            let (name, level): (Permission, Level) = (parse(name)?, parse(level)?);
            match token.scope.permissions.get_or_insert_default().insert(name.clone(), level) {
                None => Ok(()),
                Some(_) => Err(format!("{name} is named twice: name it once")),
            }
        }),
    )
    .in_body("permissions"),
    row(
        "user",
        "ID",
        "On behalf of the user with this id",
        Kind::Single(|token, id| parse(id).map(|id| token.user = Some(id))),
    )
    .in_body("user_id"),
    row(
        "min_ttl",
        "DURATION",
        "It must live at least this long: seconds, or a duration such as 30m",
        Kind::Single(|token, text| duration(text).map(|life| token.min_ttl = Some(life))),
    )
    .with_flag("min-ttl")
    .only_in(&[Source::Query, Source::CommandLine]),
    // The command line has it among the options that say which daemon: it goes into a header.
    row(
        "app",
        "NAME",
        "Which app, if several are configured",
        Kind::Single(|token, name| parse(name).map(|name| token.app = Some(name))),
    )
    .only_in(&[Source::Query, Source::Prefetch]),
];

const REPO: &str = "repo";

/// A parameter that every source takes.
const fn row(name: &'static str, placeholder: &'static str, help: &'static str, kind: Kind) -> Parameter {
    let sources = &[Source::Query, Source::Prefetch, Source::CommandLine];
    Parameter { name, flag: name, member: None, placeholder, help, kind, sources }
}

impl Source {
    /// The parameters that it takes.
    pub fn parameters(self) -> impl Iterator<Item = &'static Parameter> {
        PARAMETERS.iter().filter(move |parameter| parameter.sources.contains(&self))
    }

    /// The parameter of this name, if it takes it.
    pub fn parameter(self, name: &str) -> Option<&'static Parameter> {
        self.parameters().find(|parameter| parameter.name == name)
    }
}

impl Parameter {
    /// Whether it names the installation.
    pub fn is_selector(&self) -> bool {
        matches!(self.kind, Kind::Selector(_))
    }

    const fn in_body(self, member: &'static str) -> Self {
        Self { member: Some(member), ..self }
    }

    const fn with_flag(self, flag: &'static str) -> Self {
        Self { flag, ..self }
    }

    const fn only_in(self, sources: &'static [Source]) -> Self {
        Self { sources, ..self }
    }
}

/// Which token, as the parameters say: read one by one, then [`TokenParameters::finish`]ed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TokenParameters {
    /// Which app; `None` is the default one.
    pub app: Option<AppName>,
    /// Which installation.
    pub selector: Selector,
    /// What the token is narrowed to.
    pub scope: Scope,
    /// On whose behalf.
    pub user: Option<UserId>,
    /// How long it must live.
    pub min_ttl: Option<Duration>,
    given: Vec<&'static str>,
}

/// Why parameters name no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterError {
    /// A value is not what belongs there.
    Value {
        /// The parameter's name in a query.
        parameter: &'static str,
        /// Which of its items it is, from 0 on; `None` if it is the value as a whole.
        item: Option<usize>,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// Two parameters exclude each other.
    Conflict {
        /// The one that came first.
        one: &'static str,
        /// The other one.
        other: &'static str,
    },
}

impl ParameterError {
    /// What is wrong, with `name` for the parameter: it has another one in a body.
    pub fn about(&self, name: &str) -> String {
        match self {
            Self::Value { item: None, problem, .. } => format!("{name} {problem}"),
            Self::Value { item: Some(_), problem, .. } => format!("{name}: {problem}"),
            Self::Conflict { one, other } => {
                format!("{one} and {other} each name an installation: keep one")
            }
        }
    }
}

impl TokenParameters {
    /// Takes a parameter as a query has it: items of a list are separated by commas.
    pub fn set(&mut self, parameter: &'static Parameter, text: &str) -> Result<(), ParameterError> {
        if text.is_empty() {
            return Err(empty(parameter));
        }
        match parameter.kind {
            Kind::Selector(_) | Kind::Single(_) => self.set_items(parameter, [text]),
            Kind::Names(_) | Kind::Numbers(_) | Kind::Pairs(_) => self.set_items(parameter, text.split(',')),
        }
    }

    /// Takes a parameter item by item; what is no list has one.
    pub fn set_items<'t>(
        &mut self,
        parameter: &'static Parameter,
        items: impl IntoIterator<Item = &'t str>,
    ) -> Result<(), ParameterError> {
        self.give(parameter)?;
        let mut count = 0;
        for item in items {
            let failed =
                |problem| ParameterError::Value { parameter: parameter.name, item: Some(count), problem };
            match parameter.kind {
                Kind::Selector(_) | Kind::Single(_) if item.is_empty() => return Err(empty(parameter)),
                _ if item.is_empty() => return Err(failed("an item is empty: leave it out".into())),
                Kind::Selector(read) => self.selector = read(item).map_err(failed)?,
                Kind::Names(_) | Kind::Numbers(_) if count == MAX_REPOSITORIES => {
                    let problem = format!("has over {MAX_REPOSITORIES} items, GitHub's limit");
                    return Err(whole(parameter, problem));
                }
                Kind::Single(read) | Kind::Names(read) | Kind::Numbers(read) | Kind::Pairs(read) => {
                    read(self, item).map_err(failed)?;
                }
            }
            count += 1;
        }
        match count {
            0 => Err(whole(parameter, "is empty: name some, or leave it out for all of them".into())),
            _ => Ok(()),
        }
    }

    /// The whole, once every parameter is taken.
    pub fn finish(mut self) -> Result<Self, ParameterError> {
        if let Selector::Repository(_, name) = &self.selector {
            if self.scope.names_repositories() {
                return Err(ParameterError::Value {
                    parameter: REPO,
                    item: None,
                    problem: "already narrows the token to one repository: \
                              leave repositories and repository_ids out, or choose by owner"
                        .into(),
                });
            }
            self.scope.repositories = Some([name.clone()].into());
        }
        Ok(self)
    }

    /// Notes that a parameter is there: once, and beside no other that names an installation.
    fn give(&mut self, parameter: &'static Parameter) -> Result<(), ParameterError> {
        if self.given.contains(&parameter.name) {
            return Err(whole(parameter, "is duplicated: send it once".into()));
        }
        if parameter.is_selector() {
            let mut selectors = PARAMETERS.iter().filter(|other| other.is_selector());
            if let Some(given) = selectors.find(|other| self.given.contains(&other.name)) {
                return Err(ParameterError::Conflict { one: given.name, other: parameter.name });
            }
        }
        self.given.push(parameter.name);
        Ok(())
    }
}

/// The name among `known` that is most similar to `name`.
pub fn most_similar<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known.into_iter().max_by(|one, other| similarity(name, one).total_cmp(&similarity(name, other)))
}

/// The same, if it is so similar that it can be meant.
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    most_similar(name, known).filter(|known| similarity(name, known) >= MIN_SIMILARITY)
}

fn similarity(one: &str, other: &str) -> f64 {
    strsim::jaro_winkler(one, other)
}

fn empty(parameter: &Parameter) -> ParameterError {
    whole(parameter, "is empty: give it a value or leave it out".into())
}

fn whole(parameter: &Parameter, problem: String) -> ParameterError {
    ParameterError::Value { parameter: parameter.name, item: None, problem }
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Seconds, or a duration as in the configuration.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok().map(Duration::from_secs),
        false => text.parse().ok().and_then(|parsed: SignedDuration| Duration::try_from(parsed).ok()),
    };
    parsed.ok_or_else(|| {
        Invalid::new(text, "a duration", "a number of seconds, or one such as 30m or 1h30m").to_string()
    })
}

/// <https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app>
const MAX_REPOSITORIES: usize = 500;
/// Below it, a suggestion would be a guess.
const MIN_SIMILARITY: f64 = 0.75;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_name_finds_its_nearest() {
        let names = || Source::Query.parameters().map(|parameter| parameter.name);
        for (name, expected) in [
            ("own", Some("owner")),
            ("ownr", Some("owner")),
            ("repos", Some("repo")),
            ("repository_id", Some("repository_ids")),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, names()), expected, "{name}");
        }
    }

    #[test]
    fn every_flag_is_its_name_with_dashes() {
        for parameter in PARAMETERS {
            assert_eq!(parameter.flag, parameter.name.replace('_', "-"));
        }
    }
}
