//! What GitHub tells of without being asked.

use super::{InstallationId, UserId};

/// Something that makes stale what is known of an installation or a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The installation has been suspended or deleted: its tokens are worthless.
    Gone(InstallationId),
    /// The installation has come, or come back.
    Back(InstallationId),
    /// What the app may do there, or with which repositories, has changed.
    Regranted(InstallationId),
    /// Its account, or one of its repositories, has another name or another owner, or is no more.
    Renamed(InstallationId),
    /// The app may no longer act on behalf of this user.
    UserLeft(UserId),
}

impl std::fmt::Display for News {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone(id) => write!(f, "installation {id} is suspended or deleted"),
            Self::Back(id) => write!(f, "installation {id} is there"),
            Self::Regranted(id) => write!(f, "installation {id} has other permissions or repositories"),
            Self::Renamed(id) => write!(f, "installation {id} has an account or repository of another name"),
            Self::UserLeft(id) => write!(f, "user {id} no longer lets the app act on their behalf"),
        }
    }
}
