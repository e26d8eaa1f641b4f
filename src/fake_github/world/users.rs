//! Users: which accounts they belong to, and which repositories they see there.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::definition::{Account, Installation, Repository, World};
use super::store::Store;

/// A user who belongs to an account: a member of an organisation, or a collaborator of another user.
///
/// Users belong to their own account without being listed. Everybody sees every public repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The login of the organisation or user that has the repositories.
    pub account: String,
    /// The login of the user who belongs to it.
    pub user: String,
    /// The names of the private repositories that this user sees there. Default: all of them, future ones included.
    #[serde(default)]
    pub repositories: Option<BTreeSet<String>>,
}

impl Member {
    /// The user `user`, who sees everything that `account` has.
    pub fn new(account: &str, user: &str) -> Self {
        Self { account: account.into(), user: user.into(), repositories: None }
    }

    fn is(&self, account: &str, user: &str) -> bool {
        self.account.eq_ignore_ascii_case(account) && self.user.eq_ignore_ascii_case(user)
    }
}

impl World {
    /// What is wrong with the members, in words.
    pub(crate) fn check_members(&self) -> Result<(), String> {
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
            let there = |name: &str| {
                self.repositories.iter().any(|known| known.owner == *account && known.name == name)
            };
            if let Some(lost) = repositories.iter().flatten().find(|name| !there(name)) {
                return Err(format!("{name}: the account has no repository `{lost}`"));
            }
        }
        Ok(())
    }

    /// The account `old` is called `new` from now on.
    pub(crate) fn rename_member(&mut self, old: &str, new: &str) {
        let names = self.members.iter_mut().flat_map(|member| [&mut member.account, &mut member.user]);
        names.filter(|name| *name == old).for_each(|name| *name = new.into());
    }

    /// The repository `old` of `owner` is called `new` from now on.
    pub(crate) fn rename_in_members(&mut self, owner: &str, old: &str, new: &str) {
        for member in self.members.iter_mut().filter(|member| member.account == owner) {
            if let Some(names) = &mut member.repositories
                && names.remove(old)
            {
                names.insert(new.into());
            }
        }
    }
}

impl Store {
    /// The user with this id.
    pub(crate) fn user(&self, id: u64) -> Option<&Account> {
        self.world
            .accounts
            .iter()
            .find(|account| matches!(account, Account::User { .. }) && account.id() == id)
    }

    /// The user with this login, in any case.
    pub(crate) fn user_named(&self, login: &str) -> Option<&Account> {
        self.account(login).filter(|account| matches!(account, Account::User { .. }))
    }

    /// Whether `user` belongs to the account that `installation` is on.
    pub(crate) fn belongs(&self, user: &Account, installation: &Installation) -> bool {
        let account = installation.account.as_deref().unwrap_or_default();
        account.eq_ignore_ascii_case(user.name())
            || self.world.members.iter().any(|member| member.is(account, user.name()))
    }

    /// Whether the user with the id `user` sees `repository`.
    pub(crate) fn sees(&self, user: u64, repository: &Repository) -> bool {
        let Some(user) = self.user(user) else { return false };
        let shared_with = |member: &Member| {
            member.is(&repository.owner, user.name())
                && member.repositories.as_ref().is_none_or(|names| names.contains(&repository.name))
        };
        !repository.private
            || repository.owner.eq_ignore_ascii_case(user.name())
            || self.world.members.iter().any(shared_with)
    }
}
