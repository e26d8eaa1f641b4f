//! Proof: what a caller calls itself. It keeps web pages out, and tells honest clients apart.

use hyper::header::HeaderMap;

use super::evidence::{Evidence, Share};

/// The header by which a caller names itself. No web page can send it unasked.
pub(crate) const CLIENT_HEADER: &str = "ghtokend-client";

/// The name in the client header.
pub(super) fn prove(headers: &HeaderMap) -> Evidence<'_> {
    let name = headers.get(CLIENT_HEADER).and_then(|value| value.to_str().ok());
    Evidence { name, share: name.map(Share::Name), ..Evidence::default() }
}

/// Whether a request says who sends it, by a header that no web page can set.
pub(crate) fn is_named(headers: &HeaderMap) -> bool {
    let has = |name: &str| headers.get(name).is_some_and(|value| !value.as_bytes().trim_ascii().is_empty());
    has(CLIENT_HEADER) || has(SECRET_HEADER) || has_bearer(headers)
}

/// `Basic` does not count: a URL alone can set it.
fn has_bearer(headers: &HeaderMap) -> bool {
    headers.get(hyper::header::AUTHORIZATION).is_some_and(|value| {
        let value = value.to_str().unwrap_or_default();
        let (scheme, credentials) = value.split_once(' ').unwrap_or_default();
        let known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
        known && !credentials.trim().is_empty()
    })
}

const SECRET_HEADER: &str = "ghtokend-secret";
