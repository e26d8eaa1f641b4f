//! Health, readiness, metrics and status: for kubelet, Prometheus and people. No token is within reach here.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use jiff::{Timestamp, Unit};
use url::Url;

use super::config::ServedApp;
use super::reply::{ApiError, Format, Reply, ok, whole_seconds};
use super::scrape;
use crate::api;
use crate::broker::{AppAdmission, Broker, CachedTokenInfo};
use crate::clock::GithubClock;
use crate::model::{AppName, KeyInUse, KeyStatus};
use crate::telemetry::metrics::{self, Metrics};

/// Answers about the daemon itself.
pub(super) struct Ops {
    pub(super) broker: Broker,
    pub(super) metrics: Arc<Metrics>,
    pub(super) github_clock: GithubClock,
    pub(super) apps: Vec<ServedApp>,
    pub(super) web_url: Url,
}

impl Ops {
    /// The process is responsive.
    pub(super) fn healthz(&self) -> Reply {
        ok(Format::Text, "ok\n".into())
    }

    /// `200` once GitHub has accepted every app, and while it rejects none that has no live token left; else `503` with the
    /// reasons.
    pub(super) fn readyz(&self) -> Reply {
        let missing = self.broker.not_ready();
        if missing.is_empty() {
            return ok(Format::Text, "ok\n".into());
        }
        let reasons: String = missing.iter().map(|(app, reason)| format!("app {app}: {reason}\n")).collect();
        let mut reply = ok(Format::Text, reasons.into());
        *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        reply
    }

    /// The counters, in the format that the scraper reads.
    pub(super) fn metrics(&self, headers: &HeaderMap) -> Reply {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (format, content_type) = if accept.contains("application/openmetrics-text") {
            (metrics::Format::OpenMetrics, "application/openmetrics-text; version=1.0.0; charset=utf-8")
        } else {
            (metrics::Format::Prometheus, "text/plain; version=0.0.4; charset=utf-8")
        };
        scrape::admission(&self.broker, &self.metrics, self.github_clock.now());
        for (app, keys) in self.broker.keys() {
            self.metrics.keys(&app, &keys);
        }
        let text = self.metrics.scrape(self.broker.entry_count(), self.github_clock.offset(), format);
        let mut reply = ok(Format::Text, text.into());
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        reply
    }

    /// What the daemon knows, but for the secrets: of the tokens those that expire soonest.
    pub(super) fn status(&self, query: &str) -> Result<Reply, ApiError> {
        let limit = status_limit(query)?;
        let (soonest, tokens_total) = self.broker.soonest_expiring(limit);
        let tokens: Vec<_> = soonest.into_iter().map(cached_token).collect();
        let missing = self.broker.not_ready();
        let not_ready =
            |name: &str| missing.iter().find(|(app, _)| app.as_str() == name).map(|(_, why)| why.clone());
        let keys = self.broker.keys();
        let keys_of = |name: &str| {
            let named = keys.iter().find(|(app, _)| app.as_str() == name);
            named.map_or(&[][..], |(_, keys)| keys)
        };
        let admission = self.broker.admission();
        let limits_of = |name: &str| {
            let named = |app: &Option<AppName>| app.as_ref().is_some_and(|app| app.as_str() == name);
            let named = admission.apps.iter().find(|(app, _)| named(app));
            named.map_or_else(Vec::new, |(_, limits)| limits_until(limits, self.github_clock.now()))
        };
        let apps = self.apps.iter().map(|app| api::App {
            name: app.name.clone(),
            id: app.id.clone(),
            key_fingerprint: active_fingerprint(keys_of(&app.name)),
            keys: keys_of(&app.name).iter().map(key).collect(),
            not_ready: not_ready(&app.name),
            limits: limits_of(&app.name),
        });
        let status = api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: missing.is_empty(),
            web_url: self.web_url.to_string(),
            clock_offset_seconds: self.github_clock.offset().map(|offset| offset.as_secs_f64()),
            apps: apps.collect(),
            tokens_total,
            tokens_omitted: tokens_total.saturating_sub(tokens.len()),
            tokens,
        };
        let mut body = serde_json::to_vec_pretty(&status).unwrap_or_default();
        body.push(b'\n');
        Ok(ok(Format::Json, body.into()))
    }
}

fn limits_until(admission: &AppAdmission, now: Timestamp) -> Vec<api::Limit> {
    let limit = |(reason, wait): (&str, Option<Duration>)| {
        // A wait that has begun is not over before its last second is.
        let until = now.saturating_add(wait?).unwrap_or(now).round(Unit::Second).unwrap_or(now);
        Some(api::Limit { reason: reason.to_owned(), until: until.to_string() })
    };
    admission.limits().into_iter().filter_map(limit).collect()
}

/// The one parameter of `GET /status`.
fn status_limit(query: &str) -> Result<usize, ApiError> {
    let mut limit = None;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if name != "limit" {
            let name: String = name.chars().take(MAX_QUOTED_CHARS).collect();
            return Err(ApiError::invalid(format!("unknown parameter {name:?}; expected limit")));
        }
        if limit.is_some() {
            return Err(ApiError::invalid("parameter limit is duplicated: send it once"));
        }
        let number = value.parse().ok().filter(|number| (1..=MAX_STATUS_TOKENS).contains(number));
        limit = Some(number.ok_or_else(|| {
            ApiError::invalid(format!("parameter limit: numbers from 1 to {MAX_STATUS_TOKENS} are allowed"))
        })?);
    }
    Ok(limit.unwrap_or(DEFAULT_STATUS_TOKENS))
}

fn cached_token(cached: CachedTokenInfo) -> api::CachedToken {
    api::CachedToken {
        app: cached.key.app.to_string(),
        installation_id: cached.key.installation.get(),
        account: cached.entry.account.clone(),
        user_id: cached.key.user.map(|user| user.get()),
        scope: cached.key.scope.to_string(),
        state: cached.state.as_str().to_owned(),
        expires_at: cached.entry.token.expires_at.clone(),
        remaining_seconds: cached.remaining.as_secs(),
        hashed_token: cached.entry.hash.to_string(),
        successor: cached.successor.map(|settling| api::Successor {
            expires_at: settling.entry.token.expires_at.clone(),
            in_service_in_seconds: whole_seconds(settling.wait),
            hashed_token: settling.entry.hash.to_string(),
        }),
    }
}

/// Fingerprint of the key that signs: where GitHub has rejected all, the newest.
fn active_fingerprint(keys: &[KeyInUse]) -> String {
    let active = keys.iter().find(|key| key.status == KeyStatus::Active).or(keys.first());
    active.map(|key| key.fingerprint.clone()).unwrap_or_default()
}

fn key(key: &KeyInUse) -> api::Key {
    api::Key { fingerprint: key.fingerprint.clone(), status: key.status.as_str().to_owned() }
}

const DEFAULT_STATUS_TOKENS: usize = 100;
const MAX_STATUS_TOKENS: usize = 1000;
const MAX_QUOTED_CHARS: usize = 50;
