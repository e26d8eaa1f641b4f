//! The error code: what programs read in a body, in metrics and in the audit log.

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Parameters or a body that are malformed or contradict each other; 422 where GitHub would say so.
    InvalidRequest,
    /// A guard refuses the caller.
    CallerForbidden,
    /// An owner has suspended the installation.
    InstallationSuspended,
    /// GitHub has no such installation for this app.
    UnknownInstallation,
    /// No such app is configured.
    UnknownApp,
    /// No such route, or no such nonce.
    NotFound,
    /// The route has other methods.
    MethodNotAllowed,
    /// The body, or the head, is too large.
    TooLarge,
    /// The installation does not have what was asked for.
    ScopeNotGranted,
    /// No token on behalf of this user.
    UserNotAuthorized,
    /// The dialect has no tokens on behalf of users.
    UserTokensUnsupported,
    /// The dialect lacks what was asked for.
    UnsupportedUpstream,
    /// The caller has spent its share.
    CallerLimited,
    /// GitHub limits the app, or a budget is spent.
    RateLimited,
    /// A defect of this program.
    Internal,
    /// GitHub does not accept key, app id or clock.
    AppRejected,
    /// An answer of GitHub that is not trusted.
    BadUpstreamResponse,
    /// Too many calls or bodies are under way.
    Overloaded,
    /// GitHub cannot be reached, or fails.
    GithubUnavailable,
    /// The daemon drains.
    ShuttingDown,
    /// GitHub did not answer in time.
    GithubTimeout,
}

impl ErrorCode {
    /// All of them, by status.
    pub const ALL: [Self; 21] = [
        Self::InvalidRequest,
        Self::CallerForbidden,
        Self::InstallationSuspended,
        Self::UnknownInstallation,
        Self::UnknownApp,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TooLarge,
        Self::ScopeNotGranted,
        Self::UserNotAuthorized,
        Self::UserTokensUnsupported,
        Self::UnsupportedUpstream,
        Self::CallerLimited,
        Self::RateLimited,
        Self::Internal,
        Self::AppRejected,
        Self::BadUpstreamResponse,
        Self::Overloaded,
        Self::GithubUnavailable,
        Self::ShuttingDown,
        Self::GithubTimeout,
    ];

    /// As it stands in a body and in a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::CallerForbidden => "caller_forbidden",
            Self::InstallationSuspended => "installation_suspended",
            Self::UnknownInstallation => "unknown_installation",
            Self::UnknownApp => "unknown_app",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooLarge => "too_large",
            Self::ScopeNotGranted => "scope_not_granted",
            Self::UserNotAuthorized => "user_not_authorized",
            Self::UserTokensUnsupported => "user_tokens_unsupported",
            Self::UnsupportedUpstream => "unsupported_upstream",
            Self::CallerLimited => "caller_limited",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::AppRejected => "app_rejected",
            Self::BadUpstreamResponse => "bad_upstream_response",
            Self::Overloaded => "overloaded",
            Self::GithubUnavailable => "github_unavailable",
            Self::ShuttingDown => "shutting_down",
            Self::GithubTimeout => "github_timeout",
        }
    }

    /// The HTTP statuses that it comes with, the usual one first.
    pub const fn statuses(self) -> &'static [u16] {
        match self {
            Self::InvalidRequest => &[400, 422],
            Self::CallerForbidden | Self::InstallationSuspended => &[403],
            Self::UnknownInstallation | Self::UnknownApp | Self::NotFound => &[404],
            Self::MethodNotAllowed => &[405],
            Self::TooLarge => &[413, 431],
            Self::ScopeNotGranted
            | Self::UserNotAuthorized
            | Self::UserTokensUnsupported
            | Self::UnsupportedUpstream => &[422],
            Self::CallerLimited | Self::RateLimited => &[429],
            Self::Internal => &[500],
            Self::AppRejected | Self::BadUpstreamResponse => &[502],
            Self::Overloaded | Self::GithubUnavailable | Self::ShuttingDown => &[503],
            Self::GithubTimeout => &[504],
        }
    }
}
