//! Proof: the program that a caller uses. The weakest: every curl has the same.

use hyper::header::{HeaderMap, USER_AGENT};

use super::evidence::{Evidence, Share};

/// A share that goes by `User-Agent`. It is no name: log and audit do not show it.
pub(super) fn prove(headers: &HeaderMap) -> Evidence<'_> {
    let program = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    Evidence { share: program.map(Share::Name), ..Evidence::default() }
}
