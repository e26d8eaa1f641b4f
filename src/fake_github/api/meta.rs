//! The API itself, and the routes that are not for installation tokens.

use serde_json::json;

use super::context::RequestContext;
use super::problem::{Docs, Outcome, Problem};
use crate::fake_github::wire::response::Response;
use crate::fake_github::world::limits::Caller;
use crate::fake_github::world::product::{Mode, NEWEST_VERSION};
use crate::fake_github::world::store::{Store, Token};

/// `GET /`
pub(super) fn root(context: &RequestContext<'_>, _store: &Store, _token: Option<&Token>) -> Outcome {
    let api = &context.state.urls.api;
    Ok(Response::json(
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
pub(super) fn versions(context: &RequestContext<'_>, _store: &Store, _token: Option<&Token>) -> Outcome {
    Ok(Response::json(200, json!(context.state.options.versions)))
}

/// `GET /rate_limit`, which is free of charge.
pub(super) fn rate_limit(context: &RequestContext<'_>, _store: &Store, token: Option<&Token>) -> Outcome {
    if context.state.options.mode == Mode::Ghes {
        return Err(Problem::new(404, "Rate limiting is not enabled.", Docs::Operation));
    }
    let caller = token.map_or(Caller::Anonymous, |token| Caller::Installation(token.installation));
    let quota = context.state.quota(caller);
    let core = json!({
        "limit": quota.limit, "used": quota.used, "remaining": quota.remaining(), "reset": quota.reset,
    });
    let mut body = json!({ "resources": { "core": core } });
    if context.version < NEWEST_VERSION {
        body["rate"] = core;
    }
    Ok(Response::json(200, body))
}

/// `GET /user`, which is for users' tokens.
pub(super) fn user(_call: &RequestContext<'_>, _store: &mut Store, _token: &Token) -> Outcome {
    Err(Problem::not_accessible_by_integration("metadata=read"))
}

/// `GET /user/installations` and the repositories below, which are for users' tokens.
pub(super) fn user_installations(_call: &RequestContext<'_>, _store: &mut Store, _token: &Token) -> Outcome {
    let message = "You must authenticate with an access token authorized to a GitHub App in order to list installations";
    Err(Problem::new(403, message, Docs::Operation))
}
