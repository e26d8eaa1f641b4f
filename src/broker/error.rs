//! Why there is no token, told by what a caller can do about it.

use std::time::Duration;

use jiff::SignedDuration;

use crate::github::{Failure, Kind, Origin};
use crate::model::{AppName, Scope};

/// Why there is no token.
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
    /// No token lives as long as is asked for, because no new one could be had.
    #[error("{because}; the token in hand lives {} more: ask for less with min_ttl=, or leave it out", in_words(*remaining))]
    MinTtlUnavailable {
        /// Why no new one could be had.
        because: Box<Error>,
        /// What is left of the one in hand.
        remaining: Duration,
    },
    /// The mint's task panicked.
    #[error(
        "ghtokend failed inside while minting: the next request tries anew; please report it with the log"
    )]
    Internal,
    /// GitHub has told, while a token was minted, that it is worthless.
    #[error("GitHub told, while the token was minted, that it is worthless by now: try again")]
    InvalidatedWhileMinting,
    /// The daemon is about to exit and mints no more.
    #[error("ghtokend is shutting down and mints no more tokens: ask the one that takes its place")]
    ShuttingDown,
}

impl Error {
    /// The same, naming the app where the app is what is wrong: there may be several.
    pub(super) fn about(self, app: &AppName) -> Self {
        match self {
            Self::Github(failure) if matches!(failure.kind, Kind::AppRejected | Kind::Forbidden) => {
                let message = format!("app {app}: {}", failure.message);
                Self::Github(Failure { message, ..failure })
            }
            error => error,
        }
    }

    /// Whether a look-up that is out of date would explain it.
    pub(super) fn may_mean_another_installation(&self, scope: &Scope) -> bool {
        let Self::Github(failure) = self else { return false };
        // What is remembered was looked into when it was heard first.
        if failure.origin == Origin::Local {
            return false;
        }
        let is_unknown = matches!(failure.kind, Kind::NotFound | Kind::Gone);
        is_unknown || (failure.kind == Kind::ScopeRefused && scope.names_repositories())
    }

    /// More than the `longest` life that can be asked for.
    pub(super) fn min_ttl_too_long(longest: Duration) -> Self {
        let longest = in_words(longest);
        Self::MinTtlTooLong(format!(
            "min_ttl is longer than GitHub's tokens can be had for: ask for {longest} at most, and again before it ends"
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

    /// How long to wait at least before the same is tried in vain again.
    pub(super) fn named_wait(&self) -> Option<Duration> {
        let named = match self {
            Self::Github(failure) => failure.retry_after,
            _ => None,
        };
        if self.is_inconclusive() { named } else { named.max(Some(REFUSED_FOR)) }
    }

    /// A token whose life was over before its answer came: a very short one, or the machine slept meanwhile.
    pub(super) fn expired_before_use() -> Self {
        let message =
            "minting a token took longer than the token lives: try again, and see why GitHub is that slow";
        Self::Github(Failure::new(Kind::TimedOut, message))
    }
}

/// What GitHub has denied, an owner of the account has to change.
const REFUSED_FOR: Duration = Duration::from_secs(600);

/// `12m 30s`, in whole seconds.
pub(super) fn in_words(duration: Duration) -> String {
    format!("{:#}", SignedDuration::from_secs(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
}
