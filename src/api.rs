//! Bodies of the local endpoint, shared by its server and its client.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `200` of `GET /token`. What GitHub did not say is left out.
#[derive(Serialize)]
pub struct Token<'a> {
    /// The token, byte for byte.
    pub token: &'a str,
    /// The end of its life, byte for byte.
    pub expires_at: &'a str,
    /// The installation's id.
    pub installation_id: u64,
    /// The login or slug of the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<&'a str>,
    /// Permission and level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<&'a BTreeMap<String, String>>,
    /// `all` or `selected`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_selection: Option<&'a str>,
    /// Bare names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repositories: Option<Vec<&'a str>>,
    /// The user on whose behalf the token acts, as GitHub describes it: always there, and null for nobody.
    pub on_behalf_of: Option<&'a RawValue>,
}

/// Every failure, wherever it comes from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Error {
    /// One plain sentence: what happened and what to do.
    pub message: String,
    /// Where to read on.
    pub documentation_url: String,
    /// The HTTP status, in digits, as GitHub writes it.
    pub status: String,
    /// What went wrong, for programs.
    pub code: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The id of this request in log and audit.
    pub request_id: String,
}

/// `200` of `GET /status`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Whether every app is accepted by GitHub.
    pub ready: bool,
    /// The web and git host of the GitHub that is spoken to.
    pub web_url: String,
    /// Seconds by which GitHub's clock is ahead of this machine's; null until GitHub has answered.
    pub clock_offset_seconds: Option<f64>,
    /// The configured apps.
    pub apps: Vec<App>,
    /// The cached tokens that expire soonest, up to `?limit=`; never a token itself.
    pub tokens: Vec<CachedToken>,
    /// How many tokens are cached.
    pub tokens_total: usize,
    /// How many of them are not in `tokens`.
    pub tokens_omitted: usize,
}

/// An app in [`Status`].
#[derive(Debug, Serialize, Deserialize)]
pub struct App {
    /// Its name in the configuration.
    pub name: String,
    /// App id or client id.
    pub id: String,
    /// Fingerprint of the key that signs, as GitHub's settings page shows it.
    pub key_fingerprint: String,
    /// All its private keys, newest first.
    pub keys: Vec<Key>,
    /// Why GitHub has not accepted it yet; null once it has.
    pub not_ready: Option<String>,
    /// The limits in force.
    pub limits: Vec<Limit>,
}

/// What limits an app, in [`Status`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Limit {
    /// `rate_limit`: GitHub limits it. `app_rejected`: GitHub does not accept its JWT.
    pub reason: String,
    /// When it ends, or the next attempt is made: UTC, by GitHub's clock, in whole seconds.
    pub until: String,
}

/// A private key, in [`Status`]; never the key itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Key {
    /// As GitHub's settings page shows it.
    pub fingerprint: String,
    /// `active` (it signs), `standby`, or `rejected` by GitHub.
    pub status: String,
}

/// A cached token, in [`Status`].
#[derive(Debug, Serialize, Deserialize)]
pub struct CachedToken {
    /// The app that minted it.
    pub app: String,
    /// The installation's id.
    pub installation_id: u64,
    /// The account, if it is known.
    pub account: Option<String>,
    /// The user on whose behalf it acts; null for nobody.
    pub user_id: Option<u64>,
    /// What it is narrowed to; `full`: it is not.
    pub scope: String,
    /// `fresh`, `renewing`, `stale` or `expired`.
    pub state: String,
    /// As GitHub wrote it.
    pub expires_at: String,
    /// Seconds until it is no longer good, by the clock that does not jump.
    pub remaining_seconds: u64,
    /// base64 SHA-256, by which GitHub's audit log knows it.
    pub hashed_token: String,
    /// The renewed token that will take its place; null if there is none.
    pub successor: Option<Successor>,
}

/// A renewed token that waits until GitHub's replicas know it, in [`CachedToken`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Successor {
    /// As GitHub wrote it.
    pub expires_at: String,
    /// Seconds until it enters service at the latest, rounded up.
    pub in_service_in_seconds: u64,
    /// base64 SHA-256, by which GitHub's audit log knows it.
    pub hashed_token: String,
}
