//! Which endpoint a request means: one match, byte for byte.

use hyper::Method;
use url::Url;

use super::reply::ApiError;
use crate::model::ErrorCode;

/// Everything that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint<'p> {
    Token,
    Reject,
    Git(GitOperation),
    Github(Call<'p>),
    Revoke,
    Webhook,
    Healthz,
    Readyz,
    Metrics,
    Status,
}

/// One of GitHub's own endpoints, with what stands in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call<'p> {
    App,
    /// The list.
    Installations(ApiStyle),
    Installation(InstallationPath<'p>),
    /// A new token for the installation of this id.
    Mint(ApiStyle, &'p str),
    Identity,
}

/// In which of GitHub's two styles a caller speaks, by the path that it takes. The upstream may speak the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ApiStyle {
    /// Today's paths and objects: GitHub Apps.
    Apps,
    /// Those of the preview of 2016: Integrations.
    Preview,
}

/// Which installation a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InstallationPath<'p> {
    Id(&'p str),
    Repository(&'p str, &'p str),
    Organization(&'p str),
    User(&'p str),
    Enterprise(&'p str),
}

/// An operation of git's credential protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GitOperation {
    Get,
    Erase,
    /// `store`, and operations of later versions of git: nothing is done.
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

impl Endpoint<'_> {
    /// Its name in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Reject => "reject",
            Self::Git(_) => "git_credential",
            Self::Github(Call::App) => "app",
            Self::Github(Call::Installations(_)) => "installations",
            Self::Github(Call::Installation(_)) => "installation",
            Self::Github(Call::Mint(..)) => "access_tokens",
            Self::Github(Call::Identity) => "identity",
            Self::Revoke => "revoke",
            Self::Webhook => "webhook",
            Self::Healthz => "healthz",
            Self::Readyz => "readyz",
            Self::Metrics => "metrics",
            Self::Status => "status",
        }
    }

    /// Whether its body is authenticated by a signature: it may come from anywhere, through any proxy.
    pub(super) const fn is_signed(self) -> bool {
        matches!(self, Self::Webhook)
    }

    /// Whether a request must carry a client header.
    pub(super) const fn needs_client(self) -> bool {
        !matches!(self, Self::Healthz | Self::Readyz | Self::Metrics | Self::Status)
    }

    /// Whether it takes a body.
    pub(super) fn takes_body(self) -> bool {
        self.method() == Method::POST
    }

    /// The most bytes that its body may have. GitHub lists all repositories that a delivery is about.
    pub(super) const fn max_body_bytes(self) -> usize {
        match self {
            Self::Webhook => 1024 * 1024,
            _ => 64 * 1024,
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Reject | Self::Git(_) | Self::Webhook | Self::Github(Call::Mint(..) | Call::Identity) => {
                Method::POST
            }
            Self::Revoke => Method::DELETE,
            _ => Method::GET,
        }
    }
}

/// The endpoint at `path` on `surface`. GitHub itself is at `api_url`.
pub(super) fn route<'p>(
    surface: Surface,
    method: &Method,
    path: &'p str,
    api_url: &Url,
) -> Result<Endpoint<'p>, ApiError> {
    let endpoint = match (surface, path) {
        (_, "/healthz") => Some(Endpoint::Healthz),
        (_, "/readyz") => Some(Endpoint::Readyz),
        (_, "/metrics") => Some(Endpoint::Metrics),
        (_, "/webhook") => Some(Endpoint::Webhook),
        (Surface::Ops, _) => {
            return Err(not_found(
                "there is no such path here: there are /healthz, /readyz, /metrics and /webhook",
            ));
        }
        (Surface::Tokens, "/token") => Some(Endpoint::Token),
        (Surface::Tokens, "/token/reject") => Some(Endpoint::Reject),
        (Surface::Tokens, "/status") => Some(Endpoint::Status),
        (Surface::Tokens, path) => match path.strip_prefix("/git-credential/") {
            Some(operation) => git(operation),
            None => github(path.strip_prefix(PREFIX).unwrap_or(path)),
        },
    };
    let Some(endpoint) = endpoint else {
        let api_url = api_url.as_str().trim_end_matches('/');
        return Err(not_found(format!(
            "ghtokend does not proxy the API: send this call to {api_url} with the token; here there are /token, \
             /token/reject, /git-credential/get, store and erase, /webhook, /status, /healthz, /readyz, /metrics, plus \
             the GitHub App endpoints listed in {}",
            env!("CARGO_PKG_REPOSITORY")
        )));
    };
    let (fits, allow) = match endpoint.method() {
        Method::POST => (*method == Method::POST, "POST"),
        Method::DELETE => (*method == Method::DELETE, "DELETE"),
        _ => (matches!(*method, Method::GET | Method::HEAD), "GET, HEAD"),
    };
    if fits {
        return Ok(endpoint);
    }
    let message = format!("method {method} is not allowed for {path}: use {}", endpoint.method());
    let error = ApiError::new(ErrorCode::MethodNotAllowed, message);
    Err(ApiError { allow: Some(allow), ..error })
}

/// GitHub Enterprise Servers have their API below this, and their clients may insist on it.
pub(super) const PREFIX: &str = "/api/v3";

/// <https://docs.github.com/en/rest/apps/apps>, and the page of 2016.
fn github(path: &str) -> Option<Endpoint<'_>> {
    let segments: Vec<_> = path.strip_prefix('/')?.split('/').collect();
    if segments.contains(&"") {
        return None;
    }
    let call = match *segments.as_slice() {
        ["app"] => Call::App,
        ["app", "installations"] => Call::Installations(ApiStyle::Apps),
        ["app", "installations", id] => Call::Installation(InstallationPath::Id(id)),
        ["app", "installations", id, "access_tokens"] => Call::Mint(ApiStyle::Apps, id),
        ["repos", owner, name, "installation"] => {
            Call::Installation(InstallationPath::Repository(owner, name))
        }
        ["orgs", login, "installation"] => Call::Installation(InstallationPath::Organization(login)),
        ["users", login, "installation"] => Call::Installation(InstallationPath::User(login)),
        ["enterprises", slug, "installation"] => Call::Installation(InstallationPath::Enterprise(slug)),
        ["installation", "token"] => return Some(Endpoint::Revoke),
        ["integration", "installations"] => Call::Installations(ApiStyle::Preview),
        ["installations", id, "access_tokens"] => Call::Mint(ApiStyle::Preview, id),
        ["integration", "identity", "user"] => Call::Identity,
        _ => return None,
    };
    Some(Endpoint::Github(call))
}

fn git(operation: &str) -> Option<Endpoint<'static>> {
    match operation {
        "get" => Some(Endpoint::Git(GitOperation::Get)),
        "erase" => Some(Endpoint::Git(GitOperation::Erase)),
        other if is_word(other) => Some(Endpoint::Git(GitOperation::Other)),
        _ => None,
    }
}

/// Whether git could name an operation so.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

pub(super) fn not_found(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::NotFound, message)
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    fn routed<'p>(surface: Surface, method: &Method, path: &'p str) -> Result<Endpoint<'p>, ApiError> {
        route(surface, method, path, &"https://api.github.com".parse().unwrap())
    }

    #[test]
    fn paths_are_matched_byte_for_byte() {
        assert_eq!(routed(Surface::Tokens, &Method::GET, "/token"), Ok(Endpoint::Token));
        for path in ["/token/", "//token", "/Token", "/a/../token", "/%74oken", "/", ""] {
            let error = routed(Surface::Tokens, &Method::GET, path).unwrap_err();
            assert_eq!((error.status, error.code.as_str()), (StatusCode::NOT_FOUND, "not_found"), "{path}");
        }
    }

    #[test]
    fn ops_listener_serves_no_token() {
        for path in ["/token", "/status"] {
            assert!(routed(Surface::Ops, &Method::GET, path).is_err(), "{path}");
        }
        assert_eq!(routed(Surface::Ops, &Method::GET, "/metrics"), Ok(Endpoint::Metrics));
    }

    #[test]
    fn other_method_gets_405_with_allow() {
        for method in [Method::POST, Method::OPTIONS, Method::DELETE] {
            let error = routed(Surface::Tokens, &method, "/token").unwrap_err();
            assert_eq!((error.code.as_str(), error.allow), ("method_not_allowed", Some("GET, HEAD")));
        }
    }

    #[test]
    fn github_paths_work_under_api_v3_prefix() {
        for (method, path, call) in [
            (Method::GET, "/app", Call::App),
            (Method::GET, "/app/installations", Call::Installations(ApiStyle::Apps)),
            (Method::GET, "/integration/installations", Call::Installations(ApiStyle::Preview)),
            (Method::GET, "/app/installations/7", Call::Installation(InstallationPath::Id("7"))),
            (
                Method::GET,
                "/repos/o/r/installation",
                Call::Installation(InstallationPath::Repository("o", "r")),
            ),
            (Method::GET, "/orgs/o/installation", Call::Installation(InstallationPath::Organization("o"))),
            (Method::GET, "/users/o/installation", Call::Installation(InstallationPath::User("o"))),
            (
                Method::GET,
                "/enterprises/e/installation",
                Call::Installation(InstallationPath::Enterprise("e")),
            ),
            (Method::POST, "/app/installations/7/access_tokens", Call::Mint(ApiStyle::Apps, "7")),
            (Method::POST, "/installations/7/access_tokens", Call::Mint(ApiStyle::Preview, "7")),
            (Method::POST, "/integration/identity/user", Call::Identity),
        ] {
            assert_eq!(routed(Surface::Tokens, &method, path), Ok(Endpoint::Github(call)));
            let prefixed = format!("/api/v3{path}");
            assert_eq!(routed(Surface::Tokens, &method, &prefixed), Ok(Endpoint::Github(call)));
            assert!(Endpoint::Github(call).needs_client());
            for no_path in [format!("{path}/"), format!("/api/v3/api/v3{path}"), format!("/api/v4{path}")] {
                assert_eq!(
                    routed(Surface::Tokens, &method, &no_path).unwrap_err().code.as_str(),
                    "not_found",
                    "{no_path}"
                );
            }
            assert_eq!(
                routed(Surface::Tokens, &Method::PUT, path).unwrap_err().code.as_str(),
                "method_not_allowed"
            );
        }
        let revoke = routed(Surface::Tokens, &Method::DELETE, "/installation/token");
        assert_eq!(revoke, Ok(Endpoint::Revoke));
        for path in
            ["/api/v3/token", "/api/v3/status", "/app//access_tokens", "/repos//x/installation", "/apiv3/app"]
        {
            assert!(routed(Surface::Tokens, &Method::GET, path).is_err(), "{path}");
        }
    }

    #[test]
    fn unserved_path_is_directed_to_github() {
        let error = routed(Surface::Tokens, &Method::GET, "/repos/acme/widgets").unwrap_err();
        assert!(error.message.contains("send this call to https://api.github.com with the token"));
    }
}
