//! Installation tokens, also on behalf of a user.

use super::super::answer::{Answer, Outcome};
use super::super::call::Call;
use super::super::mint::{self, Ask, Grant};
use super::super::store::{Stateless, Store, Token};
use super::super::token;
use super::super::world::{Account, App};
use super::installations::own;
use super::{render, users};

/// `POST /installations/{installation_id}/access_tokens`
pub(super) fn mint(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let installation = mint::usable(own(call, store, app)?)?.clone();
    let user = users::on_behalf_of(call, store, &installation)?;
    // This dialect cannot ask for less than everything.
    let grant = Grant::of(&Ask::default(), call, store, &installation)?;
    let secret = match mint::scripted_token(call.effects) {
        Some(text) => text.to_owned(),
        None => token::legacy(&store.random, &call.shared.options),
    };
    let scope = user.map(|user| format!("user_id={}", user.id())).unwrap_or_default();
    let user = user.filter(|_| !mint::is_for_everything(call.effects));
    let answer = Answer::ordered(201, &render::token(call.shared, &secret, mint::expires_at(call), user));
    let user = user.map(Account::id);
    let token = Token {
        installation: installation.id,
        permissions: grant.permissions,
        repositories: None,
        user,
        created: call.shared.clock.now(),
        deadline: mint::deadline(call),
        stateless: Stateless::No,
    };
    mint::issue(call, store, secret, token, &scope);
    Ok(answer)
}
