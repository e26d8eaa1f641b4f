//! Apps: the authenticated one, and any by its slug.

use super::context::RequestContext;
use super::problem::{Outcome, Problem};
use crate::fake_github::wire::response::Response;
use crate::fake_github::world::definition::App;
use crate::fake_github::world::render;
use crate::fake_github::world::store::{Store, Token};

/// `GET /app`
pub(super) fn authenticated(_call: &RequestContext<'_>, store: &mut Store, app: &App) -> Outcome {
    Ok(Response::json(200, render::app(store, app)))
}

/// `GET /apps/{app_slug}`
pub(super) fn by_slug(context: &RequestContext<'_>, store: &Store, _token: Option<&Token>) -> Outcome {
    let app =
        store.world.apps.iter().find(|app| app.slug == context.text(0)).ok_or_else(Problem::not_found)?;
    Ok(Response::json(200, render::app(store, app)))
}
