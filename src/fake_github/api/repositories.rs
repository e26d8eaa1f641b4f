//! Repositories, as far as a token reaches them.

use serde_json::{Value, json};

use super::context::Call;
use super::dialect::Dialect;
use super::page::Page;
use super::preview;
use crate::fake_github::wire::response::{Answer, Outcome, Problem};
use crate::fake_github::world::definition::{Repository, Selection};
use crate::fake_github::world::render;
use crate::fake_github::world::store::{Store, Token};

/// `GET /installation/repositories`
pub(crate) fn list(call: &Call<'_>, store: &mut Store, token: &Token) -> Outcome {
    if call.dialect == Dialect::Preview {
        return preview::repositories(call, store, token);
    }
    let all = store.reach_of(token);
    let page = Page::of(call, all.len());
    let items: Vec<Value> =
        page.items(&all).map(|repository| render::repository(store, repository, call.version)).collect();
    let selection = match store.installation(token.installation) {
        Some(installation) if token.repositories.is_none() => installation.repository_selection,
        _ => Selection::Selected,
    };
    let body = json!({"total_count": all.len(), "repository_selection": selection, "repositories": items});
    Ok(page.linked(Answer::json(200, body)))
}

/// `GET /repos/{owner}/{repo}`
pub(crate) fn get(call: &Call<'_>, store: &Store, token: Option<&Token>) -> Outcome {
    let (owner, name) = (call.text(0), call.text(1));
    match store.repository(owner, name) {
        Some(repository) => show(call, store, token, repository),
        None => match store.moved_repository(owner, name) {
            Some(repository) if visible(store, token, repository) => Ok(moved(call, repository, "")),
            _ => Err(Problem::not_found()),
        },
    }
}

/// `GET /repositories/{repository_id}`, where the redirect of a renamed repository leads.
pub(crate) fn get_by_id(call: &Call<'_>, store: &Store, token: Option<&Token>) -> Outcome {
    let repository = call.id(0).and_then(|id| store.repository_by_id(id)).ok_or_else(Problem::not_found)?;
    show(call, store, token, repository)
}

/// `GET /repos/{owner}/{repo}/issues`, which wants `issues`. There never are any.
pub(crate) fn issues(call: &Call<'_>, store: &Store, token: Option<&Token>) -> Outcome {
    nothing_for(call, store, token, "issues")
}

/// `GET /repos/{owner}/{repo}/branches`, which wants `contents`. There never are any.
pub(crate) fn branches(call: &Call<'_>, store: &Store, token: Option<&Token>) -> Outcome {
    nothing_for(call, store, token, "contents")
}

/// 301 to the same operation on a repository that has another name now.
pub(crate) fn moved(call: &Call<'_>, repository: &Repository, below: &str) -> Answer {
    let url = format!("{}/repositories/{}{below}", call.shared.urls.api, repository.id);
    let body = json!({
        "message": "Moved Permanently",
        "url": url,
        "documentation_url": "https://docs.github.com/rest/guides/best-practices-for-using-the-rest-api#follow-redirects",
    });
    Answer::json(301, body).with_header("Location", url)
}

fn show(call: &Call<'_>, store: &Store, token: Option<&Token>, repository: &Repository) -> Outcome {
    if !visible(store, token, repository) {
        return Err(Problem::not_found());
    }
    Ok(Answer::json(200, render::repository(store, repository, call.version)))
}

/// An empty list, for a token that may read `permission`; enough to see what a token may do.
fn nothing_for(call: &Call<'_>, store: &Store, token: Option<&Token>, permission: &str) -> Outcome {
    let repository = store.repository(call.text(0), call.text(1)).ok_or_else(Problem::not_found)?;
    if !visible(store, token, repository) {
        return Err(Problem::not_found());
    }
    if token.is_some_and(|token| !token.permissions.contains_key(permission)) {
        return Err(Problem::not_for_integrations(&format!("{permission}=read")));
    }
    Ok(Answer::json(200, json!([])))
}

/// A token sees its own repositories and no others. GitHub shows public ones to everybody; but who asks an emulator
/// wants to know what the token reaches.
fn visible(store: &Store, token: Option<&Token>, repository: &Repository) -> bool {
    match token {
        Some(token) => store.reach_of(token).iter().any(|other| other.id == repository.id),
        None => !repository.private,
    }
}
