//! What GitHub tells an app of, and the bodies it does so with.

use serde_json::{Map, Value, json};

use super::definition::{Account, Installation, Repository};
use super::render;
use super::store::Store;
use crate::fake_github::options::{NEWEST_VERSION, Timestamps};

/// The repositories of an installation at some time, by its id.
pub(crate) type Held = (u64, Vec<Repository>);

impl Store {
    /// Tells the app of installation `id` what was done with it.
    pub(crate) fn tell_of_installation(&self, id: u64, action: &str) {
        if let Some(installation) = self.installation(id) {
            self.tell(installation, "installation", self.installation_changed(installation, action));
        }
    }

    /// The repositories of every installation on `account`, for [`Self::tell_of_repositories`].
    pub(crate) fn repositories_on(&self, account: &str) -> Vec<Held> {
        let here = self.world.installations.iter().filter(|own| own.account.as_deref() == Some(account));
        here.map(|own| (own.id, self.repositories_of(own).into_iter().cloned().collect())).collect()
    }

    /// Tells every app what its installations got and lost since `before`.
    pub(crate) fn tell_of_repositories(&self, before: &[Held]) {
        for (id, before) in before {
            let Some(installation) = self.installation(*id) else { continue };
            let now = self.repositories_of(installation);
            let added: Vec<_> = now.iter().copied().filter(|own| !before.contains(own)).collect();
            let removed: Vec<_> = before.iter().filter(|own| !now.contains(own)).collect();
            for (action, list) in [("added", added), ("removed", removed)] {
                if !list.is_empty() {
                    let payload = self.repositories_changed(installation, action, &list);
                    self.tell(installation, "installation_repositories", payload);
                }
            }
        }
    }

    /// Tells the apps that subscribe to it, and have it, what was done with repository `id`.
    pub(crate) fn tell_of_repository(&self, id: u64, action: &str, changes: Option<Value>) {
        let Some(repository) = self.repository_by_id(id) else { return };
        for installation in self.subscribers("repository") {
            if self.repositories_of(installation).contains(&repository) {
                let payload = self.repository_changed(installation, repository, action, changes.clone());
                self.tell(installation, "repository", payload);
            }
        }
    }

    /// Tells the apps that subscribe to it, and are on it, that account `new` was called `old`.
    pub(crate) fn tell_of_rename(&self, old: &str, new: &str) {
        for installation in self.subscribers("installation_target") {
            if installation.account.as_deref() == Some(new) {
                self.tell(installation, "installation_target", self.target_renamed(installation, old));
            }
        }
    }

    /// The body of `event` about installation `id` as it is now, whether or not it happened. None if there is no
    /// such event or no such installation.
    pub(crate) fn payload(&self, event: &str, action: &str, id: u64) -> Option<Value> {
        let installation = self.installation(id)?;
        let repositories = self.repositories_of(installation);
        match (event, action) {
            (
                "installation",
                "created" | "deleted" | "suspend" | "unsuspend" | "new_permissions_accepted",
            ) => Some(self.installation_changed(installation, action)),
            ("installation_repositories", "added" | "removed") => {
                Some(self.repositories_changed(installation, action, &repositories))
            }
            ("installation_target", "renamed") => Some(self.target_renamed(installation, FORMERLY)),
            ("repository", "created" | "deleted" | "transferred") => {
                Some(self.repository_changed(installation, repositories.first()?, action, None))
            }
            ("repository", "renamed") => {
                let changes = json!({ "repository": { "name": { "from": FORMERLY } } });
                Some(self.repository_changed(installation, repositories.first()?, action, Some(changes)))
            }
            ("github_app_authorization", "revoked") => {
                Some(json!({ "action": action, "sender": self.sender(installation) }))
            }
            _ => None,
        }
    }

    fn tell(&self, installation: &Installation, event: &str, payload: Value) {
        if let Some(app) = self.app(&installation.app) {
            self.webhooks.tell(app.id, event, &payload);
        }
    }

    fn subscribers(&self, event: &str) -> impl Iterator<Item = &Installation> {
        self.world.installations.iter().filter(move |installation| {
            self.app(&installation.app).is_some_and(|app| app.events.iter().any(|own| own == event))
        })
    }

    fn installation_changed(&self, installation: &Installation, action: &str) -> Value {
        let mut payload = json!({
            "action": action, "installation": self.rendered(installation), "sender": self.sender(installation),
        });
        if !matches!(action, "suspend" | "unsuspend") {
            payload["repositories"] = self.repositories_of(installation).into_iter().map(short).collect();
        }
        if action == "created" {
            payload["requester"] = Value::Null;
        }
        payload
    }

    fn repositories_changed(&self, installation: &Installation, action: &str, list: &[&Repository]) -> Value {
        let only = |when: &str| match when == action {
            true => list.iter().map(|own| short(own)).collect(),
            false => json!([]),
        };
        json!({
            "action": action, "installation": self.rendered(installation),
            "repository_selection": installation.repository_selection,
            "repositories_added": only("added"), "repositories_removed": only("removed"),
            "requester": null, "sender": self.sender(installation),
        })
    }

    fn repository_changed(
        &self,
        installation: &Installation,
        repository: &Repository,
        action: &str,
        changes: Option<Value>,
    ) -> Value {
        let mut payload = json!({
            "action": action, "repository": render::repository(self, repository, NEWEST_VERSION),
            "installation": brief(installation), "sender": self.sender(installation),
        });
        if let Some(changes) = changes {
            payload["changes"] = changes;
        }
        payload
    }

    fn target_renamed(&self, installation: &Installation, from: &str) -> Value {
        let account = self.account_of(installation);
        let key = if account.and_then(Account::login).is_some() { "login" } else { "slug" };
        let changes = Map::from_iter([(key.to_owned(), json!({ "from": from }))]);
        json!({
            "action": "renamed", "account": account.map(|account| render::account(&self.urls, account)),
            "changes": changes, "target_type": account.map(Account::kind),
            "installation": brief(installation), "sender": self.sender(installation),
        })
    }

    /// An installation as in a webhook, where its times may be numbers.
    fn rendered(&self, installation: &Installation) -> Value {
        let mut body = render::installation(self, installation);
        for name in ["created_at", "updated_at"] {
            body[name] = match self.webhooks.timestamps {
                Timestamps::Unix => json!(render::CREATED_AT_UNIX),
                Timestamps::Iso => json!(render::CREATED_AT_OFFSET),
            };
        }
        body
    }

    /// Who did it: a user, if there is one at all.
    fn sender(&self, installation: &Installation) -> Option<Value> {
        let is_user = |account: &&Account| matches!(account, Account::User { .. });
        let owner = self.account_of(installation);
        let sender = owner.filter(is_user).or_else(|| self.world.accounts.iter().find(is_user)).or(owner);
        sender.map(|sender| render::account(&self.urls, sender))
    }
}

/// What everything was called before it was renamed, where only a delivery says so.
const FORMERLY: &str = "former-name";

fn short(repository: &Repository) -> Value {
    let (owner, name) = (&repository.owner, &repository.name);
    json!({
        "id": repository.id, "node_id": render::node_id("Repository", repository.id), "name": name,
        "full_name": format!("{owner}/{name}"), "private": repository.private,
    })
}

fn brief(installation: &Installation) -> Value {
    let node_id = render::node_id("IntegrationInstallation", installation.id);
    json!({ "id": installation.id, "node_id": node_id })
}
