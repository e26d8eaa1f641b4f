//! Counters for Prometheus. Labels are few and bounded: never a repository, a permission, a user or a token.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::SignedDuration;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use super::github_metrics::Github;
use super::log;
use super::registry::{add, added, gauge_value};
use crate::model::{AppName, KeyInUse, KeyStatus};

/// All metrics of the daemon.
pub struct Metrics {
    registry: Registry,
    vends: Family<Outcome, Counter>,
    mints: Family<Mint, Counter>,
    refresh_queue_length: Family<App, Gauge>,
    github: Github,
    mint_duration: Family<App, Histogram>,
    requests: Family<Response, Counter>,
    connections: Family<Listener, Gauge>,
    keys: Family<Key, Gauge>,
    invalid_key_files: Family<App, Gauge>,
    reload_errors: Family<Reload, Counter>,
    dropped_log_lines: Counter,
    cached_tokens: Gauge,
    clock_offset: Gauge<f64, std::sync::atomic::AtomicU64>,
}

/// Whether a caller waits for a mint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A caller waits.
    Foreground,
    /// No caller waits.
    Background,
}

impl Urgency {
    /// As a label and a field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Foreground => "foreground",
            Self::Background => "background",
        }
    }
}

/// How many connections to a listener are open.
#[derive(Debug, Clone)]
pub struct Connections(Gauge);

impl Connections {
    /// Sets the number.
    pub fn set(&self, open: usize) {
        self.0.set(gauge_value(open));
    }
}

/// Which text format a scraper reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct App {
    app: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    app: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mint {
    app: String,
    outcome: &'static str,
    priority: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Key {
    app: String,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Response {
    endpoint: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Listener {
    listener: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut all = Registry::with_prefix("ghtokend");
        let build: Family<Build, Gauge> = add(&mut all, "build_info", "Version of the running daemon");
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        Self {
            vends: add(
                &mut all,
                "vends",
                "Token requests by outcome: cached, minted, or the code of the error",
            ),
            mints: add(
                &mut all,
                "mints",
                "Mints at GitHub, by outcome (ok, or the code of the error) and priority",
            ),
            refresh_queue_length: add(
                &mut all,
                "refresh_queue_length",
                "Refreshes and prefetches that are due and wait to be started",
            ),
            github: Github::new(&mut all),
            mint_duration: added(
                &mut all,
                "mint_duration_seconds",
                "Duration of successful mints at GitHub",
                Family::new_with_constructor(|| Histogram::new(MINT_SECONDS)),
            ),
            requests: add(&mut all, "http_requests", "Requests to the local endpoint, by status"),
            connections: add(&mut all, "connections", "Open connections to each listener"),
            keys: add(
                &mut all,
                "keys",
                "Private keys by status: active (signs), standby, or rejected by GitHub",
            ),
            invalid_key_files: add(
                &mut all,
                "key_files_invalid",
                "Key files without a usable key; the key read before stays in use",
            ),
            reload_errors: add(
                &mut all,
                "reload_errors",
                "Failed reloads of key files, the webhook secret or the configuration",
            ),
            dropped_log_lines: add(
                &mut all,
                "log_lines_dropped",
                "Log lines dropped because the reader is too slow or has gone",
            ),
            cached_tokens: add(&mut all, "cached_tokens", "Tokens currently cached"),
            clock_offset: add(
                &mut all,
                "github_clock_offset_seconds",
                "How far GitHub's clock is ahead of the local clock; 0 until GitHub has responded",
            ),
            registry: all,
        }
    }
}

impl Metrics {
    /// Creates the series of an app at 0, so that an alert on their increase sees the first event.
    pub fn init_app_series(&self, app: &AppName) {
        for urgency in [Urgency::Foreground, Urgency::Background] {
            let priority = urgency.as_str();
            self.mints.get_or_create(&Mint { app: app.to_string(), outcome: "ok", priority }).inc_by(0);
        }
        self.refresh_queue_length(app, 0);
        self.github.init_app_series(app.as_str());
    }

    /// Metrics of the calls to GitHub.
    pub fn github(&self) -> &Github {
        &self.github
    }

    /// A token request ended with this outcome. `app` is `None` if it named none that is configured.
    pub fn vend(&self, app: Option<&AppName>, outcome: &'static str) {
        let app = app.map_or_else(String::new, AppName::to_string);
        self.vends.get_or_create(&Outcome { app, outcome }).inc();
    }

    /// A mint ended with this outcome.
    pub fn mint(&self, app: &AppName, outcome: &'static str, urgency: Urgency) {
        let priority = urgency.as_str();
        self.mints.get_or_create(&Mint { app: app.to_string(), outcome, priority }).inc();
    }

    /// Duration of a successful mint.
    pub fn mint_took(&self, app: &AppName, took: Duration) {
        self.mint_duration.get_or_create(&App { app: app.to_string() }).observe(took.as_secs_f64());
    }

    /// Number of refreshes and prefetches that are due and wait to be started.
    pub fn refresh_queue_length(&self, app: &AppName, count: usize) {
        self.refresh_queue_length.get_or_create(&App { app: app.to_string() }).set(gauge_value(count));
    }

    /// The local endpoint sent a response.
    pub fn response(&self, endpoint: &'static str, status: u16) {
        self.requests.get_or_create(&Response { endpoint, status }).inc();
    }

    /// The gauge of open connections to `listener`.
    pub fn connections(&self, listener: &'static str) -> Connections {
        Connections(self.connections.get_or_create(&Listener { listener }).clone())
    }

    /// The keys of `app`, and their status.
    pub fn keys(&self, app: &AppName, keys: &[KeyInUse]) {
        for status in KeyStatus::ALL {
            let count = keys.iter().filter(|key| key.status == status).count();
            let gauge = Key { app: app.to_string(), status: status.as_str() };
            self.keys.get_or_create(&gauge).set(gauge_value(count));
        }
    }

    /// Number of key files of `app` without a usable key.
    pub fn invalid_key_files(&self, app: &AppName, count: usize) {
        let gauge = self.invalid_key_files.get_or_create(&App { app: app.to_string() });
        gauge.set(gauge_value(count));
    }

    /// A reload of this kind failed, so many times.
    pub fn reload_failed(&self, kind: &'static str, times: usize) {
        self.reload_errors.get_or_create(&Reload { kind }).inc_by(times as u64);
    }

    /// The text of a scrape.
    pub fn scrape(&self, cached_tokens: u64, clock_offset: Option<SignedDuration>, format: Format) -> String {
        self.cached_tokens.set(i64::try_from(cached_tokens).unwrap_or(i64::MAX));
        self.dropped_log_lines.inner().store(log::dropped_lines(), Ordering::Relaxed);
        self.clock_offset.set(clock_offset.unwrap_or_default().as_secs_f64());
        let mut open_metrics = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut open_metrics, &self.registry);
        match format {
            Format::OpenMetrics => open_metrics,
            Format::Prometheus => prometheus_text(&open_metrics),
        }
    }
}

/// OpenMetrics names a counter's family without `_total`; the older format has it in the family's name, and knows
/// neither `UNIT` nor `EOF`.
fn prometheus_text(open_metrics: &str) -> String {
    let counters: Vec<_> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(kind), Some(name), Some(rest)) if counters.contains(&name) => {
                text.push_str(&format!("# {kind} {name}_total {rest}"));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// GitHub answers a mint in some 100 to 300 ms.
const MINT_SECONDS: [f64; 10] = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 15.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_text_names_counters_with_total_suffix() {
        let metrics = Metrics::default();
        metrics.vend(Some(&AppName::default()), "cached");
        let text = metrics.scrape(3, Some(SignedDuration::from_secs(-2)), Format::Prometheus);
        for line in [
            "# TYPE ghtokend_vends_total counter",
            "ghtokend_vends_total{app=\"default\",outcome=\"cached\"} 1",
            "ghtokend_cached_tokens 3",
            "ghtokend_github_clock_offset_seconds -2.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("EOF"));
        assert!(metrics.scrape(0, None, Format::OpenMetrics).ends_with("# EOF\n"));
    }
}
