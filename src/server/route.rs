//! Which endpoint a request means: one match, byte for byte.

use hyper::{Method, StatusCode};

use super::reply::Refusal;

/// Everything that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Token,
    Reject,
    Git(GitOperation),
    Identity,
    Healthz,
    Readyz,
    Metrics,
    Status,
}

/// What git asks its credential helper to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GitOperation {
    Get,
    Erase,
    /// `store`, and whatever git may think of later: nothing is done.
    Other,
}

/// The two kinds of listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surface {
    /// `listen.tcp` and `listen.unix`: everything.
    Tokens,
    /// `listen.ops`: health and metrics, and no way to a token.
    Ops,
}

impl Endpoint {
    /// Its name in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Reject => "reject",
            Self::Git(_) => "git_credential",
            Self::Identity => "identity",
            Self::Healthz => "healthz",
            Self::Readyz => "readyz",
            Self::Metrics => "metrics",
            Self::Status => "status",
        }
    }

    /// Whether a request must say who its client is.
    pub(super) const fn needs_client(self) -> bool {
        matches!(self, Self::Token | Self::Reject | Self::Git(_) | Self::Identity)
    }

    /// Whether it takes a body, and is asked with `POST`.
    pub(super) const fn takes_body(self) -> bool {
        matches!(self, Self::Reject | Self::Git(_) | Self::Identity)
    }
}

/// The endpoint at `path` on `surface`.
pub(super) fn route(surface: Surface, method: &Method, path: &str) -> Result<Endpoint, Refusal> {
    let endpoint = match (surface, path) {
        (_, "/healthz") => Endpoint::Healthz,
        (_, "/readyz") => Endpoint::Readyz,
        (_, "/metrics") => Endpoint::Metrics,
        (Surface::Tokens, "/token") => Endpoint::Token,
        (Surface::Tokens, "/token/reject") => Endpoint::Reject,
        (Surface::Tokens, "/status") => Endpoint::Status,
        // GitHub Enterprise Servers have their API below a prefix, which their clients may insist on.
        (Surface::Tokens, "/integration/identity/user" | "/api/v3/integration/identity/user") => {
            Endpoint::Identity
        }
        (Surface::Tokens, path) => match path.strip_prefix("/git-credential/") {
            Some("get") => Endpoint::Git(GitOperation::Get),
            Some("erase") => Endpoint::Git(GitOperation::Erase),
            Some(other) if is_word(other) => Endpoint::Git(GitOperation::Other),
            _ => {
                return Err(not_found(
                    "/token, /token/reject, /git-credential/get, store and erase, /integration/identity/user, /status, \
                     /healthz, /readyz and /metrics; the rest of GitHub's API is at GitHub",
                ));
            }
        },
        (Surface::Ops, _) => return Err(not_found("/healthz, /readyz and /metrics")),
    };
    let (allow, message) = match (endpoint.takes_body(), method) {
        (false, &Method::GET | &Method::HEAD) | (true, &Method::POST) => return Ok(endpoint),
        (false, _) => ("GET, HEAD", format!("{path} is read with GET")),
        (true, _) => ("POST", format!("{path} is asked with POST")),
    };
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    Err(Refusal { allow: Some(allow), ..refusal })
}

/// What git could call an operation.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn not_found(there: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such path here: there are {there}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_byte_for_byte() {
        assert_eq!(route(Surface::Tokens, &Method::GET, "/token"), Ok(Endpoint::Token));
        for path in ["/token/", "//token", "/Token", "/a/../token", "/%74oken", "/", ""] {
            let refusal = route(Surface::Tokens, &Method::GET, path).unwrap_err();
            assert_eq!((refusal.status, refusal.code), (StatusCode::NOT_FOUND, "not_found"), "{path}");
        }
    }

    #[test]
    fn the_operations_listener_has_no_way_to_a_token() {
        for path in ["/token", "/status"] {
            assert!(route(Surface::Ops, &Method::GET, path).is_err(), "{path}");
        }
        assert_eq!(route(Surface::Ops, &Method::GET, "/metrics"), Ok(Endpoint::Metrics));
    }

    #[test]
    fn another_method_is_told_which_ones_do() {
        for method in [Method::POST, Method::OPTIONS, Method::DELETE] {
            let refusal = route(Surface::Tokens, &method, "/token").unwrap_err();
            assert_eq!((refusal.code, refusal.allow), ("method_not_allowed", Some("GET, HEAD")));
        }
    }
}
