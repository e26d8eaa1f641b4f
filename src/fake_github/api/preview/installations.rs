//! Installations as an integration sees them.

use super::render;
use crate::fake_github::api::context::Call;
use crate::fake_github::api::installations;
use crate::fake_github::api::page::Page;
use crate::fake_github::wire::response::{Answer, Outcome, Problem};
use crate::fake_github::world::definition::{Account, App, Installation};
use crate::fake_github::world::store::Store;

/// `GET /integration/installations`
pub(crate) fn list(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
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
pub(crate) fn own<'a>(call: &Call<'_>, store: &'a Store, app: &App) -> Result<&'a Installation, Problem> {
    let own = installations::own(call, store, app)?;
    if is_known_to_2016(store, own) { Ok(own) } else { Err(Problem::not_found()) }
}

/// Nothing could be installed on an enterprise, and no account object of the preview could show one.
fn is_known_to_2016(store: &Store, installation: &Installation) -> bool {
    !matches!(store.account_of(installation), Some(Account::Enterprise { .. }))
}
