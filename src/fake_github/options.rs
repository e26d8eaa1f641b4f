//! The options of an emulator. What GitHub's documents leave open is an option here, not a constant elsewhere.

pub(crate) mod preview;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use self::preview::Preview;
use crate::fake_github::webhooks::delivery::Timestamps;
use crate::fake_github::webhooks::hook::Hook;
use crate::fake_github::world::definition::World;
use crate::fake_github::world::product::{
    Mode, NEWEST_VERSION, RateLimits, Revocation, SuspendedWording, TokenFormat,
};
use crate::fake_github::world::replication::Replication;

/// The options of an emulator.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the API listens. Loopback only; port 0 takes a free one. Default `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// Where the control endpoint listens. Loopback only. Default `127.0.0.1:0`.
    pub control_listen: SocketAddr,
    /// Which of GitHub's products this is. Default [`Mode::Dotcom`].
    pub mode: Mode,
    /// The world at the start. Default [`World::demo`].
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
    /// The effect of revoking a stateless token, which is not documented. Default [`Revocation::Immediate`].
    pub stateless_revocation: Revocation,
    /// The replication lag of new tokens. Default: none.
    pub replication: Replication,
    /// The largest `per_page`; more is taken as this. Default 100.
    pub per_page_max: usize,
    /// The "Integrations" preview of 2016, the other dialect. Default: as on its only page.
    pub preview: Preview,
    /// Where the apps' webhooks go from the start. Default: nowhere.
    pub webhook: Option<Hook>,
    /// The form of timestamps in webhooks. Default [`Timestamps::Unix`].
    pub webhook_timestamps: Timestamps,
    /// The timeout for the receiver of a webhook. Default: 10 seconds, as on GitHub.
    pub webhook_timeout: Duration,
    /// Error messages that GitHub's documents do not give.
    pub wording: Wording,
}

/// Error messages that are not documented; the defaults are guesses by symmetry.
#[derive(Debug, Clone)]
pub struct Wording {
    /// A JWT without `iat`.
    pub missing_iat: String,
    /// A JWT without `exp`.
    pub missing_exp: String,
    /// More than 500 repositories in a request.
    pub too_many_repositories: String,
    /// A JWT on a route for installation tokens.
    pub jwt_on_token_route: String,
    /// Too many refused credentials.
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
