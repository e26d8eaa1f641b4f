//! The world as it is now: what [`World`] said at the start, and what requests and control calls changed since.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::definition::{Account, App, Installation, Permissions, Repository, Selection, World};
use super::keys::AppKeys;
use super::nonces::Nonces;
use super::product::Revocation;
use super::urls::Urls;
use crate::fake_github::clock::Millis;
use crate::fake_github::random::Random;
use crate::fake_github::webhooks::delivery::Webhooks;

/// The state that requests read and change.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) world: World,
    pub(crate) keys: AppKeys,
    pub(crate) urls: Arc<Urls>,
    /// The queue of the webhooks that announce changes.
    pub(crate) webhooks: Webhooks,
    pub(super) tokens: HashMap<String, Token>,
    pub(crate) nonces: Nonces,
    /// For tokens and nonces.
    pub(crate) random: Random,
    /// Former names of repositories, owner and name in lower case.
    pub(super) moved: HashMap<(String, String), u64>,
    /// The number of tokens at which expired ones are next dropped.
    sweep_at: usize,
}

/// An installation token.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) installation: u64,
    pub(crate) permissions: Permissions,
    /// The repositories it is restricted to, by id.
    pub(crate) repositories: Option<BTreeSet<u64>>,
    /// The id of the user on whose behalf it acts, and without whom it sees nothing.
    pub(crate) user: Option<u64>,
    /// When it was minted.
    pub(crate) created: Millis,
    /// When it expires.
    pub(crate) deadline: Millis,
    pub(crate) stateless: Stateless,
}

/// Whether a token carries its own data, so that GitHub need not look it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stateless {
    Yes,
    No,
}

impl Store {
    pub(crate) fn new(
        world: World,
        seed: Option<u64>,
        keys: AppKeys,
        urls: Arc<Urls>,
        webhooks: Webhooks,
    ) -> Self {
        Self {
            world,
            keys,
            urls,
            webhooks,
            tokens: HashMap::new(),
            nonces: Nonces::default(),
            random: Random::new(seed),
            moved: HashMap::new(),
            sweep_at: SWEEP_AT,
        }
    }

    pub(crate) fn app(&self, name: &str) -> Option<&App> {
        self.world.apps.iter().find(|app| app.name == name)
    }

    pub(crate) fn installation(&self, id: u64) -> Option<&Installation> {
        self.world.installations.iter().find(|installation| installation.id == id)
    }

    pub(crate) fn installation_mut(&mut self, id: u64) -> Option<&mut Installation> {
        self.world.installations.iter_mut().find(|installation| installation.id == id)
    }

    /// The account with this login or slug, in any case.
    pub(crate) fn account(&self, name: &str) -> Option<&Account> {
        self.world.accounts.iter().find(|account| account.name().eq_ignore_ascii_case(name))
    }

    /// The account an installation is on.
    pub(crate) fn account_of(&self, installation: &Installation) -> Option<&Account> {
        installation.account.as_deref().and_then(|name| self.account(name))
    }

    pub(crate) fn repository(&self, owner: &str, name: &str) -> Option<&Repository> {
        self.world.repositories.iter().find(|repository| {
            repository.owner.eq_ignore_ascii_case(owner) && repository.name.eq_ignore_ascii_case(name)
        })
    }

    pub(crate) fn repository_by_id(&self, id: u64) -> Option<&Repository> {
        self.world.repositories.iter().find(|repository| repository.id == id)
    }

    /// The repository that had this name before.
    pub(crate) fn moved_repository(&self, owner: &str, name: &str) -> Option<&Repository> {
        let id = *self.moved.get(&(owner.to_lowercase(), name.to_lowercase()))?;
        self.repository_by_id(id)
    }

    /// The repositories of `installation`, in the order of their ids.
    pub(crate) fn repositories_of(&self, installation: &Installation) -> Vec<&Repository> {
        let Some(account) = &installation.account else { return Vec::new() };
        let mut repositories: Vec<&Repository> = self
            .world
            .repositories
            .iter()
            .filter(|repository| repository.owner == *account)
            .filter(|repository| match installation.repository_selection {
                Selection::All => true,
                Selection::Selected => installation.repositories.contains(&repository.name),
            })
            .collect();
        repositories.sort_by_key(|repository| repository.id);
        repositories
    }

    /// The token, if it is valid at `now`.
    pub(crate) fn live_token(&self, secret: &str, now: Millis) -> Option<&Token> {
        self.tokens
            .get(secret)
            .filter(|token| token.deadline > now)
            .filter(|token| self.installation(token.installation).is_some())
    }

    /// Adds a token. Now and then expired ones are dropped.
    pub(crate) fn insert_token(&mut self, secret: String, token: Token, now: Millis) {
        if self.tokens.len() >= self.sweep_at {
            self.tokens.retain(|_, token| token.deadline > now);
            self.sweep_at = SWEEP_AT.max(self.tokens.len() * 2);
        }
        self.tokens.insert(secret, token);
    }

    /// Removes a token, stateless or not. Whether there was such a token.
    pub(crate) fn remove_token(&mut self, secret: &str) -> bool {
        self.tokens.remove(secret).is_some()
    }

    /// Revokes a token; `policy` says what that does to a stateless one. Whether there was such a token.
    pub(crate) fn revoke(&mut self, secret: &str, policy: Revocation) -> bool {
        match self.tokens.get(secret) {
            None => false,
            Some(token) if token.stateless == Stateless::Yes && policy == Revocation::Ineffective => true,
            Some(_) => self.tokens.remove(secret).is_some(),
        }
    }
}

/// Up to this many tokens, expired ones are kept.
const SWEEP_AT: usize = 1024;
