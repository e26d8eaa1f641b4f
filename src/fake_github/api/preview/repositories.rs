//! Repositories: what a token and a user both see, and which ones an installation has.

use serde_json::{Value, json};

use super::installations::own_installation;
use super::{render, users};
use crate::fake_github::api::context::RequestContext;
use crate::fake_github::api::page::Page;
use crate::fake_github::api::problem::{Docs, Outcome, Problem};
use crate::fake_github::wire::response::Response;
use crate::fake_github::world::definition::{App, Selection};
use crate::fake_github::world::store::{Store, Token};

/// `GET /installation/repositories`, of a user with `?user_id=`
pub(in crate::fake_github::api) fn list(
    context: &RequestContext<'_>,
    store: &mut Store,
    token: &Token,
) -> Outcome {
    let mut all = store.repositories_of_token(token);
    if let Some(user) = users::in_query(context, store)? {
        all.retain(|repository| store.sees(user, repository));
    }
    let page = Page::of(context, all.len());
    let items: Vec<Value> =
        page.items(&all).map(|own| render::repository(context.state, store, own)).collect();
    Ok(page.linked(Response::json(200, json!({ "total_count": all.len(), "repositories": items }))))
}

/// `PUT /installations/{installation_id}/repositories/{repository_id}`. GitHub wanted the token of a user who may
/// change the installation; there are no such tokens here, and the app's JWT stands for it.
pub(in crate::fake_github::api) fn add(
    context: &RequestContext<'_>,
    store: &mut Store,
    app: &App,
) -> Outcome {
    let target = Target::find(context, store, app)?;
    store.add_repository(target.installation, &target.repository);
    Ok(Response::no_content())
}

/// `DELETE /installations/{installation_id}/repositories/{repository_id}`
pub(in crate::fake_github::api) fn remove(
    context: &RequestContext<'_>,
    store: &mut Store,
    app: &App,
) -> Outcome {
    let target = Target::find(context, store, app)?;
    // Of the same operation today it is documented that neither is possible.
    if target.selection == Selection::All || target.is_the_only_one {
        let problem = Problem::new(422, "Validation Failed", Docs::Operation);
        return Err(problem.with_error("Installation", "repository_id", "invalid"));
    }
    if store.remove_repository(target.installation, &target.repository) {
        Ok(Response::no_content())
    } else {
        Err(Problem::not_found())
    }
}

/// What the path names.
struct Target {
    installation: u64,
    selection: Selection,
    /// The name of the repository.
    repository: String,
    is_the_only_one: bool,
}

impl Target {
    /// The app's installation, and a repository of the account that it is on.
    fn find(context: &RequestContext<'_>, store: &Store, app: &App) -> Result<Self, Problem> {
        let installation = own_installation(context, store, app)?;
        let repository = context
            .id(1)
            .and_then(|id| store.repository_by_id(id))
            .filter(|repository| Some(&repository.owner) == installation.account.as_ref())
            .ok_or_else(Problem::not_found)?;
        let has_it = installation.repositories.contains(&repository.name);
        Ok(Self {
            installation: installation.id,
            selection: installation.repository_selection,
            repository: repository.name.clone(),
            is_the_only_one: has_it && installation.repositories.len() == 1,
        })
    }
}
