//! The API about itself, and what it says to an installation token on the routes of users.

use serde_json::json;

use super::context::Call;
use crate::fake_github::options::{Mode, NEWEST_VERSION};
use crate::fake_github::wire::response::{Answer, Docs, Outcome, Problem};
use crate::fake_github::world::limits::Caller;
use crate::fake_github::world::store::{Store, Token};

/// `GET /`
pub(crate) fn root(call: &Call<'_>, _store: &Store, _token: Option<&Token>) -> Outcome {
    let api = &call.shared.urls.api;
    Ok(Answer::json(
        200,
        json!({
            "current_user_url": format!("{api}/user"),
            "rate_limit_url": format!("{api}/rate_limit"),
            "repository_url": format!("{api}/repos/{{owner}}/{{repo}}"),
            "user_url": format!("{api}/users/{{user}}"),
        }),
    ))
}

/// `GET /versions`
pub(crate) fn versions(call: &Call<'_>, _store: &Store, _token: Option<&Token>) -> Outcome {
    Ok(Answer::json(200, json!(call.shared.options.versions)))
}

/// `GET /rate_limit`, which is free of charge.
pub(crate) fn rate_limit(call: &Call<'_>, _store: &Store, token: Option<&Token>) -> Outcome {
    if call.shared.options.mode == Mode::Ghes {
        return Err(Problem::new(404, "Rate limiting is not enabled.", Docs::Operation));
    }
    let caller = token.map_or(Caller::Anonymous, |token| Caller::Installation(token.installation));
    let quota = call.shared.limits.lock().quota(caller, call.shared);
    let core = json!({
        "limit": quota.limit, "used": quota.used, "remaining": quota.remaining(), "reset": quota.reset,
    });
    let mut body = json!({ "resources": { "core": core } });
    if call.version < NEWEST_VERSION {
        body["rate"] = core;
    }
    Ok(Answer::json(200, body))
}

/// `GET /user`, which is for users' tokens.
pub(crate) fn user(_call: &Call<'_>, _store: &mut Store, _token: &Token) -> Outcome {
    Err(Problem::not_for_integrations("metadata=read"))
}

/// `GET /user/installations` and the repositories below, which are for users' tokens.
pub(crate) fn user_installations(_call: &Call<'_>, _store: &mut Store, _token: &Token) -> Outcome {
    let message = "You must authenticate with an access token authorized to a GitHub App in order to list installations";
    Err(Problem::new(403, message, Docs::Operation))
}
