//! Which GitHub this is: the product, and the forms it has given to things over the years.

use std::str::FromStr;

use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Serialize};

/// Which of GitHub's products the emulator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// github.com.
    #[default]
    Dotcom,
    /// GitHub Enterprise Server: the API is under `/api/v3`, there are no rate limits and no stateless tokens.
    Ghes,
    /// GitHub Enterprise Cloud with data residency: every request needs credentials.
    Ghe,
}

/// The format of an installation token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenFormat {
    /// `ghs_` and 36 letters or digits, since 2021.
    Opaque,
    /// `ghs_<app id>_<JWT>`, over 520 bytes and never the same length, since 2026.
    #[default]
    Stateless,
    /// `v1.` and 40 hexadecimal digits, until 2021.
    LegacyV1,
    /// Opaque or stateless at random, as while GitHub changed over.
    Rollout,
}

/// What rate limits do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateLimits {
    /// They are counted and reported in headers.
    #[default]
    Reported,
    /// Too many requests, points, concurrent requests or refused credentials are refused as by GitHub.
    Enforced,
}

/// The two texts seen on GitHub for a token whose installation is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuspendedWording {
    /// `This installation owned by octocat suspended your access at …`
    #[default]
    OwnedBy,
    /// `This installation is currently suspended. …`
    Currently,
}

/// What revoking does to a stateless token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// It stops working at once.
    #[default]
    Immediate,
    /// It works until it expires.
    Ineffective,
}

impl Mode {
    /// The path under which the API is on its host.
    pub(crate) fn path_prefix(self) -> &'static str {
        match self {
            Self::Ghes => "/api/v3",
            Self::Dotcom | Self::Ghe => "",
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        by_name(text)
    }
}

impl FromStr for TokenFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        by_name(text)
    }
}

/// The version in which some responses lost fields or changed their status.
pub(crate) const NEWEST_VERSION: &str = "2026-03-10";

/// The variant that `text` names. The error lists the names that there are.
pub(crate) fn by_name<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    T::deserialize(text.into_deserializer()).map_err(|error: serde::de::value::Error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_values_parse_by_name() {
        assert_eq!("ghes".parse(), Ok(Mode::Ghes));
        assert_eq!("legacy_v1".parse(), Ok(TokenFormat::LegacyV1));
        let unknown = "x".parse::<Mode>().unwrap_err();
        assert_eq!(unknown, "unknown variant `x`, expected one of `dotcom`, `ghes`, `ghe`");
    }
}
