//! A call to GitHub, described and not yet sent.

use reqwest::Method;
use url::Url;

/// What to send. Its path is built of segments, so that no value can leave its place in it.
pub(crate) struct Request {
    /// For messages: "minting a token".
    pub what: &'static str,
    pub method: Method,
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
}
