//! Errors of vending, by what a caller can do about them.

use std::time::Duration;

use jiff::SignedDuration;

use crate::github::{Failure, Kind, Origin};
use crate::model::{AppName, Scope};

/// Why a caller gets no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// GitHub did not hand one out.
    #[error(transparent)]
    Github(#[from] Failure),
    /// GitHub has no such installation for this app.
    #[error("{0}")]
    UnknownInstallation(String),
    /// The app has several installations and the request names none.
    #[error("{0}")]
    SelectorNeeded(String),
    /// Several apps are configured and the request names none.
    #[error("{0}")]
    AppNeeded(String),
    /// No app of this name is configured.
    #[error("{0}")]
    UnknownApp(String),
    /// More life is asked for than GitHub's tokens have left for sure.
    #[error("{0}")]
    MinTtlTooLong(String),
    /// No token lives as long as is asked for, because no new one could be minted.
    #[error("{because}; the cached token lives {} more: ask for less with min_ttl=, or leave it out", format_duration(*remaining))]
    MinTtlUnavailable {
        /// Why no new one could be minted.
        because: Box<Error>,
        /// What is left of the cached one.
        remaining: Duration,
    },
    /// The mint's task panicked.
    #[error("internal error while minting: the next request tries again; please report it with the log")]
    Internal,
    /// A webhook has invalidated the token while it was being minted.
    #[error("the token was invalidated by a webhook while it was being minted: try again")]
    InvalidatedWhileMinting,
    /// The daemon is about to exit and mints no more.
    #[error("ghtokend is shutting down and mints no more tokens: ask the one that takes its place")]
    ShuttingDown,
}

impl Error {
    /// A failure of `operation` that a caller meets, put on record.
    pub(super) fn logged(operation: &'static str, failure: Failure) -> Self {
        if failure.origin == Origin::Upstream
            && !matches!(failure.kind, Kind::Unsupported | Kind::UserTokensUnsupported)
        {
            tracing::warn!(operation, kind = failure.kind.as_str(), error = %failure, "GitHub request failed");
        }
        Self::Github(failure)
    }

    /// The same, naming the app if the app itself is at fault: there may be several.
    pub(super) fn about(self, app: &AppName) -> Self {
        match self {
            Self::Github(failure) if matches!(failure.kind, Kind::AppRejected | Kind::Forbidden) => {
                let message = format!("app {app}: {}", failure.message);
                Self::Github(Failure { message, ..failure })
            }
            error => error,
        }
    }

    /// Whether an outdated look-up would explain it.
    pub(super) fn may_mean_another_installation(&self, scope: &Scope) -> bool {
        let Self::Github(failure) = self else { return false };
        // A cached failure was followed up when GitHub answered so.
        if failure.origin == Origin::Local {
            return false;
        }
        let is_unknown = matches!(failure.kind, Kind::NotFound | Kind::Gone);
        is_unknown || (failure.kind == Kind::ScopeRefused && scope.names_repositories())
    }

    /// More than the `longest` life that can be asked for.
    pub(super) fn min_ttl_too_long(longest: Duration) -> Self {
        let longest = format_duration(longest);
        Self::MinTtlTooLong(format!(
            "min_ttl is longer than GitHub's tokens are good for: ask for {longest} at most, and again before it ends"
        ))
    }

    /// Whether GitHub said nothing about what it was asked.
    pub(super) fn is_inconclusive(&self) -> bool {
        match self {
            Self::Github(failure) => failure.kind.is_inconclusive(),
            Self::Internal | Self::InvalidatedWhileMinting => true,
            _ => false,
        }
    }

    /// Whether it is our own budget or share that is spent.
    pub(super) fn is_budget(&self) -> bool {
        matches!(self, Self::Github(failure) if matches!(failure.kind, Kind::BudgetSpent | Kind::CallerLimited))
    }

    /// How long to wait at least before the next attempt, if it says so.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let retry_after = match self {
            Self::Github(failure) => failure.retry_after,
            _ => None,
        };
        if self.is_inconclusive() { retry_after } else { retry_after.max(Some(REFUSED_RETRY_INTERVAL)) }
    }

    /// A token whose life was over before its answer came: a very short one, or the machine slept meanwhile.
    pub(super) fn expired_before_use() -> Self {
        let message =
            "minting a token took longer than the token lives: try again, and see why GitHub is that slow";
        Self::Github(Failure::new(Kind::TimedOut, message))
    }
}

/// What GitHub has denied, an owner of the account has to change.
const REFUSED_RETRY_INTERVAL: Duration = Duration::from_secs(600);

/// `12m 30s`, in whole seconds.
pub(super) fn format_duration(duration: Duration) -> String {
    format!("{:#}", SignedDuration::from_secs(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
}
