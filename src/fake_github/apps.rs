//! Apps: the one that asks, and any by its slug.

use super::answer::{Answer, Outcome, Problem};
use super::call::Call;
use super::render;
use super::store::{Store, Token};
use super::world::App;

/// `GET /app`
pub(super) fn authenticated(_call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    Ok(Answer::json(200, render::app(store, app)))
}

/// `GET /apps/{app_slug}`
pub(super) fn by_slug(call: &Call<'_>, store: &Store, _token: Option<&Token>) -> Outcome {
    let app = store.world.apps.iter().find(|app| app.slug == call.text(0)).ok_or_else(Problem::not_found)?;
    Ok(Answer::json(200, render::app(store, app)))
}
