//! Users, as requests of this dialect name them.

use serde_json::{Map, Value};

use crate::fake_github::api::context::Call;
use crate::fake_github::wire::response::{Docs, Problem};
use crate::fake_github::world::definition::{Account, Installation};
use crate::fake_github::world::store::Store;

/// The body, an object; an empty one is `{}`.
pub(crate) fn body(call: &Call<'_>) -> Result<Map<String, Value>, Problem> {
    let bad = |message| Problem::new(400, message, Docs::Operation);
    match call.request.json() {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(bad("Body should be a JSON object")),
        Err(_) => Err(bad("Problems parsing JSON")),
    }
}

/// The user on whose behalf a token is to be, if any. The page writes the id as a string, clients sent numbers.
pub(crate) fn on_behalf_of<'a>(
    call: &Call<'_>,
    store: &'a Store,
    installation: &Installation,
) -> Result<Option<&'a Account>, Problem> {
    let user = match body(call)?.get("user_id") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => by_id(store, text),
        Some(Value::Number(number)) => number.as_u64().and_then(|id| store.user(id)),
        Some(_) => None,
    };
    let member = user.filter(|user| store.belongs(user, installation));
    member.map(Some).ok_or_else(|| unknown(call, "InstallationToken"))
}

/// The user that the query asks about, if any.
pub(crate) fn in_query(call: &Call<'_>, store: &Store) -> Result<Option<u64>, Problem> {
    let Some(text) = call.request.parameter("user_id") else { return Ok(None) };
    let user = by_id(store, text).ok_or_else(|| unknown(call, "Repository"))?;
    Ok(Some(user.id()))
}

fn by_id<'a>(store: &'a Store, text: &str) -> Option<&'a Account> {
    // Rust would take a sign, too.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?.and_then(|id| store.user(id))
}

fn unknown(call: &Call<'_>, resource: &str) -> Problem {
    call.shared.options.preview.unknown_user.problem(resource, "user_id", "invalid")
}
