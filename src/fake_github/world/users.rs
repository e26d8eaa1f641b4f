//! Users: the accounts they belong to, the repositories they see, and their nonces.

use std::time::Duration;

use super::definition::{Account, Installation, Member, Repository};
use super::store::{Store, Token};
use crate::fake_github::clock::Millis;
use crate::fake_github::random::HEX;

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
        let has_access = |member: &Member| {
            member.is(&repository.owner, user.name())
                && member.repositories.as_ref().is_none_or(|names| names.contains(&repository.name))
        };
        !repository.private
            || repository.owner.eq_ignore_ascii_case(user.name())
            || self.world.members.iter().any(has_access)
    }

    /// The repositories that `token` reaches now: those it was minted for, as far as the installation still has them.
    pub(crate) fn repositories_of_token(&self, token: &Token) -> Vec<&Repository> {
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

    /// A new nonce, valid for `lifetime` from `now`, for `user` of `installation`. `None` if there is no such user
    /// or installation.
    pub(crate) fn add_nonce(
        &mut self,
        installation: u64,
        user: &str,
        lifetime: Duration,
        now: Millis,
    ) -> Option<String> {
        let owner = (self.installation(installation)?.id, self.user_named(user)?.id());
        let lifetime = Millis::try_from(lifetime.as_millis()).unwrap_or(Millis::MAX);
        let text = self.random.text(HEX, 40);
        self.nonces.insert(text.clone(), owner, now.saturating_add(lifetime), now);
        Some(text)
    }
}
