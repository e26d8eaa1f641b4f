//! Installations as their app sees them.

use serde_json::{Value, json};

use super::context::RequestContext;
use super::page::Page;
use super::problem::{Outcome, Problem};
use super::repositories::moved;
use crate::fake_github::wire::response::Response;
use crate::fake_github::world::definition::{Account, App, Installation, Repository};
use crate::fake_github::world::product::NEWEST_VERSION;
use crate::fake_github::world::render;
use crate::fake_github::world::store::Store;

/// `GET /app/installations`
pub(super) fn list(context: &RequestContext<'_>, store: &mut Store, app: &App) -> Outcome {
    let mut all: Vec<&Installation> =
        store.world.installations.iter().filter(|own| own.app == app.name).collect();
    all.sort_by_key(|installation| installation.id);
    let page = Page::of(context, all.len());
    let items: Vec<Value> =
        page.items(&all).map(|installation| render::installation(store, installation)).collect();
    Ok(page.linked(Response::json(200, json!(items))))
}

/// `GET /app/installations/{installation_id}`
pub(super) fn get(context: &RequestContext<'_>, store: &mut Store, app: &App) -> Outcome {
    let installation = own_installation(context, store, app)?;
    Ok(Response::json(200, render::installation(store, installation)))
}

/// `DELETE /app/installations/{installation_id}`
pub(super) fn delete(context: &RequestContext<'_>, store: &mut Store, app: &App) -> Outcome {
    let id = own_installation(context, store, app)?.id;
    store.delete_installation(id);
    // The newest version deletes in the background and says so.
    Ok(if context.version < NEWEST_VERSION { Response::no_content() } else { Response::json(202, json!({})) })
}

/// `PUT /app/installations/{installation_id}/suspended`
pub(super) fn suspend(context: &RequestContext<'_>, store: &mut Store, app: &App) -> Outcome {
    let id = own_installation(context, store, app)?.id;
    store.suspend(id, context.state.clock.skewed_second());
    Ok(Response::no_content())
}

/// `DELETE /app/installations/{installation_id}/suspended`
pub(super) fn unsuspend(context: &RequestContext<'_>, store: &mut Store, app: &App) -> Outcome {
    let id = own_installation(context, store, app)?.id;
    store.unsuspend(id);
    Ok(Response::no_content())
}

/// `GET /app/installation-requests`: there never are any.
pub(super) fn requests(_call: &RequestContext<'_>, _store: &mut Store, _app: &App) -> Outcome {
    Ok(Response::json(200, json!([])))
}

/// `GET /orgs/{org}/installation`
pub(super) fn of_organization(context: &RequestContext<'_>, store: &mut Store, app: &App) -> Outcome {
    of_account(context, store, app, |account| matches!(account, Account::Organization { .. }))
}

/// `GET /users/{username}/installation`, which finds organisations too.
pub(super) fn of_user(context: &RequestContext<'_>, store: &mut Store, app: &App) -> Outcome {
    of_account(context, store, app, |account| account.login().is_some())
}

/// `GET /enterprises/{enterprise}/installation`
pub(super) fn of_enterprise(context: &RequestContext<'_>, store: &mut Store, app: &App) -> Outcome {
    of_account(context, store, app, |account| matches!(account, Account::Enterprise { .. }))
}

/// `GET /repos/{owner}/{repo}/installation`
pub(super) fn of_repository(context: &RequestContext<'_>, store: &mut Store, app: &App) -> Outcome {
    let (owner, name) = (context.text(0), context.text(1));
    match store.repository(owner, name) {
        Some(repository) => with_repository(store, app, repository),
        None => match store.moved_repository(owner, name) {
            Some(repository) => Ok(moved(context, repository, "/installation")),
            None => Err(Problem::not_found()),
        },
    }
}

/// `GET /repositories/{repository_id}/installation`, where the redirect of a renamed repository leads.
pub(super) fn of_repository_id(context: &RequestContext<'_>, store: &mut Store, app: &App) -> Outcome {
    let repository =
        context.id(0).and_then(|id| store.repository_by_id(id)).ok_or_else(Problem::not_found)?;
    with_repository(store, app, repository)
}

/// The installation that the path names. Those of other apps are not found.
pub(super) fn own_installation<'a>(
    context: &RequestContext<'_>,
    store: &'a Store,
    app: &App,
) -> Result<&'a Installation, Problem> {
    context
        .id(0)
        .and_then(|id| store.installation(id))
        .filter(|installation| installation.app == app.name)
        .ok_or_else(Problem::not_found)
}

fn of_account(
    context: &RequestContext<'_>,
    store: &Store,
    app: &App,
    wanted: fn(&Account) -> bool,
) -> Outcome {
    let account =
        store.account(context.text(0)).filter(|account| wanted(account)).ok_or_else(Problem::not_found)?;
    let on_account =
        |own: &&Installation| own.app == app.name && own.account.as_deref() == Some(account.name());
    let installation = store.world.installations.iter().find(on_account).ok_or_else(Problem::not_found)?;
    Ok(Response::json(200, render::installation(store, installation)))
}

fn with_repository(store: &Store, app: &App, repository: &Repository) -> Outcome {
    let has_it = |own: &&Installation| {
        own.app == app.name && store.repositories_of(own).iter().any(|other| other.id == repository.id)
    };
    let installation = store.world.installations.iter().find(has_it).ok_or_else(Problem::not_found)?;
    Ok(Response::json(200, render::installation(store, installation)))
}
