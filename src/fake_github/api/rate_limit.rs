//! Responses to requests that exceed a rate limit.

use serde_json::json;

use crate::fake_github::options::Options;
use crate::fake_github::wire::response::Response;
use crate::fake_github::world::limits::{Caller, Quota};

/// The response over the primary limit.
pub(super) fn primary_limit(status: u16, caller: Caller, quota: Quota) -> Response {
    let caller = match caller {
        Caller::Anonymous => "127.0.0.1".to_owned(),
        Caller::Installation(id) => format!("installation ID {id}"),
    };
    let response = Response::json(
        status,
        json!({
            "message": format!("API rate limit exceeded for {caller}."),
            "documentation_url": "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api",
            "status": status.to_string(),
        }),
    );
    quota.headers().into_iter().fold(response, |response, (name, value)| response.with_header(name, value))
}

/// The response over a secondary limit. GitHub gives no `status` in it.
pub(super) fn secondary_limit(status: u16) -> Response {
    Response::json(
        status,
        json!({
            "documentation_url": "https://docs.github.com/free-pro-team@latest/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits",
            "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
        }),
    )
}

/// The response to everybody after too many refused credentials.
pub(super) fn login_lockout(options: &Options) -> Response {
    Response::json(
        403,
        json!({
            "message": options.wording.login_lockout,
            "documentation_url": "https://docs.github.com/rest",
            "status": "403",
        }),
    )
}
