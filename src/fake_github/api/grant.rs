//! What a request for a token asks for, and what the minted token may do.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::context::RequestContext;
use super::problem::{Docs, Problem};
use crate::fake_github::faults::fault::{Effect, WiderRepositories};
use crate::fake_github::world::definition::{Installation, Permissions};
use crate::fake_github::world::store::Store;
use crate::fake_github::world::validation::rank;

/// The body of a request for a token.
#[derive(Debug, Default)]
pub(super) struct TokenRequest {
    names: Vec<String>,
    ids: Vec<u64>,
    permissions: Option<Permissions>,
}

/// What a minted token may do.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) permissions: Permissions,
    /// The repositories it is restricted to.
    pub(super) repositories: Option<BTreeSet<u64>>,
    /// The repositories that the response lists: those of a restricted token.
    pub(super) listed: Option<BTreeSet<u64>>,
}

impl TokenRequest {
    /// Reads the body, which may be empty.
    pub(super) fn parse(context: &RequestContext<'_>) -> Result<Self, Problem> {
        let body = context.object()?;
        let wanted = Self {
            names: list(&body, "repositories", "string", |value| value.as_str().map(str::to_owned))?,
            ids: list(&body, "repository_ids", "integer", Value::as_u64)?,
            permissions: permissions(&body)?,
        };
        if wanted.names.len() + wanted.ids.len() > MAX_REPOSITORIES {
            return Err(unprocessable(&context.state.options.wording.too_many_repositories));
        }
        Ok(wanted)
    }

    /// The scope as counters name it, the same for the same request.
    pub(super) fn scope(&self) -> String {
        let permissions = self.permissions.as_ref().map(|permissions| {
            let words: Vec<String> =
                permissions.iter().map(|(name, level)| format!("{name}:{level}")).collect();
            format!("permissions={}", words.join(","))
        });
        let names: BTreeSet<String> = self
            .names
            .iter()
            .map(|name| name.to_lowercase())
            .chain(self.ids.iter().map(u64::to_string))
            .collect();
        let names = Vec::from_iter(names);
        let repositories = (!names.is_empty()).then(|| format!("repositories={}", names.join(",")));
        Vec::from_iter(permissions.into_iter().chain(repositories)).join(" ")
    }
}

impl Grant {
    /// What `wanted` gets of `installation`, widened by faults.
    pub(super) fn new(
        wanted: &TokenRequest,
        context: &RequestContext<'_>,
        store: &Store,
        installation: &Installation,
    ) -> Result<Self, Problem> {
        let repositories = granted_repositories(wanted, store, installation)?;
        let permissions = granted_permissions(wanted, installation)?;
        let mut grant = Self { permissions, listed: repositories.clone(), repositories };
        for effect in context.effects {
            if let Effect::WiderGrant { permissions, repositories } = effect {
                grant.permissions.extend(permissions.clone());
                if *repositories == WiderRepositories::All && grant.repositories.take().is_some() {
                    grant.listed =
                        Some(store.repositories_of(installation).iter().map(|own| own.id).collect());
                }
            }
        }
        Ok(grant)
    }
}

/// The maximum of repositories in a request.
const MAX_REPOSITORIES: usize = 500;
fn granted_repositories(
    wanted: &TokenRequest,
    store: &Store,
    installation: &Installation,
) -> Result<Option<BTreeSet<u64>>, Problem> {
    // An empty list is not documented. It is taken as none, as Ruby's `present?` would.
    if wanted.names.is_empty() && wanted.ids.is_empty() {
        return Ok(None);
    }
    let own = store.repositories_of(installation);
    let by_name =
        wanted.names.iter().map(|name| own.iter().find(|other| other.name.eq_ignore_ascii_case(name)));
    let by_id = wanted.ids.iter().map(|id| own.iter().find(|other| other.id == *id));
    let ids: Option<BTreeSet<u64>> = by_name.chain(by_id).map(|found| found.map(|own| own.id)).collect();
    ids.map(Some).ok_or_else(|| {
        unprocessable(
            "There is at least one repository that does not exist or is not accessible to the parent installation.",
        )
    })
}

fn granted_permissions(wanted: &TokenRequest, installation: &Installation) -> Result<Permissions, Problem> {
    // Every installation may read metadata.
    let mut installed = installation.permissions.clone();
    installed.entry("metadata".into()).or_insert_with(|| "read".into());
    let Some(requested) = wanted.permissions.as_ref().filter(|requested| !requested.is_empty()) else {
        return Ok(installed);
    };
    if requested.keys().any(|name| !installed.contains_key(name)) {
        return Err(unprocessable("The permissions requested are not granted to this installation."));
    }
    for (name, level) in requested {
        let granted = installed.get(name).and_then(|level| rank(level));
        if rank(level).is_none_or(|level| Some(level) > granted) {
            return Err(unprocessable(
                "The level of access for permissions requested are not granted to this installation.",
            ));
        }
    }
    let mut granted = requested.clone();
    granted.entry("metadata".into()).or_insert_with(|| "read".into());
    Ok(granted)
}

fn list<T>(
    body: &Map<String, Value>,
    name: &str,
    kind: &str,
    item: fn(&Value) -> Option<T>,
) -> Result<Vec<T>, Problem> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| {
                item(value).ok_or_else(|| {
                    invalid(&format!("For 'items', {value} is not a valid {kind} of `{name}`."))
                })
            })
            .collect(),
        Some(value) => Err(invalid(&format!("For 'properties/{name}', {value} is not an array."))),
    }
}

fn permissions(body: &Map<String, Value>) -> Result<Option<Permissions>, Problem> {
    let permissions = match body.get("permissions") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(permissions)) => permissions,
        Some(_) => return Err(bad_request("Problems parsing JSON")),
    };
    let level = |(name, level): (&String, &Value)| match level.as_str() {
        Some(level) => Ok((name.clone(), level.to_owned())),
        None => Err(invalid(&format!("For 'permissions/{name}', {level} is not a string."))),
    };
    permissions.iter().map(level).collect::<Result<_, _>>().map(Some)
}

fn bad_request(message: &str) -> Problem {
    Problem::new(400, message, Docs::Operation)
}

fn invalid(what: &str) -> Problem {
    unprocessable(&format!("Invalid request.\n\n{what}"))
}

fn unprocessable(message: &str) -> Problem {
    Problem::new(422, message, Docs::Operation)
}
