//! Faults that take the place of GitHub's response.

use super::rate_limit::{login_lockout, primary_limit, secondary_limit};
use crate::fake_github::faults::fault::Effect;
use crate::fake_github::state::State;
use crate::fake_github::wire::request::Request;
use crate::fake_github::wire::response::Response;
use crate::fake_github::world::limits::{Caller, Quota};

/// What happens instead of GitHub's response.
#[derive(Debug)]
pub(super) enum Replacement {
    /// Another response.
    Response(Response),
    /// The connection is reset.
    Reset,
    /// No response ever comes.
    Stall,
}

/// What `effect` puts in the place of GitHub's response; `None` if it only changes that one.
pub(super) fn replacement(state: &State, request: &Request, effect: &Effect) -> Option<Replacement> {
    let response = match effect {
        Effect::Status { status, body, headers } => {
            let response = Response::text(*status, "application/json; charset=utf-8", body);
            headers.iter().fold(response, |response, (name, value)| response.with_header(name, value))
        }
        Effect::PrimaryLimit { status, reset_seconds } => {
            let limit = state.options.installation_rate_limit;
            let reset = state.clock.skewed_second().saturating_add(*reset_seconds);
            let caller = Caller::Installation(installation_of(state, request).unwrap_or(1));
            primary_limit(*status, caller, Quota { limit, used: limit, reset })
        }
        Effect::SecondaryLimit { status, retry_after } => {
            let limit = state.options.installation_rate_limit;
            let quota = Quota { limit, used: 1, reset: state.clock.skewed_second() + 3600 };
            let retry_after = retry_after.map(|seconds| ("Retry-After", seconds.to_string()));
            let headers = quota.headers().into_iter().chain(retry_after);
            headers
                .fold(secondary_limit(*status), |response, (name, value)| response.with_header(name, value))
        }
        Effect::LoginLockout => login_lockout(&state.options),
        Effect::Html { status } => Response::text(*status, "text/html; charset=utf-8", UNICORN),
        Effect::Redirect { location, status } => {
            Response::text(*status, "text/html; charset=utf-8", "").with_header("Location", location)
        }
        Effect::ResetBefore => return Some(Replacement::Reset),
        Effect::Stall => return Some(Replacement::Stall),
        Effect::ResetAfter
        | Effect::CutBody
        | Effect::TruncatedBody
        | Effect::SlowHeaders { .. }
        | Effect::SlowBody { .. }
        | Effect::HugeBody { .. }
        | Effect::ContentType { .. }
        | Effect::MissingDate
        | Effect::ExpiresAt { .. }
        | Effect::Lifetime { .. }
        | Effect::WiderGrant { .. }
        | Effect::Token { .. } => return None,
    };
    Some(Replacement::Response(response))
}

/// The installation that the path names or the token is for.
fn installation_of(state: &State, request: &Request) -> Option<u64> {
    let path = request.path.as_deref().map(|path| path.strip_prefix("/app").unwrap_or(path));
    let named = path.and_then(|path| path.strip_prefix("/installations/"));
    if let Some(id) = named.and_then(|rest| rest.split('/').next()) {
        return id.parse().ok();
    }
    let store = state.store.lock();
    let token = store.live_token(request.credential().secret()?, state.clock.now())?;
    Some(token.installation)
}

const UNICORN: &str = "<!DOCTYPE html>\n<html>\n<head><title>Unicorn! &middot; GitHub</title></head>\n<body>\n\
                       <p><strong>We had issues producing the response to your request.</strong></p>\n</body>\n</html>\n";
