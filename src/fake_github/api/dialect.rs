//! Which dialect a request is answered in, and who is let into the preview.

use hyper::header::{ACCEPT, HeaderValue};

use super::routes::Availability;
use crate::fake_github::options::preview::Preview;
use crate::fake_github::wire::request::Request;
use crate::fake_github::wire::response::{Docs, Problem};

/// The dialect of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Today's.
    Modern,
    /// That of the preview.
    Preview,
}

/// The dialect in which a route that is `spoken` so answers `request`.
pub(crate) fn dialect(spoken: Option<Availability>, request: &Request, retired: bool) -> Dialect {
    // Clients of 2016 did not name versions, and no others ask for the repositories of a user.
    let of_2016 = request.header("X-GitHub-Api-Version").is_none()
        && (asks(request) || request.parameter("user_id").is_some());
    match spoken {
        Some(Availability::ByPreview) => Dialect::Preview,
        Some(Availability::InBoth) if of_2016 && !retired => Dialect::Preview,
        _ => Dialect::Modern,
    }
}

/// Lets in who asks for the preview's media type.
pub(crate) fn gate(request: &Request, options: &Preview) -> Result<(), Problem> {
    if asks(request) {
        return Ok(());
    }
    let message = format!(
        "If you would like to help us test the {} API during its preview period, you must specify a custom media \
         type in the 'Accept' header. Please see the docs for full details.",
        options.name
    );
    Err(Problem::new(415, message, Docs::Operation))
}

/// What `X-GitHub-Media-Type` says. Today the name of the preview does no harm and is echoed.
pub(crate) fn media_type(request: &Request, dialect: Dialect) -> &'static str {
    match (dialect, asks(request)) {
        (_, false) => "github.v3; format=json",
        (Dialect::Modern, true) => "github.v3; param=machine-man-preview; format=json",
        (Dialect::Preview, true) => "github.machine-man-preview; format=json",
    }
}

/// Whether any `Accept` names the preview anywhere. GitHub read them as leniently: octokit.rb sent
/// `Accept: Accept: application/vnd.github.machine-man-preview+json` and was served.
fn asks(request: &Request) -> bool {
    let names_it = |value: &HeaderValue| {
        String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase().contains("machine-man-preview")
    };
    request.headers.get_all(ACCEPT).iter().any(names_it)
}
