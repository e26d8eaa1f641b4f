//! Installation tokens: mint and revoke.

use serde_json::{Value, json};

use super::context::RequestContext;
use super::grant::{Grant, TokenRequest};
use super::installations::own_installation;
use super::problem::{Docs, Outcome, Problem};
use super::token_text;
use crate::fake_github::clock::{Millis, SECOND, iso};
use crate::fake_github::faults::fault::{Effect, WiderRepositories};
use crate::fake_github::wire::response::Response;
use crate::fake_github::world::definition::{App, Installation, Selection};
use crate::fake_github::world::render;
use crate::fake_github::world::store::{Stateless, Store, Token};

/// `POST /app/installations/{installation_id}/access_tokens`
pub(super) fn mint(context: &RequestContext<'_>, store: &mut Store, app: &App) -> Outcome {
    let installation = not_suspended(own_installation(context, store, app)?)?.clone();
    let wanted = TokenRequest::parse(context)?;
    let grant = Grant::new(&wanted, context, store, &installation)?;
    let requested_format = context.request.header("X-GitHub-Stateless-S2S-Token");
    let (secret, stateless) = match token_of_fault(context.effects) {
        Some(text) => (text.to_owned(), Stateless::No),
        None => {
            token_text::new(&store.random, &context.state.options, app, installation.id, requested_format)
        }
    };
    let body = body(context, store, &installation, &grant, &secret);
    let token = Token {
        installation: installation.id,
        permissions: grant.permissions,
        repositories: grant.repositories,
        user: None,
        created: context.state.clock.now(),
        deadline: deadline(context),
        stateless,
    };
    issue(context, store, secret, token, &wanted.scope());
    Ok(Response::json(201, body))
}

/// `installation`, unless it is suspended.
pub(super) fn not_suspended(installation: &Installation) -> Result<&Installation, Problem> {
    match installation.suspended_at {
        Some(_) => Err(Problem::new(403, "This installation has been suspended", Docs::Operation)),
        None => Ok(installation),
    }
}

/// Makes `token` work, and counts it under `scope`.
pub(super) fn issue(
    context: &RequestContext<'_>,
    store: &mut Store,
    secret: String,
    token: Token,
    scope: &str,
) {
    context.state.journal.lock().record_mint(token.installation, scope);
    store.insert_token(secret, token, context.state.clock.now());
}

/// The time at which a token that is minted now expires.
pub(super) fn deadline(context: &RequestContext<'_>) -> Millis {
    context.state.clock.now().saturating_add(lifetime(context.effects).saturating_mul(SECOND))
}

/// The `expires_at` of a token that is minted now; `None` if a fault leaves it out.
pub(super) fn expires_at(context: &RequestContext<'_>) -> Option<String> {
    let of_fault = context.effects.iter().find_map(|effect| match effect {
        Effect::ExpiresAt { value } => Some(value.clone()),
        _ => None,
    });
    of_fault.unwrap_or_else(|| {
        Some(iso(context.state.clock.skewed_second().saturating_add(lifetime(context.effects))))
    })
}

/// Whether a fault ignores the restriction to repositories or a user.
pub(super) fn is_unrestricted_by_fault(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::WiderGrant { repositories: WiderRepositories::All, .. }))
}

/// The token that a fault prescribes.
pub(super) fn token_of_fault(effects: &[Effect]) -> Option<&str> {
    effects.iter().find_map(|effect| match effect {
        Effect::Token { value } => Some(value.as_str()),
        _ => None,
    })
}

/// `DELETE /installation/token`
pub(super) fn revoke(context: &RequestContext<'_>, store: &mut Store, _token: &Token) -> Outcome {
    if let Some(secret) = context.request.credential().secret() {
        store.revoke(secret, context.state.options.stateless_revocation);
    }
    Ok(Response::no_content())
}

/// How long a token lives, in seconds.
const LIFETIME: i64 = 3600;

fn body(
    context: &RequestContext<'_>,
    store: &Store,
    installation: &Installation,
    grant: &Grant,
    secret: &str,
) -> Value {
    let selection =
        if grant.repositories.is_some() { Selection::Selected } else { installation.repository_selection };
    let mut body = json!({
        "token": secret,
        "permissions": grant.permissions,
        "repository_selection": selection,
    });
    if let Some(listed) = &grant.listed {
        let repositories = listed.iter().filter_map(|id| store.repository_by_id(*id));
        let repositories = repositories.map(|own| render::repository(store, own, context.version));
        body["repositories"] = repositories.collect();
    }
    if let Some(expires_at) = expires_at(context) {
        body["expires_at"] = json!(expires_at);
    }
    body
}

fn lifetime(effects: &[Effect]) -> i64 {
    let of_fault = effects.iter().find_map(|effect| match effect {
        Effect::Lifetime { seconds } => Some(*seconds),
        _ => None,
    });
    of_fault.unwrap_or(LIFETIME)
}
