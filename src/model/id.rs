//! Names and numbers as GitHub spells them, parsed once at the edge.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a value is not in the alphabet of its kind. Names the kind and what is allowed, for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {kind}: use {allowed}")]
pub struct Invalid {
    value: String,
    kind: &'static str,
    allowed: &'static str,
}

impl Invalid {
    /// An error for `value`, cut to a length that fits on a line.
    pub(crate) fn new(value: &str, kind: &'static str, allowed: &'static str) -> Self {
        let value = match value.char_indices().nth(MAX_QUOTE_CHARS) {
            Some((end, _)) => format!("{}…", &value[..end]),
            None => value.to_owned(),
        };
        Self { value, kind, allowed }
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u64);

        impl $name {
            /// The number, as GitHub writes it. Zero is never an id.
            pub const fn new(id: u64) -> Option<Self> {
                if id == 0 { None } else { Some(Self(id)) }
            }

            /// The number, as GitHub writes it.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                digits
                    .then(|| text.parse().ok().and_then(Self::new))
                    .flatten()
                    .ok_or_else(|| Invalid::new(text, $kind, "a whole number above zero"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// The id of an installation of an app on an account.
    InstallationId, "an installation id");
number!(
    /// The id of a repository.
    RepositoryId, "a repository id");
number!(
    /// The id of a GitHub user.
    UserId, "a user id");

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $allowed:literal, $accepts:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name, in lower case.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let accepts: fn(&str) -> bool = $accepts;
                if !accepts(text) {
                    return Err(Invalid::new(text, $kind, $allowed));
                }
                Ok(Self(text.to_ascii_lowercase().into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name!(
    /// The login of a user or organisation, or the slug of an enterprise. GitHub ignores its case, so it is
    /// kept in lower case.
    Login,
    "a GitHub login",
    "1 to 100 letters, digits, '-' or '_'",
    |text| within(text, MAX_LOGIN_LENGTH, |byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
);
name!(
    /// The bare name of a repository, without its owner. GitHub ignores its case, so it is kept in lower case.
    RepositoryName,
    "a repository name",
    "1 to 100 letters, digits, '.', '-' or '_'",
    |text| within(text, MAX_REPOSITORY_LENGTH, |byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        && text != "."
        && text != ".."
);
name!(
    /// The name under which an app is configured: `NAME` of `[apps.NAME]`.
    AppName,
    "an app's name",
    "lower-case letters, digits and '_'",
    |text| within(text, MAX_APP_LENGTH, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
);

impl Default for AppName {
    /// The name of the only app, configured as `[app]` or by `GITHUB_APP_*`.
    fn default() -> Self {
        Self("default".into())
    }
}

fn within(text: &str, longest: usize, accepts: fn(u8) -> bool) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(accepts)
}

/// GitHub's own logins end at 39; servers that take theirs from a directory are more generous.
const MAX_LOGIN_LENGTH: usize = 100;
/// GitHub's own limit on a repository's name.
const MAX_REPOSITORY_LENGTH: usize = 100;
const MAX_APP_LENGTH: usize = 64;
const MAX_QUOTE_CHARS: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_ignores_case_within_one_path_segment() {
        assert_eq!("AcMe".parse::<Login>(), "acme".parse());
        for bad in ["", "a/b", "..", "a b", "ä", "a%2e", "a\n", &"x".repeat(101)] {
            assert!(bad.parse::<Login>().is_err(), "{bad:?}");
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad:?}");
        }
        assert!("v1.2_x-y".parse::<RepositoryName>().is_ok());
    }

    #[test]
    fn ids_are_digits_above_zero() {
        assert_eq!("42".parse::<InstallationId>().map(InstallationId::get), Ok(42));
        for bad in ["", "0", "+1", "-1", " 1", "1.0", "18446744073709551616"] {
            assert!(bad.parse::<InstallationId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parse_error_names_value_kind_and_allowed_form() {
        let error = "a/b".parse::<Login>().unwrap_err().to_string();
        assert_eq!(error, "\"a/b\" is not a GitHub login: use 1 to 100 letters, digits, '-' or '_'");
    }
}
