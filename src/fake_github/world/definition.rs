//! The world an emulator starts with: apps, accounts, repositories, installations. It can be read from JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::product::TokenFormat;

/// Names of permissions with their levels, for example `contents` and `write`.
pub type Permissions = BTreeMap<String, String>;

/// Apps, accounts and repositories, and what is installed where.
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
    /// Which users belong to which account. Only the preview of 2016 uses them. Default: none.
    pub members: Vec<Member>,
}

/// A GitHub App.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The name in the emulator's own interfaces.
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
    /// The permissions that the app requests when it is installed.
    #[serde(default)]
    pub permissions: Permissions,
    /// The webhook events it subscribes to, such as `repository`. Events about its installations it gets in any case.
    #[serde(default)]
    pub events: Vec<String>,
    /// The format of its tokens. Default: the emulator's.
    #[serde(default)]
    pub token_format: Option<TokenFormat>,
    /// Private keys in PKCS#1 PEM, any number in one text; empty for an app without a key. Default: one new key.
    #[serde(default)]
    pub private_keys: Option<String>,
}

/// An account that an app can be installed on.
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
    /// Whether only members with access see it. Default false.
    #[serde(default)]
    pub private: bool,
}

/// An installation of an app on an account.
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
    /// The granted permissions.
    #[serde(default)]
    pub permissions: Permissions,
    /// When it was suspended, for example `2020-08-28T16:32:59Z`. Default: it is not.
    #[serde(default)]
    pub suspended_at: Option<String>,
}

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

    /// The login, which an enterprise does not have.
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

impl Member {
    /// The user `user`, who sees everything that `account` has.
    pub fn new(account: &str, user: &str) -> Self {
        Self { account: account.into(), user: user.into(), repositories: None }
    }

    /// Whether this is `user` on `account`, in any case.
    pub(crate) fn is(&self, account: &str, user: &str) -> bool {
        self.account.eq_ignore_ascii_case(account) && self.user.eq_ignore_ascii_case(user)
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
