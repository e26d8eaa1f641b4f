//! Webhook events that concern tokens and look-ups.

use super::{InstallationId, Login, RepositoryName, UserId};

/// What invalidates tokens or look-ups of an installation, a repository or a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookEvent {
    /// The installation has been suspended or deleted: its tokens are revoked.
    InstallationRemoved(InstallationId),
    /// The installation has come, or come back.
    InstallationRestored(InstallationId),
    /// What the app may do there, or with which repositories, has changed.
    PermissionsChanged(InstallationId),
    /// The app may use more repositories there.
    RepositoriesAdded(InstallationId),
    /// Its account has another name.
    AccountRenamed(InstallationId),
    /// A repository is no longer where it was, under this name.
    RepositoryMoved(Login, RepositoryName),
    /// The app may no longer act on behalf of this user.
    UserAuthorizationRevoked(UserId),
}

impl std::fmt::Display for WebhookEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InstallationRemoved(id) => write!(f, "installation {id} is suspended or deleted"),
            Self::InstallationRestored(id) => write!(f, "installation {id} is there"),
            Self::PermissionsChanged(id) => {
                write!(f, "installation {id} has other permissions or repositories")
            }
            Self::RepositoriesAdded(id) => write!(f, "installation {id} has more repositories"),
            Self::AccountRenamed(id) => write!(f, "the account of installation {id} has another name"),
            Self::RepositoryMoved(owner, name) => write!(f, "repository {owner}/{name} is no longer there"),
            Self::UserAuthorizationRevoked(id) => {
                write!(f, "user {id} no longer lets the app act on their behalf")
            }
        }
    }
}
