//! The world an emulator starts with: apps, accounts, repositories, installations. It can be read from JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::users::Member;
use crate::fake_github::options::TokenFormat;

/// Names of permissions with their levels, for example `contents` and `write`.
pub type Permissions = BTreeMap<String, String>;

/// Who exists, and who has what installed where.
///
/// ```
/// use ghtokend::fake_github::World;
///
/// let world: World = serde_json::from_str(r#"{
///     "apps": [{"name": "bot", "id": 5, "client_id": "Iv23liBotApp00000001", "slug": "bot"}],
///     "accounts": [{"type": "Organization", "login": "acme", "id": 1}],
///     "repositories": [{"id": 1, "owner": "acme", "name": "widgets", "private": true}],
///     "installations": [{"id": 1, "app": "bot", "account": "acme", "permissions": {"contents": "read"}}]
/// }"#)?;
/// assert_eq!(world.installations[0].account.as_deref(), Some("acme"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct World {
    /// The GitHub Apps.
    pub apps: Vec<App>,
    /// Organisations, users and enterprises.
    pub accounts: Vec<Account>,
    /// The repositories of organisations and users.
    pub repositories: Vec<Repository>,
    /// Which app is installed on which account.
    pub installations: Vec<Installation>,
    /// Which users belong to which account. Only the preview of 2016 asks. Default: none.
    pub members: Vec<Member>,
}

/// A GitHub App.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// What the emulator's own interfaces call it.
    pub name: String,
    /// The app id.
    pub id: u64,
    /// The client id, which may stand for the app id in a JWT.
    pub client_id: String,
    /// The name in URLs.
    pub slug: String,
    /// The login of its owner. Default: the first account with a login.
    #[serde(default)]
    pub owner: Option<String>,
    /// What the app asks for when it is installed.
    #[serde(default)]
    pub permissions: Permissions,
    /// The webhook events it subscribes to, such as `repository`. Of its installations it is told in any case.
    #[serde(default)]
    pub events: Vec<String>,
    /// The shape of its tokens. Default: the emulator's.
    #[serde(default)]
    pub token_format: Option<TokenFormat>,
    /// Private keys in PKCS#1 PEM, any number in one text; empty for an app without a key. Default: one new key.
    #[serde(default)]
    pub private_keys: Option<String>,
}

/// Whoever an app can be installed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Account {
    /// An organisation.
    Organization {
        /// Its login.
        login: String,
        /// Its id.
        id: u64,
    },
    /// A user.
    User {
        /// The user's login.
        login: String,
        /// The user's id.
        id: u64,
    },
    /// An enterprise, which has a slug and no login.
    Enterprise {
        /// Its name in URLs.
        slug: String,
        /// Its id.
        id: u64,
    },
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Its id.
    pub id: u64,
    /// The login of its owner.
    pub owner: String,
    /// Its name, without the owner.
    pub name: String,
    /// Whether only those with access see it. Default false.
    #[serde(default)]
    pub private: bool,
}

/// An app on an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installation {
    /// The installation id.
    pub id: u64,
    /// The name of the app.
    pub app: String,
    /// The login or slug of the account. Default none: `"account": null`, as for an account that is gone.
    #[serde(default)]
    pub account: Option<String>,
    /// All repositories of the account or only some.
    #[serde(default)]
    pub repository_selection: Selection,
    /// The names of the selected repositories; only with `selected`.
    #[serde(default)]
    pub repositories: BTreeSet<String>,
    /// What was granted.
    #[serde(default)]
    pub permissions: Permissions,
    /// When it was suspended, for example `2020-08-28T16:32:59Z`. Default: it is not.
    #[serde(default)]
    pub suspended_at: Option<String>,
}

/// How the repositories of an installation were chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// All of the account's, future ones included.
    #[default]
    All,
    /// Only those listed.
    Selected,
}

impl World {
    /// One app, `demo`, on the organisation `acme`, the user `octocat` and the enterprise `acme-enterprise`. The
    /// user `octocat` sees all of `acme`, `hubot` belongs to it and sees nothing private, `mona` is a stranger.
    pub fn demo() -> Self {
        let repository = |id, owner: &str, name: &str, private| Repository {
            id,
            owner: owner.into(),
            name: name.into(),
            private,
        };
        let organization = Installation {
            permissions: permissions("contents:write issues:write metadata:read pull_requests:write"),
            ..Installation::new(1, "demo", "acme")
        };
        let user = Installation {
            repository_selection: Selection::Selected,
            repositories: BTreeSet::from(["hello-world".to_owned()]),
            permissions: permissions("contents:read metadata:read"),
            ..Installation::new(2, "demo", "octocat")
        };
        let enterprise = Installation {
            permissions: permissions("enterprise_custom_properties_for_organizations:read metadata:read"),
            ..Installation::new(3, "demo", "acme-enterprise")
        };
        Self {
            apps: vec![App {
                client_id: "Iv23liDemoApp0000001".into(),
                slug: "demo-app".into(),
                permissions: permissions("contents:write issues:write metadata:read pull_requests:write"),
                events: vec!["installation_target".into(), "repository".into()],
                ..App::new("demo", 1001)
            }],
            accounts: vec![
                Account::Organization { login: "acme".into(), id: 1 },
                Account::User { login: "octocat".into(), id: 2 },
                Account::Enterprise { slug: "acme-enterprise".into(), id: 3 },
                Account::User { login: "hubot".into(), id: 4 },
                Account::User { login: "mona".into(), id: 5 },
            ],
            repositories: vec![
                repository(1, "acme", "widgets", false),
                repository(2, "acme", "gadgets", false),
                repository(3, "acme", "secrets", true),
                repository(4, "octocat", "hello-world", false),
            ],
            installations: vec![organization, user, enterprise],
            members: vec![
                Member::new("acme", "octocat"),
                Member { repositories: Some(BTreeSet::new()), ..Member::new("acme", "hubot") },
            ],
        }
    }

    /// The app `demo` with `count` installations, ids from 1, on the organisations `org-0001`, `org-0002` and so
    /// on, each with the repository `widgets`.
    pub fn with_installations(count: u64) -> Self {
        let mut world = Self { apps: Self::demo().apps, ..Self::default() };
        for id in 1..=count {
            let login = format!("org-{id:04}");
            world.repositories.push(Repository {
                id,
                owner: login.clone(),
                name: "widgets".into(),
                private: true,
            });
            world.installations.push(Installation {
                permissions: permissions("contents:write metadata:read"),
                ..Installation::new(id, "demo", &login)
            });
            world.accounts.push(Account::Organization { login, id });
        }
        world
    }

    /// What does not fit together, in words for whoever wrote the world.
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

    /// What is wrong with `installation` in this world.
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
}

impl App {
    /// The app `name` with client id and slug made from `name` and `id`.
    pub fn new(name: &str, id: u64) -> Self {
        Self {
            name: name.into(),
            id,
            client_id: format!("Iv1.{id:016x}"),
            slug: name.into(),
            owner: None,
            permissions: Permissions::new(),
            events: Vec::new(),
            token_format: None,
            private_keys: None,
        }
    }
}

impl Installation {
    /// The app `app` on all repositories of `account`, with only `metadata:read`.
    pub fn new(id: u64, app: &str, account: &str) -> Self {
        Self {
            id,
            app: app.into(),
            account: Some(account.into()),
            repository_selection: Selection::All,
            repositories: BTreeSet::new(),
            permissions: permissions("metadata:read"),
            suspended_at: None,
        }
    }
}

impl Account {
    /// The login, or the slug of an enterprise.
    pub fn name(&self) -> &str {
        match self {
            Self::Organization { login, .. } | Self::User { login, .. } => login,
            Self::Enterprise { slug, .. } => slug,
        }
    }

    /// The login, which an enterprise has not.
    pub fn login(&self) -> Option<&str> {
        match self {
            Self::Organization { login, .. } | Self::User { login, .. } => Some(login),
            Self::Enterprise { .. } => None,
        }
    }

    /// The id.
    pub fn id(&self) -> u64 {
        match self {
            Self::Organization { id, .. } | Self::User { id, .. } | Self::Enterprise { id, .. } => *id,
        }
    }

    /// `Organization`, `User` or `Enterprise`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Organization { .. } => "Organization",
            Self::User { .. } => "User",
            Self::Enterprise { .. } => "Enterprise",
        }
    }
}

/// Permissions from words like `contents:write`.
pub fn permissions(words: &str) -> Permissions {
    words
        .split_whitespace()
        .filter_map(|word| word.split_once(':'))
        .map(|(k, v)| (k.into(), v.into()))
        .collect()
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
