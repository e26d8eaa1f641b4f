//! The users that requests of this dialect name.

use serde_json::Value;

use crate::fake_github::api::context::RequestContext;
use crate::fake_github::api::problem::Problem;
use crate::fake_github::world::definition::{Account, Installation};
use crate::fake_github::world::store::Store;

/// The user on whose behalf a token is requested, if any. The page writes the id as a string, clients sent numbers.
pub(super) fn on_behalf_of<'a>(
    context: &RequestContext<'_>,
    store: &'a Store,
    installation: &Installation,
) -> Result<Option<&'a Account>, Problem> {
    let user = match context.object()?.get("user_id") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => by_id(store, text),
        Some(Value::Number(number)) => number.as_u64().and_then(|id| store.user(id)),
        Some(_) => None,
    };
    let member = user.filter(|user| store.belongs(user, installation));
    member.map(Some).ok_or_else(|| unknown(context, "InstallationToken"))
}

/// The user in the query, if any.
pub(super) fn in_query(context: &RequestContext<'_>, store: &Store) -> Result<Option<u64>, Problem> {
    let Some(text) = context.request.parameter("user_id") else { return Ok(None) };
    let user = by_id(store, text).ok_or_else(|| unknown(context, "Repository"))?;
    Ok(Some(user.id()))
}

fn by_id<'a>(store: &'a Store, text: &str) -> Option<&'a Account> {
    // `parse` would accept a sign, too.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?.and_then(|id| store.user(id))
}

fn unknown(context: &RequestContext<'_>, resource: &str) -> Problem {
    Problem::configured(&context.state.options.preview.unknown_user, resource, "user_id", "invalid")
}
