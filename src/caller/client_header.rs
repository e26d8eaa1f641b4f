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
