//! Operations on the world: apps, installations, repositories, accounts, tokens, nonces.

use serde::Deserialize;
use serde_json::json;

use super::context::{ControlContext, ControlError, Outcome, done, found};
use crate::fake_github::world::definition::{Installation, Permissions};
use crate::fake_github::world::validation::check_levels;

/// `GET /apps`
pub(super) fn apps(context: &ControlContext<'_>) -> Outcome {
    Ok(json!(context.state.apps()))
}

/// `POST /apps/{app}/keys`
pub(super) fn add_key(context: &ControlContext<'_>) -> Outcome {
    let key = context.state.store.lock().keys.add(context.text(0));
    key.map(|key| json!(key)).ok_or_else(|| ControlError::not_found("no such app, or it has 25 keys already"))
}

/// `DELETE /apps/{app}/keys`
pub(super) fn remove_key(context: &ControlContext<'_>) -> Outcome {
    let Key { fingerprint } = context.body()?;
    let removed = context.state.store.lock().keys.remove(context.text(0), &fingerprint);
    found(removed, "no such key of such an app")
}

/// `POST /installations`
pub(super) fn add_installation(context: &ControlContext<'_>) -> Outcome {
    let installation: Installation = context.body()?;
    context.state.store.lock().add_installation(installation).map_err(ControlError::invalid)?;
    done()
}

/// `DELETE /installations/{id}`
pub(super) fn delete_installation(context: &ControlContext<'_>) -> Outcome {
    let id = context.id()?;
    found_installation(context.state.store.lock().delete_installation(id))
}

/// `POST /installations/{id}/suspend`
pub(super) fn suspend(context: &ControlContext<'_>) -> Outcome {
    let (id, second) = (context.id()?, context.state.clock.skewed_second());
    found_installation(context.state.store.lock().suspend(id, second))
}

/// `POST /installations/{id}/unsuspend`
pub(super) fn unsuspend(context: &ControlContext<'_>) -> Outcome {
    let id = context.id()?;
    found_installation(context.state.store.lock().unsuspend(id))
}

/// `PUT /installations/{id}/permissions`
pub(super) fn set_permissions(context: &ControlContext<'_>) -> Outcome {
    let id = context.id()?;
    let permissions: Permissions = context.body()?;
    check_levels(&permissions).map_err(ControlError::invalid)?;
    found_installation(context.state.store.lock().set_permissions(id, permissions))
}

/// `POST /installations/{id}/repositories`
pub(super) fn add_repository(context: &ControlContext<'_>) -> Outcome {
    let id = context.id()?;
    let Name { name } = context.body()?;
    found_installation(context.state.store.lock().add_repository(id, &name))
}

/// `DELETE /installations/{id}/repositories`
pub(super) fn remove_repository(context: &ControlContext<'_>) -> Outcome {
    let id = context.id()?;
    let Name { name } = context.body()?;
    found_installation(context.state.store.lock().remove_repository(id, &name))
}

/// `POST /repositories/{owner}/{repo}/rename`
pub(super) fn rename_repository(context: &ControlContext<'_>) -> Outcome {
    let Rename { to } = context.body()?;
    let (owner, name) = (context.text(0), context.text(1));
    found(context.state.store.lock().rename_repository(owner, name, &to), "no such repository")
}

/// `POST /accounts/{name}/rename`
pub(super) fn rename_account(context: &ControlContext<'_>) -> Outcome {
    let Rename { to } = context.body()?;
    found(context.state.store.lock().rename_account(context.text(0), &to), "no such account")
}

/// `POST /tokens/revoke`
pub(super) fn revoke_token(context: &ControlContext<'_>) -> Outcome {
    let Token { token } = context.body()?;
    found(context.state.store.lock().remove_token(&token), "no such token")
}

/// `POST /nonces`
pub(super) fn create_nonce(context: &ControlContext<'_>) -> Outcome {
    let Redirect { installation, user } = context.body()?;
    let nonce = context.state.create_nonce(installation, &user);
    nonce
        .map(|nonce| json!({ "nonce": nonce }))
        .ok_or_else(|| ControlError::not_found("no such installation, or no such user"))
}

fn found_installation(known: bool) -> Outcome {
    found(known, "no such installation, or it has no such repository")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    fingerprint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redirect {
    installation: u64,
    user: String,
}
