//! What a call is about, and what its failure is remembered for. Pure.

use crate::github::failure::{Failure, Kind, Scope};
use crate::model::AppName;

/// What a call is about, as far as failures of others concern it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    /// Whose limits it is under; `None` for a token that none of our apps is known to have minted.
    pub(crate) app: Option<AppName>,
    /// Whether the app's JWT authorises it, and not a token.
    pub(crate) signed_by_app: bool,
    /// The hash of its installation.
    pub(crate) installation: Option<u128>,
    /// The hash of what is asked; `None`: its failures are not remembered.
    pub(crate) question: Option<u128>,
    /// The hash of the installation or owner that it is about: where it has hung, whatever else is asked of it may.
    pub(crate) subject: u128,
}

/// What a failure is remembered for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Host,
    /// An app that GitHub limits.
    Limit(AppName),
    /// An app that GitHub does not accept.
    Refusal(AppName),
    Installation(u128),
    Question(u128),
    /// An installation or owner of which a question has hung: it has no pauses, and its questions are suspect.
    Slow(u128),
}

impl Topic {
    /// All that concerns it, the widest first.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        std::iter::once(Key::Host).chain(self.app_keys()).chain(self.own_keys())
    }

    pub(super) fn app_keys(&self) -> impl Iterator<Item = Key> + use<> {
        let limit = self.app.clone().map(Key::Limit);
        limit.into_iter().chain(self.app.clone().filter(|_| self.signed_by_app).map(Key::Refusal))
    }

    pub(super) fn own_keys(&self) -> impl Iterator<Item = Key> + use<> {
        let installation = self.installation.map(Key::Installation).into_iter();
        installation.chain(self.question.map(Key::Question)).chain([Key::Slow(self.subject)])
    }

    /// What `failure` is remembered for.
    pub(super) fn key(&self, failure: &Failure) -> Option<Key> {
        match (failure.kind.scope(), &self.app) {
            (Scope::Nothing, _) => None,
            (Scope::Host, _) => Some(Key::Host),
            (Scope::App, Some(app)) if failure.kind == Kind::RateLimited => Some(Key::Limit(app.clone())),
            (Scope::App, Some(app)) => Some(Key::Refusal(app.clone())),
            (Scope::Installation, _) => self.installation.map(Key::Installation),
            (Scope::Question | Scope::App, _) => self.question.map(Key::Question),
        }
    }
}

impl Key {
    /// Whether one call at a time finds out when the pause is over, and the others wait for that.
    pub(super) fn is_single(&self) -> bool {
        matches!(self, Self::Host | Self::Refusal(_) | Self::Installation(_))
    }

    /// Whether there may be any number of its kind.
    pub(super) fn is_bounded(&self) -> bool {
        matches!(self, Self::Installation(_) | Self::Question(_) | Self::Slow(_))
    }

    /// Failures in a row from which on there are pauses.
    pub(super) fn threshold(&self) -> u32 {
        if *self == Self::Host { UNREACHABLE_THRESHOLD } else { 1 }
    }
}

/// Connections that fail in a row before the host counts as unreachable: fewer may be one bad address of several.
pub(super) const UNREACHABLE_THRESHOLD: u32 = 5;
