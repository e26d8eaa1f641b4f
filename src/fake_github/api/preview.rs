//! The other dialect: the "Integrations" preview of 2016, from which today's API grew.
//!
//! It has its own names for what the modern API does, wants its media type in `Accept`, and knows users: tokens act
//! on behalf of one, and a nonce from the browser tells who one is. World, tokens, clock, faults, journal and
//! counters are the same ones. GitHub switched it off in 2020; here it is answered until it is retired.

mod identity;
mod installations;
mod render;
mod repositories;
mod tokens;
mod users;

pub(crate) use repositories::list as repositories;

use super::routes::{Availability, Handler, Route};

const fn route(method: &'static str, template: &'static str, handler: Handler) -> Route {
    // Errors of this dialect all point to the one page there was.
    Route { method, template, docs: "", spoken: Availability::ByPreview, handler }
}

/// The operations that only this dialect has. It shares `GET /installation/repositories` with today's.
#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = &[
    route("GET", "/integration/installations", Handler::Jwt(installations::list)),
    route("POST", "/integration/identity/user", Handler::Jwt(identity::user)),
    route("POST", "/installations/{installation_id}/access_tokens", Handler::Jwt(tokens::mint)),
    route("PUT", "/installations/{installation_id}/repositories/{repository_id}", Handler::Jwt(repositories::add)),
    route("DELETE", "/installations/{installation_id}/repositories/{repository_id}", Handler::Jwt(repositories::remove)),
];
