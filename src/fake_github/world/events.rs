//! Webhook events: which apps a change concerns, and the payloads that announce it.

use serde_json::{Map, Value, json};
use url::Url;

use super::definition::{Account, App, Installation, Repository};
use super::product::NEWEST_VERSION;
use super::render;
use super::store::Store;
use crate::fake_github::webhooks::delivery::Timestamps;

/// The id of an installation, and the repositories that it had at some time.
pub(crate) type InstallationRepositories = (u64, Vec<Repository>);

impl Store {
    /// Sends every app the event that says a hook is there.
    pub(crate) fn notify_ping(&self, url: &Url) {
        for app in &self.world.apps {
            self.webhooks.enqueue(app.id, "ping", &ping(app, url));
        }
    }

    /// Notifies the app of installation `id` of `action`.
    pub(crate) fn notify_installation(&self, id: u64, action: &str) {
        if let Some(installation) = self.installation(id) {
            self.notify(installation, "installation", self.installation_changed(installation, action));
        }
    }

    /// The repositories of every installation on `account`, for [`Self::notify_repositories`].
    pub(crate) fn repositories_on(&self, account: &str) -> Vec<InstallationRepositories> {
        let here = self.world.installations.iter().filter(|own| own.account.as_deref() == Some(account));
        here.map(|own| (own.id, self.repositories_of(own).into_iter().cloned().collect())).collect()
    }

    /// Notifies every app of the repositories that its installations gained and lost since `before`.
    pub(crate) fn notify_repositories(&self, before: &[InstallationRepositories]) {
        for (id, before) in before {
            let Some(installation) = self.installation(*id) else { continue };
            let now = self.repositories_of(installation);
            let added: Vec<_> = now.iter().copied().filter(|own| !before.contains(own)).collect();
            let removed: Vec<_> = before.iter().filter(|own| !now.contains(own)).collect();
            for (action, list) in [("added", added), ("removed", removed)] {
                if !list.is_empty() {
                    let payload = self.repositories_changed(installation, action, &list);
                    self.notify(installation, "installation_repositories", payload);
                }
            }
        }
    }

    /// Notifies the subscribed apps that have repository `id` of `action`.
    pub(crate) fn notify_repository(&self, id: u64, action: &str, changes: Option<Value>) {
        let Some(repository) = self.repository_by_id(id) else { return };
        for installation in self.subscribers("repository") {
            if self.repositories_of(installation).contains(&repository) {
                let payload = self.repository_changed(installation, repository, action, changes.clone());
                self.notify(installation, "repository", payload);
            }
        }
    }

    /// Notifies the subscribed apps on account `new` that it was renamed from `old`.
    pub(crate) fn notify_rename(&self, old: &str, new: &str) {
        for installation in self.subscribers("installation_target") {
            if installation.account.as_deref() == Some(new) {
                self.notify(installation, "installation_target", self.target_renamed(installation, old));
            }
        }
    }

    /// The body of `event` about installation `id` as it is now, whether or not it happened. `None` if there is
    /// no such event or installation.
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
            ("installation_target", "renamed") => Some(self.target_renamed(installation, FORMER_NAME)),
            ("repository", "created" | "deleted" | "transferred") => {
                Some(self.repository_changed(installation, repositories.first()?, action, None))
            }
            ("repository", "renamed") => {
                let changes = json!({ "repository": { "name": { "from": FORMER_NAME } } });
                Some(self.repository_changed(installation, repositories.first()?, action, Some(changes)))
            }
            ("github_app_authorization", "revoked") => {
                Some(json!({ "action": action, "sender": self.sender(installation) }))
            }
            _ => None,
        }
    }

    fn notify(&self, installation: &Installation, event: &str, payload: Value) {
        if let Some(app) = self.app(&installation.app) {
            self.webhooks.enqueue(app.id, event, &payload);
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

    /// The sender: a user, if there is one.
    fn sender(&self, installation: &Installation) -> Option<Value> {
        let is_user = |account: &&Account| matches!(account, Account::User { .. });
        let owner = self.account_of(installation);
        let sender = owner.filter(is_user).or_else(|| self.world.accounts.iter().find(is_user)).or(owner);
        sender.map(|sender| render::account(&self.urls, sender))
    }
}

/// The former name in a payload without an actual rename.
const FORMER_NAME: &str = "former-name";

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

fn ping(app: &App, url: &Url) -> Value {
    json!({
        "zen": "Anything added dilutes everything else.", "hook_id": app.id,
        "hook": {
            "type": "App", "id": app.id, "app_id": app.id, "name": "web", "active": true, "events": app.events,
            "config": { "content_type": "json", "insecure_ssl": "0", "secret": "********", "url": url.as_str() },
        },
    })
}
