//! Requests for tokens, and their answers.

use std::fmt;
use std::sync::Arc;

use super::cache::entry::Entry;
use super::error::format_duration;
use super::freshness::State;
use super::requirement::Requirement;
use crate::model::{AppName, InstallationId, Scope, Selector, TokenKey, UserId};

/// A caller's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// Which app; `None` is the default one.
    pub app: Option<AppName>,
    /// Which installation.
    pub selector: Selector,
    /// What the token is narrowed to.
    pub scope: Arc<Scope>,
    /// On whose behalf.
    pub user: Option<UserId>,
    /// How old it may be, or how long it has to live.
    pub requirement: Requirement,
}

/// A token for a caller.
#[derive(Debug, Clone)]
pub struct Vended {
    /// Which one.
    pub key: TokenKey,
    /// The token.
    pub entry: Arc<Entry>,
    /// How good it is.
    pub state: State,
    /// Whether it came from the cache, or had to be minted.
    pub origin: Origin,
}

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From the cache.
    Cached,
    /// It was minted for this request or one at the same time.
    Minted,
}

impl TokenRequest {
    pub(super) fn key(&self, app: &AppName, installation: InstallationId) -> TokenKey {
        TokenKey { app: app.clone(), installation, user: self.user, scope: Arc::clone(&self.scope) }
    }
}

impl fmt::Display for TokenRequest {
    /// As in a query, for log and audit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.selector, self.scope)?;
        if let Some(user) = self.user {
            write!(f, " user={user}")?;
        }
        match self.requirement {
            Requirement::MinTtl(life) => write!(f, " min_ttl={}", format_duration(life)),
            Requirement::Any | Requirement::RecentlyMinted => Ok(()),
        }
    }
}
