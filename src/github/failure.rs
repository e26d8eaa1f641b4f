//! Failed calls to GitHub, classified by what a caller can do about them. Pure.

use std::time::Duration;

use crate::model::ErrorCode;

/// A call to GitHub that brought nothing usable. The message is one plain sentence for the caller of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What can be done about it.
    pub kind: Kind,
    /// One plain sentence: what happened and what to do. Never holds a secret.
    pub message: String,
    /// How long to wait before the next attempt, as GitHub or admission says.
    pub retry_after: Option<Duration>,
    /// Who says so.
    pub origin: Origin,
}

/// Where a failure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// GitHub, or the way to it: a call was made.
    Upstream,
    /// Admission: no call was made. It refused this one, or remembers how GitHub answered before.
    Local,
}

/// What else would fail in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every call: there is no connection.
    Host,
    /// Every call of the app.
    App,
    /// Every token of the installation.
    Installation,
    /// The same question, and nothing else.
    Question,
    /// Nothing: it was refused here.
    Nothing,
}

/// The classes of failure. Each stands for something else that a caller, or the broker, does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// GitHub accepts neither the key, nor the app's id, nor the clock; or it has blocked the app.
    AppRejected,
    /// It accepts the app, and yet refuses this: by an IP allow list, or because the app is blocked there.
    Forbidden,
    /// An owner of the account has suspended the installation.
    Suspended,
    /// GitHub knows no such thing, or not for this app.
    NotFound,
    /// GitHub has no such installation, and has confirmed it.
    Gone,
    /// It has another name now.
    Moved,
    /// The installation cannot grant what was asked.
    ScopeRefused,
    /// The user is not one on whose behalf this installation may act.
    UserRefused,
    /// The dialect has no words for what was asked. GitHub was not asked.
    Unsupported,
    /// The dialect has no tokens on behalf of users. GitHub was not asked.
    UserTokensUnsupported,
    /// GitHub wants fewer calls.
    RateLimited,
    /// An answer that is not trusted: malformed, too long, or wider than what was asked.
    BadAnswer,
    /// A 5xx, or a connection that broke.
    Unavailable,
    /// No answer in time.
    TimedOut,
    /// No connection: name, address, TLS, or a proxy's refusal.
    Unreachable,
    /// No connection in time.
    ConnectTimedOut,
    /// This process has no file descriptor or port left for a connection.
    NoResources,
    /// Our own budget for calls is spent.
    BudgetSpent,
    /// The caller's fair share is spent.
    CallerLimited,
    /// Too many calls are under way or waiting.
    Overloaded,
    /// Nobody waited for it any more, so it was not sent.
    Abandoned,
}

impl Kind {
    /// Its name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AppRejected => "app_rejected",
            Self::Forbidden => "forbidden",
            Self::Suspended => "suspended",
            Self::NotFound => "not_found",
            Self::Gone => "gone",
            Self::Moved => "moved",
            Self::ScopeRefused => "scope_refused",
            Self::UserRefused => "user_refused",
            Self::Unsupported => "unsupported",
            Self::UserTokensUnsupported => "user_tokens_unsupported",
            Self::RateLimited => "rate_limited",
            Self::BadAnswer => "bad_answer",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::ConnectTimedOut => "connect_timed_out",
            Self::NoResources => "no_resources",
            Self::BudgetSpent => "budget_spent",
            Self::CallerLimited => "caller_limited",
            Self::Overloaded => "overloaded",
            Self::Abandoned => "abandoned",
        }
    }

    /// The `code` of the error that a caller hears.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::AppRejected | Self::Forbidden => ErrorCode::AppRejected,
            Self::Suspended => ErrorCode::InstallationSuspended,
            Self::NotFound | Self::Gone => ErrorCode::UnknownInstallation,
            Self::Moved | Self::BadAnswer => ErrorCode::BadUpstreamResponse,
            Self::ScopeRefused => ErrorCode::ScopeNotGranted,
            Self::UserRefused => ErrorCode::UserNotAuthorized,
            Self::Unsupported => ErrorCode::UnsupportedUpstream,
            Self::UserTokensUnsupported => ErrorCode::UserTokensUnsupported,
            Self::RateLimited | Self::BudgetSpent => ErrorCode::RateLimited,
            Self::CallerLimited => ErrorCode::CallerLimited,
            Self::Unavailable | Self::Unreachable => ErrorCode::GithubUnavailable,
            Self::TimedOut | Self::ConnectTimedOut => ErrorCode::GithubTimeout,
            Self::NoResources | Self::Overloaded | Self::Abandoned => ErrorCode::Overloaded,
        }
    }

    /// Whether the question was left open: the key, a limit or the way to GitHub stood before it.
    pub const fn is_inconclusive(self) -> bool {
        !matches!(
            self,
            Self::Suspended
                | Self::NotFound
                | Self::Gone
                | Self::Moved
                | Self::ScopeRefused
                | Self::UserRefused
                | Self::Unsupported
                | Self::UserTokensUnsupported
        )
    }

    /// Whether GitHub has said so, and will say the same until something changes or a limit ends.
    pub(crate) const fn is_definite(self) -> bool {
        !self.is_inconclusive() || matches!(self, Self::RateLimited)
    }

    /// Whether it says something of what was asked, and not only of the way there or of the app.
    pub const fn speaks_for_the_key(self) -> bool {
        matches!(self.scope(), Scope::Question | Scope::Installation)
    }

    /// For how much this answer speaks.
    pub(crate) const fn scope(self) -> Scope {
        match self {
            Self::Unreachable | Self::ConnectTimedOut => Scope::Host,
            Self::RateLimited | Self::AppRejected => Scope::App,
            Self::Suspended | Self::Gone => Scope::Installation,
            Self::NoResources
            | Self::BudgetSpent
            | Self::CallerLimited
            | Self::Overloaded
            | Self::Abandoned => Scope::Nothing,
            Self::Unsupported | Self::UserTokensUnsupported => Scope::Nothing,
            Self::Forbidden
            | Self::NotFound
            | Self::Moved
            | Self::ScopeRefused
            | Self::UserRefused
            | Self::BadAnswer
            | Self::Unavailable
            | Self::TimedOut => Scope::Question,
        }
    }
}

impl Failure {
    /// A failure with nothing but its class and sentence.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, origin: Origin::Upstream }
    }

    /// A refusal of our own: no call was made.
    pub(crate) fn local(kind: Kind, wait: Duration, message: impl Into<String>) -> Self {
        Self { retry_after: Some(wait), origin: Origin::Local, ..Self::new(kind, message) }
    }
}
