//! Why there is no token, told by what a caller can do about it.

use crate::github::{Failure, Kind};
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
    /// The mint's task panicked.
    #[error(
        "ghtokend failed inside while minting: the next request tries anew; please report it with the log"
    )]
    Crashed,
    /// The daemon is about to exit and mints no more.
    #[error("ghtokend is shutting down and mints no more tokens: ask the one that takes its place")]
    ShuttingDown,
}

impl Error {
    /// The same, naming the app where the app is what is wrong: there may be several.
    pub(super) fn about(self, app: &AppName) -> Self {
        match self {
            Self::Github(failure) if failure.kind == Kind::AppRejected => {
                let message = format!("app {app}: {}", failure.message);
                Self::Github(Failure { message, ..failure })
            }
            error => error,
        }
    }

    /// Whether a look-up that is out of date would explain it.
    pub(super) fn may_mean_another_installation(&self, scope: &Scope) -> bool {
        let Self::Github(failure) = self else { return false };
        failure.kind == Kind::NotFound || (failure.kind == Kind::ScopeRefused && scope.names_repositories())
    }

    /// A token whose life was over before its answer came: a very short one, or the machine slept meanwhile.
    pub(super) fn dead_on_arrival() -> Self {
        let message =
            "minting a token took longer than the token lives: try again, and see why GitHub is that slow";
        Self::Github(Failure::new(Kind::TimedOut, message))
    }
}
