//! An installation access token, as GitHub granted it.

use std::sync::Arc;
use std::time::Duration;

use super::{AppName, Grant, InstallationId, Scope, Secret, SecretBytes, User, UserId};
use crate::clock::BootTime;

/// Which token: everything that makes one token differ from another. The key of the cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenKey {
    /// The app that mints it.
    pub app: AppName,
    /// The installation that it acts as.
    pub installation: InstallationId,
    /// The user on whose behalf it acts, if any.
    pub user: Option<UserId>,
    /// What it is narrowed to.
    pub scope: Arc<Scope>,
}

/// A token that has just come from GitHub, with its life on the clock that does not jump.
#[derive(Debug, Clone)]
pub struct Minted {
    /// What GitHub handed out.
    pub token: InstallationToken,
    /// When the request was sent: the latest moment at which its life may have begun.
    pub sent: BootTime,
    /// When the answer came: from then on, at the latest, it spreads to GitHub's replicas.
    pub landed: BootTime,
    /// How long it lives from then on, by GitHub's own clock.
    pub lifetime: Duration,
}

/// What GitHub answered to a mint. Opaque: neither length nor shape of the token means anything to us.
#[derive(Debug, Clone)]
pub struct InstallationToken {
    /// The token itself.
    pub secret: Secret,
    /// The end of its life, byte for byte as GitHub wrote it.
    pub expires_at: String,
    /// What it may do.
    pub grant: Grant,
    /// The user on whose behalf it acts, if any.
    pub on_behalf_of: Option<User>,
    /// All of GitHub's answer, byte for byte: JSON that has been read once and is passed on unread.
    pub json: SecretBytes,
}
