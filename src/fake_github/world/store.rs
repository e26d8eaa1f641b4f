//! The living world: what [`World`] said at the start, changed by requests and by whoever runs the emulator.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::definition::{Account, App, Installation, Permissions, Repository, Selection, World};
use super::keys::KeyRing;
use super::nonces::Nonces;
use crate::fake_github::clock::{Millis, iso};
use crate::fake_github::options::{Options, Revocation};
use crate::fake_github::random::{HEX, Random};
use crate::fake_github::state::Urls;
use crate::fake_github::webhooks::delivery::Webhooks;

/// Everything that requests read and change.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) world: World,
    pub(crate) keys: KeyRing,
    pub(crate) urls: Arc<Urls>,
    /// Where its changes are told.
    pub(crate) webhooks: Webhooks,
    tokens: HashMap<String, Token>,
    pub(crate) nonces: Nonces,
    /// What tokens are made of.
    pub(crate) random: Random,
    /// Former names of repositories, owner and name in lower case.
    moved: HashMap<(String, String), u64>,
    /// At how many tokens the expired ones are looked for.
    sweep_at: usize,
}

/// A token that was handed out.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) installation: u64,
    pub(crate) permissions: Permissions,
    /// The repositories it is restricted to, by id.
    pub(crate) repositories: Option<BTreeSet<u64>>,
    /// The id of the user on whose behalf it acts, and without whom it sees nothing.
    pub(crate) user: Option<u64>,
    /// When it was made.
    pub(crate) created: Millis,
    /// The first moment it does not work any more.
    pub(crate) deadline: Millis,
    pub(crate) stateless: Stateless,
}

/// Whether GitHub has to look a token up to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stateless {
    Yes,
    No,
}

impl Store {
    pub(crate) fn new(options: &Options, keys: KeyRing, urls: Arc<Urls>, webhooks: Webhooks) -> Self {
        Self {
            world: options.world.clone(),
            keys,
            urls,
            webhooks,
            tokens: HashMap::new(),
            nonces: Nonces::default(),
            random: Random::new(options.seed),
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

    /// The repository that was once called this.
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

    /// What `token` reaches now: what it was made for, as far as the installation still has it.
    pub(crate) fn reach_of(&self, token: &Token) -> Vec<&Repository> {
        let Some(installation) = self.installation(token.installation) else { return Vec::new() };
        let mut repositories = self.repositories_of(installation);
        if let Some(only) = &token.repositories {
            repositories.retain(|repository| only.contains(&repository.id));
        }
        if let Some(user) = token.user {
            repositories.retain(|repository| self.sees(user, repository));
        }
        repositories
    }

    /// The token, if it works at `now`.
    pub(crate) fn live_token(&self, secret: &str, now: Millis) -> Option<&Token> {
        self.tokens
            .get(secret)
            .filter(|token| token.deadline > now)
            .filter(|token| self.installation(token.installation).is_some())
    }

    /// Remembers a token, and now and then forgets those that have expired.
    pub(crate) fn keep_token(&mut self, secret: String, token: Token, now: Millis) {
        if self.tokens.len() >= self.sweep_at {
            self.tokens.retain(|_, token| token.deadline > now);
            self.sweep_at = SWEEP_AT.max(self.tokens.len() * 2);
        }
        self.tokens.insert(secret, token);
    }

    /// Whether there was such a token. It dies at once, stateless or not.
    pub(crate) fn kill_token(&mut self, secret: &str) -> bool {
        self.tokens.remove(secret).is_some()
    }

    /// Whether there was such a token. What becomes of it depends on `policy` if it is stateless.
    pub(crate) fn revoke(&mut self, secret: &str, policy: Revocation) -> bool {
        match self.tokens.get(secret) {
            None => false,
            Some(token) if token.stateless == Stateless::Yes && policy == Revocation::Ineffective => true,
            Some(_) => self.tokens.remove(secret).is_some(),
        }
    }

    /// Whether there was such an installation.
    pub(crate) fn suspend(&mut self, id: u64, second: i64) -> bool {
        let Some(installation) = self.installation_mut(id) else { return false };
        if installation.suspended_at.is_none() {
            installation.suspended_at = Some(iso(second));
            self.tell_of_installation(id, "suspend");
        }
        true
    }

    /// Whether there was such an installation.
    pub(crate) fn unsuspend(&mut self, id: u64) -> bool {
        let Some(installation) = self.installation_mut(id) else { return false };
        if installation.suspended_at.take().is_some() {
            self.tell_of_installation(id, "unsuspend");
        }
        true
    }

    /// Whether there was such an installation.
    pub(crate) fn delete_installation(&mut self, id: u64) -> bool {
        if self.installation(id).is_none() {
            return false;
        }
        self.tell_of_installation(id, "deleted");
        self.world.installations.retain(|installation| installation.id != id);
        // Another installation may get the same id, but not these tokens.
        self.tokens.retain(|_, token| token.installation != id);
        self.nonces.forget_installation(id);
        true
    }

    /// A new nonce, good for `lifetime` from `now`: `user` came by the browser from `installation`. None if there is
    /// no such user or installation.
    pub(crate) fn add_nonce(
        &mut self,
        installation: u64,
        user: &str,
        lifetime: Duration,
        now: Millis,
    ) -> Option<String> {
        let whose = (self.installation(installation)?.id, self.user_named(user)?.id());
        let lifetime = Millis::try_from(lifetime.as_millis()).unwrap_or(Millis::MAX);
        let text = self.random.text(HEX, 40);
        self.nonces.keep(text.clone(), whose, now.saturating_add(lifetime), now);
        Some(text)
    }

    /// Why `installation` cannot be added, in words.
    pub(crate) fn add_installation(&mut self, installation: Installation) -> Result<(), String> {
        if self.installation(installation.id).is_some() {
            return Err(format!("installations: the id `{}` appears twice", installation.id));
        }
        self.world.check_installation(&installation)?;
        let id = installation.id;
        self.world.installations.push(installation);
        self.tell_of_installation(id, "created");
        Ok(())
    }

    /// Whether there was such an installation.
    pub(crate) fn set_permissions(&mut self, id: u64, permissions: Permissions) -> bool {
        let Some(installation) = self.installation_mut(id) else { return false };
        if installation.permissions != permissions {
            installation.permissions = permissions;
            self.tell_of_installation(id, "new_permissions_accepted");
        }
        true
    }

    /// Gives an installation a repository of its account, a new private one if need be. Whether there was such an
    /// installation, and on an account that can have repositories.
    pub(crate) fn add_repository(&mut self, id: u64, name: &str) -> bool {
        let owner = self.installation(id).and_then(|own| self.account_of(own)).and_then(Account::login);
        let Some(owner) = owner.map(str::to_owned) else { return false };
        let before = self.repositories_on(&owner);
        if self.repository(&owner, name).is_none() {
            let next =
                self.world.repositories.iter().map(|repository| repository.id).max().unwrap_or_default() + 1;
            self.world.repositories.push(Repository { id: next, owner, name: name.into(), private: true });
            self.tell_of_repository(next, "created", None);
        }
        if let Some(installation) = self.installation_mut(id)
            && installation.repository_selection == Selection::Selected
        {
            installation.repositories.insert(name.into());
        }
        self.tell_of_repositories(&before);
        true
    }

    /// Takes a repository from an installation; where it has all of the account's, the repository itself goes.
    /// Whether it had it.
    pub(crate) fn remove_repository(&mut self, id: u64, name: &str) -> bool {
        let Some(owner) = self.installation(id).and_then(|own| own.account.clone()) else { return false };
        let before = self.repositories_on(&owner);
        let Some(installation) = self.installation_mut(id) else { return false };
        let removed = match installation.repository_selection {
            Selection::Selected => installation.repositories.remove(name),
            Selection::All => self.delete_repository(&owner, name),
        };
        self.tell_of_repositories(&before);
        removed
    }

    fn delete_repository(&mut self, owner: &str, name: &str) -> bool {
        let of_this_name = |own: &&Repository| own.owner == owner && own.name == name;
        let Some(id) = self.world.repositories.iter().find(of_this_name).map(|own| own.id) else {
            return false;
        };
        self.tell_of_repository(id, "deleted", None);
        self.world.repositories.retain(|own| own.id != id);
        true
    }

    /// Whether there was such a repository. Its old name redirects from now on.
    pub(crate) fn rename_repository(&mut self, owner: &str, old: &str, new: &str) -> bool {
        let Some(repository) = self.repository(owner, old) else { return false };
        let (id, owner, old) = (repository.id, repository.owner.clone(), repository.name.clone());
        for repository in self.world.repositories.iter_mut().filter(|repository| repository.id == id) {
            repository.name = new.into();
        }
        for installation in &mut self.world.installations {
            if installation.account.as_deref() == Some(&owner) && installation.repositories.remove(&old) {
                installation.repositories.insert(new.into());
            }
        }
        self.world.rename_in_members(&owner, &old, new);
        self.moved.insert((owner.to_lowercase(), old.to_lowercase()), id);
        self.tell_of_repository(id, "renamed", Some(json!({ "repository": { "name": { "from": old } } })));
        true
    }

    /// Whether there was such an account. The old names of its repositories redirect from now on, its own does not.
    pub(crate) fn rename_account(&mut self, old: &str, new: &str) -> bool {
        let Some(account) = self.world.accounts.iter_mut().find(|account| account.name() == old) else {
            return false;
        };
        match account {
            Account::Organization { login, .. } | Account::User { login, .. } => *login = new.into(),
            Account::Enterprise { slug, .. } => *slug = new.into(),
        }
        for repository in self.world.repositories.iter_mut().filter(|repository| repository.owner == old) {
            repository.owner = new.into();
            self.moved.insert((old.to_lowercase(), repository.name.to_lowercase()), repository.id);
        }
        for installation in &mut self.world.installations {
            if installation.account.as_deref() == Some(old) {
                installation.account = Some(new.into());
            }
        }
        self.world.rename_member(old, new);
        for app in self.world.apps.iter_mut().filter(|app| app.owner.as_deref() == Some(old)) {
            app.owner = Some(new.into());
        }
        self.tell_of_rename(old, new);
        true
    }
}

/// Below this many tokens the expired ones do no harm.
const SWEEP_AT: usize = 1024;
