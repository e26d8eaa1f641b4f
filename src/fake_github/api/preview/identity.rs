//! Who a user is, asked with the nonce that the user's browser brought.

use serde::Serialize;
use serde_json::Value;

use super::render::{self, User};
use super::users;
use crate::fake_github::api::context::Call;
use crate::fake_github::wire::response::{Answer, Outcome, Problem};
use crate::fake_github::world::definition::App;
use crate::fake_github::world::store::Store;

#[derive(Serialize)]
struct Identity {
    user: User,
    repositories_url: String,
}

/// `POST /integration/identity/user`
pub(crate) fn user(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let options = &call.shared.options.preview;
    let text = nonce(call)?;
    let own = |installation| store.installation(installation).is_some_and(|own| own.app == app.name);
    let identity = store
        .nonces
        .look(&text, call.shared.clock.now())
        .filter(|nonce| own(nonce.installation))
        .and_then(|nonce| store.user(nonce.user))
        .map(|user| Identity {
            user: render::user(call.shared, user),
            repositories_url: format!(
                "{}/installation/repositories?user_id={}",
                call.shared.urls.api,
                user.id()
            ),
        })
        .ok_or_else(|| options.dead_nonce.problem(RESOURCE, FIELD, "invalid"))?;
    // What the app may not use it cannot use up, either.
    store.nonces.spend(&text);
    Ok(Answer::ordered(options.identity_status, &identity))
}

const RESOURCE: &str = "Identity";
const FIELD: &str = "nonce";

fn nonce(call: &Call<'_>) -> Result<String, Problem> {
    let refused = |code| Err(call.shared.options.preview.missing_nonce.problem(RESOURCE, FIELD, code));
    match users::body(call)?.get(FIELD) {
        None | Some(Value::Null) => refused("missing_field"),
        Some(Value::String(text)) if text.is_empty() => refused("missing_field"),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => refused("invalid"),
    }
}
