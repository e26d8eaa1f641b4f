//! An app on an account, and the ways to say which one.

use std::collections::BTreeMap;
use std::fmt;

use super::{InstallationId, Login, RepositoryName};

/// An app, as GitHub describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// GitHub's number for it.
    pub id: u64,
    /// The name that people see.
    pub name: String,
    /// The name in URLs: `https://github.com/apps/SLUG`.
    pub slug: Option<String>,
    /// Permission and level that the app asks of every installation.
    pub permissions: BTreeMap<String, String>,
    /// GitHub's object, byte for byte: JSON that has been read once and is passed on unread.
    pub json: String,
}

/// Where an app is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// GitHub's number for it.
    pub id: InstallationId,
    /// The account's login, or an enterprise's slug, spelt as GitHub spells it. GitHub may not say.
    pub account: Option<String>,
    /// Permission and level that this installation has accepted.
    pub permissions: BTreeMap<String, String>,
    /// Whether an owner of the account has suspended it: it is listed, but no token can be minted.
    pub suspended: bool,
    /// GitHub's object, byte for byte: JSON that has been read once and is passed on unread.
    pub json: String,
}

/// How a caller names an installation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Selector {
    /// The configured default, else the only one there is.
    #[default]
    Default,
    /// By number.
    Id(InstallationId),
    /// The one on this user or organisation.
    Owner(Login),
    /// The one on this organisation, and on no user.
    Organization(Login),
    /// The one that can see this repository.
    Repository(Login, RepositoryName),
    /// The one on this enterprise.
    Enterprise(Login),
}

impl Selector {
    /// The parameter that says the same, and its value; `None` for the default.
    pub fn parameter(&self) -> Option<(&'static str, String)> {
        let (name, value) = match self {
            Self::Default => return None,
            Self::Id(id) => ("installation", id.to_string()),
            Self::Owner(login) => ("owner", login.to_string()),
            Self::Organization(login) => ("organization", login.to_string()),
            Self::Repository(owner, name) => ("repo", format!("{owner}/{name}")),
            Self::Enterprise(slug) => ("enterprise", slug.to_string()),
        };
        Some((name, value))
    }

    /// What it names, for people; `None` for the default and for a number.
    pub fn in_words(&self) -> Option<String> {
        match self {
            Self::Default | Self::Id(_) => None,
            Self::Owner(login) => Some(format!("owner {login}")),
            Self::Organization(login) => Some(format!("organisation {login}")),
            Self::Repository(owner, name) => Some(format!("repository {owner}/{name}")),
            Self::Enterprise(slug) => Some(format!("enterprise {slug}")),
        }
    }

    /// The user or organisation that it is about, if it names one.
    pub fn owner(&self) -> Option<&Login> {
        match self {
            Self::Owner(login) | Self::Organization(login) | Self::Repository(login, _) => Some(login),
            Self::Default | Self::Id(_) | Self::Enterprise(_) => None,
        }
    }

    /// The names in it: what it takes in memory.
    pub fn names(&self) -> [&str; 2] {
        match self {
            Self::Default | Self::Id(_) => ["", ""],
            Self::Owner(login) | Self::Organization(login) | Self::Enterprise(login) => [login.as_str(), ""],
            Self::Repository(owner, name) => [owner.as_str(), name.as_str()],
        }
    }
}

impl fmt::Display for Selector {
    /// As in a query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parameter() {
            None => f.write_str("default"),
            Some((name, value)) => write!(f, "{name}={value}"),
        }
    }
}
