//! Changes to the world. The apps they concern are notified by webhook.

use serde_json::json;

use super::definition::{Account, Installation, Permissions, Repository, Selection, World};
use super::store::Store;
use crate::fake_github::clock::iso;

impl Store {
    /// Suspends an installation. Whether there is such an installation.
    pub(crate) fn suspend(&mut self, id: u64, second: i64) -> bool {
        let Some(installation) = self.installation_mut(id) else { return false };
        if installation.suspended_at.is_none() {
            installation.suspended_at = Some(iso(second));
            self.notify_installation(id, "suspend");
        }
        true
    }

    /// Ends a suspension. Whether there is such an installation.
    pub(crate) fn unsuspend(&mut self, id: u64) -> bool {
        let Some(installation) = self.installation_mut(id) else { return false };
        if installation.suspended_at.take().is_some() {
            self.notify_installation(id, "unsuspend");
        }
        true
    }

    /// Deletes an installation, its tokens and its nonces. Whether there was such an installation.
    pub(crate) fn delete_installation(&mut self, id: u64) -> bool {
        if self.installation(id).is_none() {
            return false;
        }
        self.notify_installation(id, "deleted");
        self.world.installations.retain(|installation| installation.id != id);
        // Another installation may get the same id, but not these tokens.
        self.tokens.retain(|_, token| token.installation != id);
        self.nonces.forget_installation(id);
        true
    }

    /// Adds an installation, or says why that is not possible.
    pub(crate) fn add_installation(&mut self, installation: Installation) -> Result<(), String> {
        if self.installation(installation.id).is_some() {
            return Err(format!("installations: the id `{}` appears twice", installation.id));
        }
        self.world.check_installation(&installation)?;
        let id = installation.id;
        self.world.installations.push(installation);
        self.notify_installation(id, "created");
        Ok(())
    }

    /// Sets the granted permissions. Whether there is such an installation.
    pub(crate) fn set_permissions(&mut self, id: u64, permissions: Permissions) -> bool {
        let Some(installation) = self.installation_mut(id) else { return false };
        if installation.permissions != permissions {
            installation.permissions = permissions;
            self.notify_installation(id, "new_permissions_accepted");
        }
        true
    }

    /// Gives an installation a repository of its account, a new private one if it does not exist. Whether there
    /// is such an installation, on an account that can have repositories.
    pub(crate) fn add_repository(&mut self, id: u64, name: &str) -> bool {
        let owner = self.installation(id).and_then(|own| self.account_of(own)).and_then(Account::login);
        let Some(owner) = owner.map(str::to_owned) else { return false };
        let before = self.repositories_on(&owner);
        if self.repository(&owner, name).is_none() {
            let next =
                self.world.repositories.iter().map(|repository| repository.id).max().unwrap_or_default() + 1;
            self.world.repositories.push(Repository { id: next, owner, name: name.into(), private: true });
            self.notify_repository(next, "created", None);
        }
        if let Some(installation) = self.installation_mut(id)
            && installation.repository_selection == Selection::Selected
        {
            installation.repositories.insert(name.into());
        }
        self.notify_repositories(&before);
        true
    }

    /// Takes a repository from an installation; where it has all of the account's, the repository is deleted.
    /// Whether it had it.
    pub(crate) fn remove_repository(&mut self, id: u64, name: &str) -> bool {
        let Some(owner) = self.installation(id).and_then(|own| own.account.clone()) else { return false };
        let before = self.repositories_on(&owner);
        let Some(installation) = self.installation_mut(id) else { return false };
        let removed = match installation.repository_selection {
            Selection::Selected => installation.repositories.remove(name),
            Selection::All => self.delete_repository(&owner, name),
        };
        self.notify_repositories(&before);
        removed
    }

    fn delete_repository(&mut self, owner: &str, name: &str) -> bool {
        let of_this_name = |own: &&Repository| own.owner == owner && own.name == name;
        let Some(id) = self.world.repositories.iter().find(of_this_name).map(|own| own.id) else {
            return false;
        };
        self.notify_repository(id, "deleted", None);
        self.world.repositories.retain(|own| own.id != id);
        true
    }

    /// Renames a repository; its old name redirects. Whether there is such a repository.
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
        self.notify_repository(id, "renamed", Some(json!({ "repository": { "name": { "from": old } } })));
        true
    }

    /// Renames an account; the old names of its repositories redirect, its own does not. Whether there is such an
    /// account.
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
        self.notify_rename(old, new);
        true
    }
}

impl World {
    /// Renames the account `old` to `new` in the list of members.
    fn rename_member(&mut self, old: &str, new: &str) {
        let names = self.members.iter_mut().flat_map(|member| [&mut member.account, &mut member.user]);
        names.filter(|name| *name == old).for_each(|name| *name = new.into());
    }

    /// Renames the repository `old` of `owner` to `new` in the list of members.
    fn rename_in_members(&mut self, owner: &str, old: &str, new: &str) {
        for member in self.members.iter_mut().filter(|member| member.account == owner) {
            if let Some(names) = &mut member.repositories
                && names.remove(old)
            {
                names.insert(new.into());
            }
        }
    }
}
