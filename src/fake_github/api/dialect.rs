//! The dialect of a response, and access to the preview of 2016.

use hyper::header::{ACCEPT, HeaderValue};

use super::problem::{Docs, Problem};
use crate::fake_github::options::preview::Preview;
use crate::fake_github::wire::request::Request;

/// The dialect of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Today's, of GitHub Apps.
    Apps,
    /// That of the preview.
    Preview,
}

/// Whether `request` is from a client of 2016, where both dialects have the operation.
pub(super) fn is_of_preview(request: &Request) -> bool {
    // Clients of 2016 did not name versions, and only they list the repositories of a user.
    request.header("X-GitHub-Api-Version").is_none()
        && (accepts_preview(request) || request.parameter("user_id").is_some())
}

/// Refuses a request of the preview that does not accept the preview's media type.
pub(super) fn require_media_type(request: &Request, options: &Preview) -> Result<(), Problem> {
    if accepts_preview(request) {
        return Ok(());
    }
    let message = format!(
        "If you would like to help us test the {} API during its preview period, you must specify a custom media \
         type in the 'Accept' header. Please see the docs for full details.",
        options.name
    );
    Err(Problem::new(415, message, Docs::Operation))
}

/// The value of `X-GitHub-Media-Type`. Today the name of the preview does no harm and is echoed.
pub(super) fn media_type(request: &Request, dialect: Dialect) -> &'static str {
    match (dialect, accepts_preview(request)) {
        (_, false) => "github.v3; format=json",
        (Dialect::Apps, true) => "github.v3; param=machine-man-preview; format=json",
        (Dialect::Preview, true) => "github.machine-man-preview; format=json",
    }
}

/// Whether any `Accept` names the preview anywhere. GitHub read them as leniently: octokit.rb sent
/// `Accept: Accept: application/vnd.github.machine-man-preview+json` and was served.
fn accepts_preview(request: &Request) -> bool {
    let names_it = |value: &HeaderValue| {
        String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase().contains("machine-man-preview")
    };
    request.headers.get_all(ACCEPT).iter().any(names_it)
}
