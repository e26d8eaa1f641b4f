//! The identity of a user, for the nonce that the user's browser brought.

use serde::Serialize;
use serde_json::Value;

use super::render::{self, User};
use crate::fake_github::api::context::RequestContext;
use crate::fake_github::api::problem::{Outcome, Problem};
use crate::fake_github::wire::response::Response;
use crate::fake_github::world::definition::App;
use crate::fake_github::world::store::Store;

#[derive(Serialize)]
struct Identity {
    user: User,
    repositories_url: String,
}

/// `POST /integration/identity/user`
pub(in crate::fake_github::api) fn user(
    context: &RequestContext<'_>,
    store: &mut Store,
    app: &App,
) -> Outcome {
    let options = &context.state.options.preview;
    let text = nonce(context)?;
    let own = |installation| store.installation(installation).is_some_and(|own| own.app == app.name);
    let identity = store
        .nonces
        .get(&text, context.state.clock.now())
        .filter(|nonce| own(nonce.installation))
        .and_then(|nonce| store.user(nonce.user))
        .map(|user| Identity {
            user: render::user(context.state, user),
            repositories_url: format!(
                "{}/installation/repositories?user_id={}",
                context.state.urls.api,
                user.id()
            ),
        })
        .ok_or_else(|| Problem::configured(&options.dead_nonce, RESOURCE, FIELD, "invalid"))?;
    // An app cannot use up a nonce of another.
    store.nonces.consume(&text);
    Ok(Response::ordered(options.identity_status, &identity))
}

const RESOURCE: &str = "Identity";
const FIELD: &str = "nonce";

fn nonce(context: &RequestContext<'_>) -> Result<String, Problem> {
    let refused =
        |code| Err(Problem::configured(&context.state.options.preview.missing_nonce, RESOURCE, FIELD, code));
    match context.object()?.get(FIELD) {
        None | Some(Value::Null) => refused("missing_field"),
        Some(Value::String(text)) if text.is_empty() => refused("missing_field"),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => refused("invalid"),
    }
}
