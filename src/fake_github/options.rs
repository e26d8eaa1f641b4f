//! How an emulator is set up. What GitHub's documents leave open is a setting here, not a constant elsewhere.

pub(crate) mod preview;

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Serialize};

use crate::fake_github::options::preview::Preview;
use crate::fake_github::webhooks::delivery::Hook;
use crate::fake_github::world::definition::World;
use crate::fake_github::world::replication::Replication;

/// Everything that is decided at the start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the API listens. Loopback only; port 0 takes a free one. Default `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// Where the control endpoint listens. Loopback only. Default `127.0.0.1:0`.
    pub control_listen: SocketAddr,
    /// Which of GitHub's products this is. Default [`Mode::Dotcom`].
    pub mode: Mode,
    /// Who has what installed where. Default [`World::demo`].
    pub world: World,
    /// The shape of installation tokens, unless an app says otherwise. Default [`TokenFormat::Stateless`], which
    /// GitHub Enterprise Server does not have and where it means [`TokenFormat::Opaque`].
    pub token_format: TokenFormat,
    /// Tokens are at least this long, in bytes, whatever their format; for example 4096. Default: as on GitHub.
    pub token_length: Option<usize>,
    /// The same seed gives the same keys, tokens and request ids. Default: different ones at each start.
    pub seed: Option<u64>,
    /// What URLs in bodies, `Link` and `Location` begin with, for example `https://127.0.0.1:8443` behind a proxy
    /// that ends TLS; without the `/api/v3` of [`Mode::Ghes`]. Default: the address listened on.
    pub external_url: Option<String>,
    /// Error bodies as they were before 2024: without `status`, with the old documentation URLs. Default false.
    pub legacy_errors: bool,
    /// `Link` never has `rel="last"`, as where GitHub cannot calculate it. Default false.
    pub drop_last_link: bool,
    /// How far in the future, in seconds, the `iat` of a JWT may be. Default 0.
    pub iat_leeway: i64,
    /// Whether `iss` may be a client id, which old GitHub Enterprise Servers refuse. Default true.
    pub client_id_iss: bool,
    /// What `X-GitHub-Api-Version` may say; the first is the default. Default `2022-11-28`, `2026-03-10`.
    pub versions: Vec<String>,
    /// Versions answered with 410 Gone. Default none.
    pub retired_versions: Vec<String>,
    /// The release in the documentation URLs of [`Mode::Ghes`]. Default `3.21`.
    pub ghes_release: String,
    /// Whether rate limits are only reported in headers or also enforced. Default [`RateLimits::Reported`].
    pub rate_limits: RateLimits,
    /// Requests an installation may make in an hour. Default 5000.
    pub installation_rate_limit: u64,
    /// How a suspended installation's token is refused. Default [`SuspendedWording::OwnedBy`].
    pub suspended_wording: SuspendedWording,
    /// What a revoked stateless token still does, which is not documented. Default [`Revocation::Immediate`].
    pub stateless_revocation: Revocation,
    /// How far GitHub's replicas are behind, for a token just made. Default: not at all.
    pub replication: Replication,
    /// The largest `per_page`; more is taken as this. Default 100.
    pub per_page_max: usize,
    /// How the "Integrations" preview of 2016, the other dialect, is spoken. Default: as on its only page.
    pub preview: Preview,
    /// Where the apps' webhooks go from the start. Default: nowhere.
    pub webhook: Option<Hook>,
    /// How webhooks write when an installation was made. Default [`Timestamps::Unix`].
    pub webhook_timestamps: Timestamps,
    /// How long the receiver of a webhook may take. Default: 10 seconds, as on GitHub.
    pub webhook_timeout: Duration,
    /// Error messages that GitHub's documents do not give.
    pub wording: Wording,
}

/// Which of GitHub's products the emulator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// github.com.
    #[default]
    Dotcom,
    /// GitHub Enterprise Server: the API is under `/api/v3`, there are no rate limits and no stateless tokens.
    Ghes,
    /// GitHub Enterprise Cloud with data residency: nothing is answered without credentials.
    Ghe,
}

/// What an installation token looks like.
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
    /// They are counted and told in headers.
    #[default]
    Reported,
    /// Too many requests, points, concurrent requests or refused logins are answered as GitHub would.
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

/// What becomes of a stateless token that was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// It is dead at once.
    #[default]
    Immediate,
    /// It lives until it expires.
    Ineffective,
}

/// `created_at` and `updated_at` of the installation in a webhook, which has been seen in two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timestamps {
    /// Seconds since 1970.
    #[default]
    Unix,
    /// Text with milliseconds and an offset, such as `2016-07-11T18:14:10.000-04:00`.
    Iso,
}

/// Messages nobody has written down; these are guesses by symmetry.
#[derive(Debug, Clone)]
pub struct Wording {
    /// A JWT without `iat`.
    pub missing_iat: String,
    /// A JWT without `exp`.
    pub missing_exp: String,
    /// More than 500 repositories asked for.
    pub too_many_repositories: String,
    /// A JWT on a route for installation tokens.
    pub jwt_on_token_route: String,
    /// Too many refused logins.
    pub login_lockout: String,
}

impl Default for Options {
    fn default() -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: loopback,
            control_listen: loopback,
            mode: Mode::default(),
            world: World::demo(),
            token_format: TokenFormat::default(),
            token_length: None,
            seed: None,
            external_url: None,
            legacy_errors: false,
            drop_last_link: false,
            iat_leeway: 0,
            client_id_iss: true,
            versions: vec!["2022-11-28".into(), NEWEST_VERSION.into()],
            retired_versions: Vec::new(),
            ghes_release: "3.21".into(),
            rate_limits: RateLimits::default(),
            installation_rate_limit: 5000,
            suspended_wording: SuspendedWording::default(),
            stateless_revocation: Revocation::default(),
            replication: Replication::default(),
            per_page_max: 100,
            preview: Preview::default(),
            webhook: None,
            webhook_timestamps: Timestamps::default(),
            webhook_timeout: Duration::from_secs(10),
            wording: Wording::default(),
        }
    }
}

impl Default for Wording {
    fn default() -> Self {
        Self {
            missing_iat: "Missing 'issued at' claim ('iat') in assertion".into(),
            missing_exp: "Missing 'expiration time' claim ('exp') in assertion".into(),
            too_many_repositories:
                "Too many repositories for installation. At most 500 repositories can be listed.".into(),
            jwt_on_token_route: "You must authenticate with an installation access token in order to list \
                                 repositories for an installation."
                .into(),
            login_lockout: "Maximum number of login attempts exceeded. Please try again later.".into(),
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

/// The version in which some answers lost fields or changed their status.
pub(crate) const NEWEST_VERSION: &str = "2026-03-10";

/// What `text` names, or which names there are.
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
