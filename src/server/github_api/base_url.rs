//! The URL at which a caller reaches this endpoint, for links in answers.

use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use crate::server::route::PREFIX;

/// Where the caller reaches us: what is linked to has to be there for it too.
pub(super) struct BaseUrl {
    /// `http://HOST`
    pub(super) origin: String,
    /// [`PREFIX`] if the caller used it.
    pub(super) prefix: &'static str,
}

impl BaseUrl {
    pub(super) fn of(head: &Parts) -> Self {
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        // The unix socket's callers may send anything, or nothing.
        let host = host.filter(|host| !host.as_str().contains('@'));
        Self {
            origin: format!("http://{}", host.as_ref().map_or("localhost", Authority::as_str)),
            prefix: if head.uri.path().starts_with(PREFIX) { PREFIX } else { "" },
        }
    }

    /// The URL of a path of the API.
    pub(super) fn api(&self, path: &str) -> String {
        format!("{}{}{path}", self.origin, self.prefix)
    }

    /// The URL of a path with the prefix that the request had.
    pub(super) fn of_path(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }
}
