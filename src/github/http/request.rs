//! A call to GitHub, described and not yet sent.

use reqwest::Method;
use url::Url;

/// What to send. Its path is built of segments, so that no value can leave its place in it.
pub struct Request {
    /// For messages: "minting a token".
    pub what: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// Where it goes.
    pub url: Url,
    /// JSON.
    pub body: Option<Vec<u8>>,
}

impl Request {
    pub(crate) fn get(what: &'static str, base: &Url, segments: &[&str]) -> Self {
        let mut url = base.clone();
        // Fails only for URLs that cannot be a base, and settings accept http and https alone.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        Self { what, method: Method::GET, url, body: None }
    }

    /// A `GET` of what GitHub has linked to.
    pub(crate) fn to(url: Url, what: &'static str) -> Self {
        Self { what, method: Method::GET, url, body: None }
    }
}

/// `link`, a URL from an answer, if it has the origin of `base`: requests to it carry the app JWT.
pub(crate) fn on_origin_of(base: &Url, link: &str) -> Option<Url> {
    let url = base.join(link).ok()?;
    // A name in it would become a credential beside the app JWT.
    let plain = url.username().is_empty() && url.password().is_none();
    (plain && url.origin() == base.origin()).then_some(url)
}
