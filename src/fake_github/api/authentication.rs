//! Authentication of requests, by app JWT or installation token.

use super::context::RequestContext;
use super::jwt;
use super::problem::{Docs, Problem};
use crate::fake_github::options::Options;
use crate::fake_github::wire::request::Credential;
use crate::fake_github::world::definition::App;
use crate::fake_github::world::product::{Mode, SuspendedWording};
use crate::fake_github::world::replication::LagResponse;
use crate::fake_github::world::store::{Store, Token};

/// The app whose JWT the request bears.
pub(super) fn authenticate_app(context: &RequestContext<'_>, store: &Store) -> Result<App, Problem> {
    // A JWT counts only by the scheme `Bearer`.
    let Credential::Bearer(jwt) = context.request.credential() else {
        return Err(Problem::undecodable_jwt());
    };
    let verified = jwt::verify(store, &context.state.options, context.state.clock.skewed_second(), &jwt)?;
    context.state.journal.lock().record_jwt(&jwt, verified.age);
    Ok(verified.app)
}

/// The installation token that the request bears.
pub(super) fn authenticate_token(context: &RequestContext<'_>, store: &Store) -> Result<Token, Problem> {
    let credential = context.request.credential();
    let secret = credential.secret().ok_or_else(requires_authentication)?;
    if jwt::is_jwt(secret) {
        authenticate_app(context, store)?;
        let on_installation =
            context.request.path.as_deref().is_some_and(|path| path.starts_with("/installation/"));
        return Err(if on_installation {
            Problem::new(403, &context.state.options.wording.jwt_on_token_route, Docs::Operation)
        } else {
            Problem::not_accessible_by_integration("metadata=read")
        });
    }
    let now = context.state.clock.now();
    let token = store.live_token(secret, now).ok_or_else(Problem::bad_credentials)?;
    if let Some(refusal) = context.state.replication.lock().refusal(token.created, now) {
        return Err(not_replicated(refusal));
    }
    if let Some(installation) = store.installation(token.installation)
        && let Some(at) = &installation.suspended_at
    {
        let owner = store.account_of(installation).map_or("ghost", |account| account.name());
        return Err(suspended(&context.state.options, owner, at));
    }
    Ok(token.clone())
}

/// The token that the request bears, if any; an app's JWT is accepted too. Every other credential is refused.
pub(super) fn authenticate_anyone(
    context: &RequestContext<'_>,
    store: &Store,
) -> Result<Option<Token>, Problem> {
    let credential = context.request.credential();
    match credential.secret() {
        None if context.state.options.mode == Mode::Ghe => Err(requires_authentication()),
        None => Ok(None),
        Some(secret) if jwt::is_jwt(secret) => authenticate_app(context, store).map(|_| None),
        Some(_) => authenticate_token(context, store).map(Some),
    }
}

fn requires_authentication() -> Problem {
    Problem::new(401, "Requires authentication", Docs::Root)
}

fn not_replicated(refusal: LagResponse) -> Problem {
    match refusal {
        LagResponse::Unauthorized => Problem::bad_credentials(),
        LagResponse::Forbidden => Problem::not_accessible_by_integration("metadata=read"),
        LagResponse::NotFound => Problem::not_found(),
    }
}

fn suspended(options: &Options, owner: &str, at: &str) -> Problem {
    let message = match options.suspended_wording {
        SuspendedWording::OwnedBy => {
            format!("This installation owned by {owner} suspended your access at {at}.")
        }
        SuspendedWording::Currently => {
            "This installation is currently suspended. Please contact an organization owner.".to_owned()
        }
    };
    Problem::new(403, message, Docs::Root)
}
