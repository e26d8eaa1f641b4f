//! What a token may do, as a caller asks for it, and whether GitHub granted more than that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::id::Invalid;
use super::{Grant, RepositoryId, RepositoryName};

/// A narrowing of a token. `None` does not narrow; an empty set is never built. Sorted, so that equal requests
/// in any order are equal here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Only these repositories, by bare name.
    pub repositories: Option<BTreeSet<RepositoryName>>,
    /// Only these repositories, by id.
    pub repository_ids: Option<BTreeSet<RepositoryId>>,
    /// Only these permissions.
    pub permissions: Option<BTreeMap<Permission, Level>>,
}

impl Scope {
    /// Whether it narrows the token to some repositories.
    pub fn names_repositories(&self) -> bool {
        self.repositories.is_some() || self.repository_ids.is_some()
    }

    /// The first thing in `grant` that was not asked for, in words. What cannot be verified counts as wider.
    ///
    /// GitHub adds `metadata: read` to every token, asked for or not.
    pub fn exceeded_by(&self, grant: &Grant) -> Option<String> {
        self.exceeding_permission(grant).or_else(|| self.exceeding_repository(grant))
    }

    fn exceeding_permission(&self, grant: &Grant) -> Option<String> {
        let asked = self.permissions.as_ref()?;
        let Some(granted) = &grant.permissions else {
            return Some("it does not say which permissions it granted".into());
        };
        let within = |name: &str, level: &str| match (name.parse::<Permission>(), level.parse::<Level>()) {
            (Ok(name), Ok(level)) => {
                asked.get(&name).is_some_and(|&asked| level <= asked)
                    || (name.as_str() == ALWAYS_GRANTED && level == Level::Read)
            }
            _ => false,
        };
        let (name, level) = granted.iter().find(|(name, level)| !within(name, level))?;
        Some(format!("it granted {name}:{level}"))
    }

    fn exceeding_repository(&self, grant: &Grant) -> Option<String> {
        if !self.names_repositories() {
            return None;
        }
        if grant.repository_selection.as_deref() == Some("all") {
            return Some("it granted all repositories".into());
        }
        let Some(granted) = &grant.repositories else {
            return Some("it does not say which repositories it granted".into());
        };
        let asked = |id: &RepositoryId, name: &str| {
            let by_id = self.repository_ids.as_ref().is_some_and(|ids| ids.contains(id));
            let by_name = self.repositories.as_ref().zip(name.parse().ok());
            by_id || by_name.is_some_and(|(names, name)| names.contains(&name))
        };
        let (_, name) = granted.iter().find(|(id, name)| !asked(id, name))?;
        Some(format!("it granted repository {name:?}"))
    }
}

impl fmt::Display for Scope {
    /// `full` for everything, else what it is narrowed to, as in a request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("full");
        }
        let mut parts = Vec::new();
        if let Some(names) = &self.repositories {
            parts.push(format!("repositories={}", join(names.iter())));
        }
        if let Some(ids) = &self.repository_ids {
            parts.push(format!("repository_ids={}", join(ids.iter())));
        }
        if let Some(list) = &self.permissions {
            parts.push(format!(
                "permissions={}",
                join(list.iter().map(|(name, level)| format!("{name}:{level}")))
            ));
        }
        f.write_str(&parts.join(" "))
    }
}

fn join<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

/// The name of a permission, such as `contents`. GitHub's list is open and grows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permission(Arc<str>);

impl Permission {
    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Permission {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let text = text.to_ascii_lowercase();
        let accepts = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if text.is_empty() || text.len() > MAX_PERMISSION_LENGTH || !text.bytes().all(accepts) {
            return Err(Invalid::new(&text, "a permission", "letters, digits and '_', as in pull_requests"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far a permission goes. Ordered: each level includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// `read`
    Read,
    /// `write`
    Write,
    /// `admin`
    Admin,
}

impl Level {
    /// The word that GitHub uses for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Level {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let levels = [Self::Read, Self::Write, Self::Admin];
        let found = levels.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| Invalid::new(text, "a permission level", "read, write or admin"))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const ALWAYS_GRANTED: &str = "metadata";
const MAX_PERMISSION_LENGTH: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(list: &[(&str, &str)]) -> Grant {
        let permissions = list.iter().map(|(name, level)| ((*name).into(), (*level).into())).collect();
        Grant { permissions: Some(permissions), ..Grant::default() }
    }

    fn asked(permission: &str, level: Level) -> Scope {
        let permissions = [(permission.parse().unwrap(), level)].into();
        Scope { permissions: Some(permissions), ..Scope::default() }
    }

    #[test]
    fn a_grant_within_the_asked_permissions_passes() {
        let scope = asked("contents", Level::Write);
        for granted in [
            &[("contents", "write")][..],
            &[("contents", "read")],
            &[("contents", "write"), ("metadata", "read")],
        ] {
            assert_eq!(scope.exceeded_by(&permissions(granted)), None, "{granted:?}");
        }
        assert_eq!(Scope::default().exceeded_by(&Grant::default()), None);
    }

    #[test]
    fn a_wider_or_unverifiable_permission_is_named() {
        let scope = asked("contents", Level::Read);
        for (granted, expected) in [
            (permissions(&[("contents", "write")]), "it granted contents:write"),
            (permissions(&[("issues", "read")]), "it granted issues:read"),
            (permissions(&[("metadata", "write")]), "it granted metadata:write"),
            (permissions(&[("contents", "owner")]), "it granted contents:owner"),
            (Grant::default(), "it does not say which permissions it granted"),
        ] {
            assert_eq!(scope.exceeded_by(&granted).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_repository_that_was_not_asked_for_is_named() {
        let scope = Scope {
            repositories: Some(["widgets".parse().unwrap()].into()),
            repository_ids: Some([RepositoryId::new(7).unwrap()].into()),
            permissions: None,
        };
        let grant = |selection: &str, list: &[(u64, &str)]| Grant {
            repository_selection: Some(selection.into()),
            repositories: Some(
                list.iter().map(|&(id, name)| (RepositoryId::new(id).unwrap(), name.into())).collect(),
            ),
            permissions: None,
        };
        assert_eq!(scope.exceeded_by(&grant("selected", &[(1, "Widgets"), (7, "other")])), None);
        let wider = grant("selected", &[(1, "widgets"), (8, "gadgets")]);
        assert_eq!(scope.exceeded_by(&wider).as_deref(), Some("it granted repository \"gadgets\""));
        let all = grant("all", &[(1, "widgets")]);
        assert_eq!(scope.exceeded_by(&all).as_deref(), Some("it granted all repositories"));
        let silent = Grant { repository_selection: Some("selected".into()), ..Grant::default() };
        assert!(scope.exceeded_by(&silent).is_some());
    }
}
