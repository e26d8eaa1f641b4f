//! Installation tokens, also on behalf of a user.

use super::installations::own;
use super::{render, users};
use crate::fake_github::api::context::Call;
use crate::fake_github::api::token_text;
use crate::fake_github::api::tokens::{self, Ask, Grant};
use crate::fake_github::wire::response::{Answer, Outcome};
use crate::fake_github::world::definition::{Account, App};
use crate::fake_github::world::store::{Stateless, Store, Token};

/// `POST /installations/{installation_id}/access_tokens`
pub(crate) fn mint(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let installation = tokens::usable(own(call, store, app)?)?.clone();
    let user = users::on_behalf_of(call, store, &installation)?;
    // This dialect cannot ask for less than everything.
    let grant = Grant::of(&Ask::default(), call, store, &installation)?;
    let secret = match tokens::scripted_token(call.effects) {
        Some(text) => text.to_owned(),
        None => token_text::legacy(&store.random, &call.shared.options),
    };
    let scope = user.map(|user| format!("user_id={}", user.id())).unwrap_or_default();
    let user = user.filter(|_| !tokens::is_for_everything(call.effects));
    let answer = Answer::ordered(201, &render::token(call.shared, &secret, tokens::expires_at(call), user));
    let user = user.map(Account::id);
    let token = Token {
        installation: installation.id,
        permissions: grant.permissions,
        repositories: None,
        user,
        created: call.shared.clock.now(),
        deadline: tokens::deadline(call),
        stateless: Stateless::No,
    };
    tokens::issue(call, store, secret, token, &scope);
    Ok(answer)
}
