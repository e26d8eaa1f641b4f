//! What GitHub tells of without being asked.

use super::{InstallationId, Login, RepositoryName, UserId};

/// Something that makes stale what is known of an installation, a repository or a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The installation has been suspended or deleted: its tokens are worthless.
    Gone(InstallationId),
    /// The installation has come, or come back.
    Back(InstallationId),
    /// What the app may do there, or with which repositories, has changed.
    Regranted(InstallationId),
    /// The app may use more repositories there.
    Widened(InstallationId),
    /// Its account has another name.
    Renamed(InstallationId),
    /// A repository is no longer where it was, under this name.
    Moved(Login, RepositoryName),
    /// The app may no longer act on behalf of this user.
    UserLeft(UserId),
}

impl std::fmt::Display for News {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone(id) => write!(f, "installation {id} is suspended or deleted"),
            Self::Back(id) => write!(f, "installation {id} is there"),
            Self::Regranted(id) => write!(f, "installation {id} has other permissions or repositories"),
            Self::Widened(id) => write!(f, "installation {id} has more repositories"),
            Self::Renamed(id) => write!(f, "the account of installation {id} has another name"),
            Self::Moved(owner, name) => write!(f, "repository {owner}/{name} is no longer there"),
            Self::UserLeft(id) => write!(f, "user {id} no longer lets the app act on their behalf"),
        }
    }
}
