//! Installation tokens, also on behalf of a user.

use super::installations::own_installation;
use super::{render, users};
use crate::fake_github::api::context::RequestContext;
use crate::fake_github::api::grant::{Grant, TokenRequest};
use crate::fake_github::api::problem::Outcome;
use crate::fake_github::api::token_text;
use crate::fake_github::api::tokens;
use crate::fake_github::wire::response::Response;
use crate::fake_github::world::definition::{Account, App};
use crate::fake_github::world::store::{Stateless, Store, Token};

/// `POST /installations/{installation_id}/access_tokens`
pub(in crate::fake_github::api) fn mint(
    context: &RequestContext<'_>,
    store: &mut Store,
    app: &App,
) -> Outcome {
    let installation = tokens::not_suspended(own_installation(context, store, app)?)?.clone();
    let user = users::on_behalf_of(context, store, &installation)?;
    // This dialect cannot narrow a token.
    let grant = Grant::new(&TokenRequest::default(), context, store, &installation)?;
    let secret = match tokens::token_of_fault(context.effects) {
        Some(text) => text.to_owned(),
        None => token_text::legacy(&store.random, &context.state.options),
    };
    let scope = user.map(|user| format!("user_id={}", user.id())).unwrap_or_default();
    let user = user.filter(|_| !tokens::is_unrestricted_by_fault(context.effects));
    let response =
        Response::ordered(201, &render::token(context.state, &secret, tokens::expires_at(context), user));
    let user = user.map(Account::id);
    let token = Token {
        installation: installation.id,
        permissions: grant.permissions,
        repositories: None,
        user,
        created: context.state.clock.now(),
        deadline: tokens::deadline(context),
        stateless: Stateless::No,
    };
    tokens::issue(context, store, secret, token, &scope);
    Ok(response)
}
