//! Installations as an integration sees them.

use super::render;
use crate::fake_github::api::context::RequestContext;
use crate::fake_github::api::installations;
use crate::fake_github::api::page::Page;
use crate::fake_github::api::problem::{Outcome, Problem};
use crate::fake_github::wire::response::Response;
use crate::fake_github::world::definition::{Account, App, Installation};
use crate::fake_github::world::store::Store;

/// `GET /integration/installations`
pub(in crate::fake_github::api) fn list(
    context: &RequestContext<'_>,
    store: &mut Store,
    app: &App,
) -> Outcome {
    let mut all: Vec<&Installation> = store
        .world
        .installations
        .iter()
        .filter(|own| own.app == app.name && is_known_to_2016(store, own))
        .collect();
    all.sort_by_key(|installation| installation.id);
    let page = Page::of(context, all.len());
    let items: Vec<render::Installation> =
        page.items(&all).map(|own| render::installation(context.state, store, own)).collect();
    Ok(page.linked(Response::ordered(200, &items)))
}

/// The installation that the path names, if it is the app's.
pub(super) fn own_installation<'a>(
    context: &RequestContext<'_>,
    store: &'a Store,
    app: &App,
) -> Result<&'a Installation, Problem> {
    let own = installations::own_installation(context, store, app)?;
    if is_known_to_2016(store, own) { Ok(own) } else { Err(Problem::not_found()) }
}

/// Nothing could be installed on an enterprise, and no account object of the preview could show one.
fn is_known_to_2016(store: &Store, installation: &Installation) -> bool {
    !matches!(store.account_of(installation), Some(Account::Enterprise { .. }))
}
