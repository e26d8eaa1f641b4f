//! A request, read whole, and the credential in it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap};
use serde::de::DeserializeOwned;

/// A request on either listener.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// As it was sent, with the query.
    pub(crate) target: String,
    /// Within the API: without `/api/v3` and the query. `None` if it is not in the API at all.
    pub(crate) path: Option<String>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    /// `None` if it was too long.
    pub(crate) body: Option<Bytes>,
}

/// What `Authorization` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    None,
    /// By the scheme `Bearer`, which a JWT needs.
    Bearer(String),
    /// By the scheme `token` or `Basic`.
    Other(String),
}

impl Request {
    /// Reads all of it. Every path in the API begins with `prefix`.
    pub(crate) async fn read(request: hyper::Request<Incoming>, prefix: &str) -> Self {
        let (head, body) = request.into_parts();
        let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
        Self {
            method: head.method.as_str().to_owned(),
            target: head.uri.path_and_query().map_or_else(|| "*".to_owned(), ToString::to_string),
            path: head.uri.path().strip_prefix(prefix).map(str::to_owned),
            query: query.into_owned().collect(),
            headers: head.headers,
            body: Limited::new(body, MAX_BODY_BYTES).collect().await.ok().map(|body| body.to_bytes()),
        }
    }

    /// Whether it has `method` and a path that begins with `path`, each if given.
    pub(crate) fn matches(&self, method: Option<&str>, path: Option<&str>) -> bool {
        method.is_none_or(|method| method.eq_ignore_ascii_case(&self.method))
            && path.is_none_or(|path| {
                self.target.starts_with(path) || self.path.as_deref().is_some_and(|own| own.starts_with(path))
            })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first value of a query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn credential(&self) -> Credential {
        let Some(header) = self.headers.get(AUTHORIZATION) else { return Credential::None };
        // What is not text is not a credential either, but it is not nothing.
        let header = header.to_str().unwrap_or_default();
        let (scheme, value) = header.trim().split_once(' ').unwrap_or((header, ""));
        let value = value.trim();
        match scheme.to_ascii_lowercase().as_str() {
            "bearer" => Credential::Bearer(value.to_owned()),
            "basic" => Credential::Other(basic_secret(value).unwrap_or_default()),
            _ => Credential::Other(value.to_owned()),
        }
    }

    /// The body as JSON; an empty one is `{}`.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match self.body.as_deref() {
            None | Some([]) => serde_json::from_str("{}"),
            Some(body) => serde_json::from_slice(body),
        }
    }
}

impl Credential {
    /// The secret itself, whatever the scheme.
    pub(crate) fn secret(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Bearer(secret) | Self::Other(secret) => Some(secret),
        }
    }
}

/// The largest request body read. Nothing GitHub takes on these routes comes near.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// The password, or the user name where the token stands in its place.
fn basic_secret(encoded: &str) -> Option<String> {
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    let secret = if matches!(password, "" | "x-oauth-basic") { user } else { password };
    Some(secret.to_owned())
}
