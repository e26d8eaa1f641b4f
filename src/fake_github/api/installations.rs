//! Installations as their app sees them.

use serde_json::{Value, json};

use super::context::Call;
use super::page::Page;
use super::repositories::moved;
use crate::fake_github::options::NEWEST_VERSION;
use crate::fake_github::wire::response::{Answer, Outcome, Problem};
use crate::fake_github::world::definition::{Account, App, Installation, Repository};
use crate::fake_github::world::render;
use crate::fake_github::world::store::Store;

/// `GET /app/installations`
pub(crate) fn list(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let mut all: Vec<&Installation> =
        store.world.installations.iter().filter(|own| own.app == app.name).collect();
    all.sort_by_key(|installation| installation.id);
    let page = Page::of(call, all.len());
    let items: Vec<Value> =
        page.items(&all).map(|installation| render::installation(store, installation)).collect();
    Ok(page.linked(Answer::json(200, json!(items))))
}

/// `GET /app/installations/{installation_id}`
pub(crate) fn get(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let installation = own(call, store, app)?;
    Ok(Answer::json(200, render::installation(store, installation)))
}

/// `DELETE /app/installations/{installation_id}`
pub(crate) fn delete(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let id = own(call, store, app)?.id;
    store.delete_installation(id);
    // The newest version deletes in the background and says so.
    Ok(if call.version < NEWEST_VERSION { Answer::no_content() } else { Answer::json(202, json!({})) })
}

/// `PUT /app/installations/{installation_id}/suspended`
pub(crate) fn suspend(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let id = own(call, store, app)?.id;
    store.suspend(id, call.shared.clock.shown_second());
    Ok(Answer::no_content())
}

/// `DELETE /app/installations/{installation_id}/suspended`
pub(crate) fn unsuspend(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let id = own(call, store, app)?.id;
    store.unsuspend(id);
    Ok(Answer::no_content())
}

/// `GET /app/installation-requests`: nobody ever asks here.
pub(crate) fn requests(_call: &Call<'_>, _store: &mut Store, _app: &App) -> Outcome {
    Ok(Answer::json(200, json!([])))
}

/// `GET /orgs/{org}/installation`
pub(crate) fn of_organization(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    of_account(call, store, app, |account| matches!(account, Account::Organization { .. }))
}

/// `GET /users/{username}/installation`, which finds organisations too.
pub(crate) fn of_user(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    of_account(call, store, app, |account| account.login().is_some())
}

/// `GET /enterprises/{enterprise}/installation`
pub(crate) fn of_enterprise(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    of_account(call, store, app, |account| matches!(account, Account::Enterprise { .. }))
}

/// `GET /repos/{owner}/{repo}/installation`
pub(crate) fn of_repository(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let (owner, name) = (call.text(0), call.text(1));
    match store.repository(owner, name) {
        Some(repository) => with_repository(store, app, repository),
        None => match store.moved_repository(owner, name) {
            Some(repository) => Ok(moved(call, repository, "/installation")),
            None => Err(Problem::not_found()),
        },
    }
}

/// `GET /repositories/{repository_id}/installation`, where the redirect of a renamed repository leads.
pub(crate) fn of_repository_id(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let repository = call.id(0).and_then(|id| store.repository_by_id(id)).ok_or_else(Problem::not_found)?;
    with_repository(store, app, repository)
}

/// The installation the path names, if it is the app's. Others' are not there for it.
pub(crate) fn own<'a>(call: &Call<'_>, store: &'a Store, app: &App) -> Result<&'a Installation, Problem> {
    call.id(0)
        .and_then(|id| store.installation(id))
        .filter(|installation| installation.app == app.name)
        .ok_or_else(Problem::not_found)
}

fn of_account(call: &Call<'_>, store: &Store, app: &App, wanted: fn(&Account) -> bool) -> Outcome {
    let account =
        store.account(call.text(0)).filter(|account| wanted(account)).ok_or_else(Problem::not_found)?;
    let on_account =
        |own: &&Installation| own.app == app.name && own.account.as_deref() == Some(account.name());
    let installation = store.world.installations.iter().find(on_account).ok_or_else(Problem::not_found)?;
    Ok(Answer::json(200, render::installation(store, installation)))
}

fn with_repository(store: &Store, app: &App, repository: &Repository) -> Outcome {
    let has_it = |own: &&Installation| {
        own.app == app.name && store.repositories_of(own).iter().any(|other| other.id == repository.id)
    };
    let installation = store.world.installations.iter().find(has_it).ok_or_else(Problem::not_found)?;
    Ok(Answer::json(200, render::installation(store, installation)))
}
