//! Apps: the one that asks, and any by its slug.

use super::context::Call;
use crate::fake_github::wire::response::{Answer, Outcome, Problem};
use crate::fake_github::world::definition::App;
use crate::fake_github::world::render;
use crate::fake_github::world::store::{Store, Token};

/// `GET /app`
pub(crate) fn authenticated(_call: &Call<'_>, store: &mut Store, app: &App) -> Outcome {
    Ok(Answer::json(200, render::app(store, app)))
}

/// `GET /apps/{app_slug}`
pub(crate) fn by_slug(call: &Call<'_>, store: &Store, _token: Option<&Token>) -> Outcome {
    let app = store.world.apps.iter().find(|app| app.slug == call.text(0)).ok_or_else(Problem::not_found)?;
    Ok(Answer::json(200, render::app(store, app)))
}
