//! Validation of a world.

use std::collections::BTreeSet;

use super::definition::{Account, Installation, Member, Permissions, Repository, Selection, World};

impl World {
    /// The first inconsistency, as an error message.
    pub(crate) fn check(&self) -> Result<(), String> {
        unique("apps", "name", self.apps.iter().map(|app| app.name.as_str()))?;
        unique("apps", "id", self.apps.iter().map(|app| app.id))?;
        unique("accounts", "login", self.accounts.iter().map(|account| account.name().to_lowercase()))?;
        unique("installations", "id", self.installations.iter().map(|installation| installation.id))?;
        unique("repositories", "id", self.repositories.iter().map(|repository| repository.id))?;
        for repository in &self.repositories {
            if !self.accounts.iter().any(|account| account.login() == Some(&repository.owner)) {
                return Err(format!("repositories: no account has the login `{}`", repository.owner));
            }
        }
        self.check_members()?;
        self.installations.iter().try_for_each(|installation| self.check_installation(installation))
    }

    /// What is wrong with `installation` in this world, as an error message.
    pub(crate) fn check_installation(&self, installation: &Installation) -> Result<(), String> {
        let id = installation.id;
        if !self.apps.iter().any(|app| app.name == installation.app) {
            return Err(format!("installations: {id}: no app has the name `{}`", installation.app));
        }
        if let Some(name) = &installation.account
            && !self.accounts.iter().any(|account| account.name() == name)
        {
            return Err(format!("installations: {id}: no account has the login or slug `{name}`"));
        }
        if installation.repository_selection == Selection::All && !installation.repositories.is_empty() {
            return Err(format!("installations: {id}: `repositories` goes only with `selected`"));
        }
        for name in &installation.repositories {
            let owned = |repository: &Repository| {
                Some(&repository.owner) == installation.account.as_ref() && repository.name == *name
            };
            if !self.repositories.iter().any(owned) {
                return Err(format!("installations: {id}: the account has no repository `{name}`"));
            }
        }
        check_levels(&installation.permissions).map_err(|why| format!("installations: {id}: {why}"))
    }

    /// What is wrong with the members, as an error message.
    fn check_members(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for Member { account, user, repositories } in &self.members {
            let name = format!("members: {account}/{user}");
            if !seen.insert(name.to_lowercase()) {
                return Err(format!("{name} appears twice"));
            }
            if !self.accounts.iter().any(|known| known.login() == Some(account)) {
                return Err(format!("{name}: no account has the login `{account}`"));
            }
            let is_user = |known: &Account| matches!(known, Account::User { login, .. } if login == user);
            if !self.accounts.iter().any(is_user) {
                return Err(format!("{name}: no user has the login `{user}`"));
            }
            let exists = |name: &str| {
                self.repositories.iter().any(|known| known.owner == *account && known.name == name)
            };
            if let Some(lost) = repositories.iter().flatten().find(|name| !exists(name)) {
                return Err(format!("{name}: the account has no repository `{lost}`"));
            }
        }
        Ok(())
    }
}

/// How much `level` allows; `None` if there is no such level.
pub(crate) fn rank(level: &str) -> Option<usize> {
    LEVELS.iter().position(|known| *known == level)
}

/// What is wrong with the levels in `permissions`.
pub(crate) fn check_levels(permissions: &Permissions) -> Result<(), String> {
    match permissions.iter().find(|(_, level)| rank(level).is_none()) {
        None => Ok(()),
        Some((name, level)) => {
            Err(format!("permission `{name}`: `{level}` is not a level; allowed: {}", LEVELS.join(", ")))
        }
    }
}

const LEVELS: [&str; 3] = ["read", "write", "admin"];

fn unique<T: Ord + std::fmt::Display>(
    list: &str,
    key: &str,
    values: impl Iterator<Item = T>,
) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for value in values {
        if seen.contains(&value) {
            return Err(format!("{list}: the {key} `{value}` appears twice"));
        }
        seen.insert(value);
    }
    Ok(())
}
