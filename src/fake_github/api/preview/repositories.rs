//! Repositories: what a token and a user both see, and which ones an installation has.

use serde_json::{Value, json};

use super::installations::own;
use super::{render, users};
use crate::fake_github::api::context::Call;
use crate::fake_github::api::page::Page;
use crate::fake_github::wire::response::{Answer, Docs, Outcome, Problem};
use crate::fake_github::world::definition::{App, Selection};
use crate::fake_github::world::store::{Store, Token};

/// `GET /installation/repositories`, of a user with `?user_id=`
pub(crate) fn list(call: &Call<'_>, store: &Store, token: &Token) -> Outcome {
    let mut all = store.reach_of(token);
    if let Some(user) = users::in_query(call, store)? {
        all.retain(|repository| store.sees(user, repository));
    }
    let page = Page::of(call, all.len());
    let items: Vec<Value> = page.items(&all).map(|own| render::repository(call.shared, store, own)).collect();
    Ok(page.linked(Answer::json(200, json!({ "total_count": all.len(), "repositories": items }))))
}

/// `PUT /installations/{installation_id}/repositories/{repository_id}`. GitHub wanted the token of a user who may
/// change the installation; there are no such tokens here, and the app's JWT stands for it.
pub(crate) fn add(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let named = Named::by(call, store, app)?;
    store.add_repository(named.installation, &named.repository);
    Ok(Answer::no_content())
}

/// `DELETE /installations/{installation_id}/repositories/{repository_id}`
pub(crate) fn remove(call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    let named = Named::by(call, store, app)?;
    // Of the same operation today it is documented that neither is possible.
    if named.selection == Selection::All || named.is_the_only_one {
        let refused = Problem::new(422, "Validation Failed", Docs::Operation);
        return Err(refused.blaming("Installation", "repository_id", "invalid"));
    }
    if store.remove_repository(named.installation, &named.repository) {
        Ok(Answer::no_content())
    } else {
        Err(Problem::not_found())
    }
}

/// What the path names.
struct Named {
    installation: u64,
    selection: Selection,
    /// The name of the repository.
    repository: String,
    is_the_only_one: bool,
}

impl Named {
    /// The app's installation, and a repository of the account that it is on.
    fn by(call: &Call<'_>, store: &Store, app: &App) -> Result<Self, Problem> {
        let installation = own(call, store, app)?;
        let repository = call
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
