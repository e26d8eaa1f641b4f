//! Repositories, as far as a token reaches them.

use serde_json::{Value, json};

use super::context::RequestContext;
use super::page::Page;
use super::problem::{Outcome, Problem};
use crate::fake_github::wire::response::Response;
use crate::fake_github::world::definition::{Repository, Selection};
use crate::fake_github::world::render;
use crate::fake_github::world::store::{Store, Token};

/// `GET /installation/repositories`
pub(super) fn list(context: &RequestContext<'_>, store: &mut Store, token: &Token) -> Outcome {
    let all = store.repositories_of_token(token);
    let page = Page::of(context, all.len());
    let items: Vec<Value> =
        page.items(&all).map(|repository| render::repository(store, repository, context.version)).collect();
    let selection = match store.installation(token.installation) {
        Some(installation) if token.repositories.is_none() => installation.repository_selection,
        _ => Selection::Selected,
    };
    let body = json!({"total_count": all.len(), "repository_selection": selection, "repositories": items});
    Ok(page.linked(Response::json(200, body)))
}

/// `GET /repos/{owner}/{repo}`
pub(super) fn get(context: &RequestContext<'_>, store: &Store, token: Option<&Token>) -> Outcome {
    let (owner, name) = (context.text(0), context.text(1));
    match store.repository(owner, name) {
        Some(repository) => show(context, store, token, repository),
        None => match store.moved_repository(owner, name) {
            Some(repository) if visible(store, token, repository) => Ok(moved(context, repository, "")),
            _ => Err(Problem::not_found()),
        },
    }
}

/// `GET /repositories/{repository_id}`, where the redirect of a renamed repository leads.
pub(super) fn get_by_id(context: &RequestContext<'_>, store: &Store, token: Option<&Token>) -> Outcome {
    let repository =
        context.id(0).and_then(|id| store.repository_by_id(id)).ok_or_else(Problem::not_found)?;
    show(context, store, token, repository)
}

/// `GET /repos/{owner}/{repo}/issues`, which requires `issues`. The list is always empty.
pub(super) fn issues(context: &RequestContext<'_>, store: &Store, token: Option<&Token>) -> Outcome {
    empty_list(context, store, token, "issues")
}

/// `GET /repos/{owner}/{repo}/branches`, which requires `contents`. The list is always empty.
pub(super) fn branches(context: &RequestContext<'_>, store: &Store, token: Option<&Token>) -> Outcome {
    empty_list(context, store, token, "contents")
}

/// 301 to the same operation on a repository that has another name now.
pub(super) fn moved(context: &RequestContext<'_>, repository: &Repository, below: &str) -> Response {
    let url = format!("{}/repositories/{}{below}", context.state.urls.api, repository.id);
    let body = json!({
        "message": "Moved Permanently",
        "url": url,
        "documentation_url": "https://docs.github.com/rest/guides/best-practices-for-using-the-rest-api#follow-redirects",
    });
    Response::json(301, body).with_header("Location", url)
}

fn show(
    context: &RequestContext<'_>,
    store: &Store,
    token: Option<&Token>,
    repository: &Repository,
) -> Outcome {
    if !visible(store, token, repository) {
        return Err(Problem::not_found());
    }
    Ok(Response::json(200, render::repository(store, repository, context.version)))
}

/// An empty list, for a token that may read `permission`; enough to see what a token may do.
fn empty_list(
    context: &RequestContext<'_>,
    store: &Store,
    token: Option<&Token>,
    permission: &str,
) -> Outcome {
    let repository = store.repository(context.text(0), context.text(1)).ok_or_else(Problem::not_found)?;
    if !visible(store, token, repository) {
        return Err(Problem::not_found());
    }
    if token.is_some_and(|token| !token.permissions.contains_key(permission)) {
        return Err(Problem::not_accessible_by_integration(&format!("{permission}=read")));
    }
    Ok(Response::json(200, json!([])))
}

/// A token sees its own repositories and no others. GitHub shows public ones to everybody; but users of an
/// emulator want to know what the token reaches.
fn visible(store: &Store, token: Option<&Token>, repository: &Repository) -> bool {
    match token {
        Some(token) => store.repositories_of_token(token).iter().any(|other| other.id == repository.id),
        None => !repository.private,
    }
}
