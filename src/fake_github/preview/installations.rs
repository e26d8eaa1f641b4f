//! Installations as an integration sees them.

use super::super::answer::{Answer, Outcome, Problem};
use super::super::call::Call;
use super::super::installations;
use super::super::page::Page;
use super::super::store::Store;
use super::super::world::{Account, App, Installation};
use super::render;

/// `GET /integration/installations`
pub(super) fn list(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let mut all: Vec<&Installation> = store
        .world
        .installations
        .iter()
        .filter(|own| own.app == app.name && is_known_to_2016(store, own))
        .collect();
    all.sort_by_key(|installation| installation.id);
    let page = Page::of(call, all.len());
    let items: Vec<render::Installation> =
        page.items(&all).map(|own| render::installation(call.shared, store, own)).collect();
    Ok(page.linked(Answer::ordered(200, &items)))
}

/// The installation the path names, if it is the app's.
pub(super) fn own<'a>(call: &Call<'_>, store: &'a Store, app: &App) -> Result<&'a Installation, Problem> {
    let own = installations::own(call, store, app)?;
    if is_known_to_2016(store, own) { Ok(own) } else { Err(Problem::not_found()) }
}

/// Nothing could be installed on an enterprise, and no account object of the preview could show one.
fn is_known_to_2016(store: &Store, installation: &Installation) -> bool {
    !matches!(store.account_of(installation), Some(Account::Enterprise { .. }))
}
