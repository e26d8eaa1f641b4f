//! Builds the daemon from its settings: the one place that wires the layers together.

pub mod doctor;
mod error;
mod keys;
mod open_files;
mod reads;
pub mod reload;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use self::error::Error;
use self::keys::self_test;
pub use self::keys::{Keys, load_keys};
use self::reload::{ReloadTargets, Reloader, guard};

use crate::broker::freshness::Windows;
use crate::broker::{self, Broker};
use crate::clock::Clock;
use crate::github::{Upstream, UpstreamConfig, webhook};
use crate::model::AppName;
use crate::server::{self, BindError, Listeners, ServedApp, Server, UnixSocket, bind_tcp};
use crate::settings::{self, Settings};
use crate::telemetry::metrics::Metrics;

/// A daemon that is built and not yet running.
pub struct App {
    broker: Broker,
    server: Server,
    reloader: Reloader,
    shutdown: settings::Shutdown,
    sweep: Sweep,
}

/// What makes the broker sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sweep {
    EverySecond,
    Manual,
}

/// The GitHub of `settings`.
pub fn upstream(settings: &Settings, keys: &Keys, clock: Arc<dyn Clock>) -> Result<Upstream, Error> {
    let github = &settings.github;
    let config = UpstreamConfig {
        api_url: github.api_url.clone(),
        dialect: github.dialect,
        api_version: github.api_version.clone(),
        ca_file: github.ca_file.clone(),
        proxy: github.proxy.as_ref().map(|proxy| proxy.expose().clone()),
        connect_timeout: github.connect_timeout,
        request_timeout: github.request_timeout,
        calls_at_once: open_files::calls(),
        mints_per_minute: github.mints_per_minute,
        remembered_bytes: (settings.cache.max_bytes.0 / REMEMBERED_SHARE) as usize,
    };
    let keys_of = |name: &AppName| keys.get(name).cloned().unwrap_or_default();
    let apps = settings.apps.iter().map(|(name, app)| (name.clone(), (app.id.clone(), keys_of(name))));
    Ok(Upstream::new(&config, apps.collect(), clock)?)
}

/// Binds the listeners.
pub async fn bind(settings: &settings::Listen) -> Result<Listeners, BindError> {
    let mut listeners = Listeners::default();
    if let Some(address) = settings.tcp {
        listeners.tcp = Some(bind_tcp("listen.tcp", address)?);
    }
    if let Some(path) = &settings.unix {
        listeners.unix = Some(UnixSocket::bind(path, settings.unix_mode.0).await?);
    }
    if let Some(address) = settings.ops {
        listeners.ops = Some(bind_tcp("listen.ops", address)?);
    }
    Ok(listeners)
}

impl App {
    /// A daemon for these settings and keys, on this clock.
    pub fn build(settings: &Settings, keys: &Keys, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        settings.require_apps()?;
        self_test(keys)?;
        let upstream = Arc::new(upstream(settings, keys, Arc::clone(&clock))?);
        let github_clock = upstream.github_clock().clone();
        let apps =
            settings.apps.iter().map(|(name, app)| ServedApp { name: name.to_string(), id: app.id.clone() });
        let apps = apps.collect();
        let metrics = Arc::new(Metrics::default());
        let github = Arc::clone(upstream.github());
        let config = broker_config(settings);
        let broker = Broker::new(github, Arc::clone(&clock), Arc::clone(&metrics), config);
        let config = server_config(settings)?;
        let server = Server::new(broker.clone(), Arc::clone(&metrics), github_clock, apps, config);
        let (guard, webhook_secrets) = (server.guard(), server.webhook_secrets());
        let targets = ReloadTargets { upstream, guard, webhook_secrets, metrics, clock };
        let reloader = Reloader::new(targets, settings.clone(), keys.clone());
        Ok(Self { broker, server, reloader, shutdown: settings.shutdown.clone(), sweep: Sweep::EverySecond })
    }

    /// Applies changed keys and settings to this daemon.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// The same, and its broker, which only the caller sweeps: for tests, whose clock stands still.
    pub fn with_manual_refresh(self) -> (Self, Broker) {
        let broker = self.broker.clone();
        (Self { sweep: Sweep::Manual, ..self }, broker)
    }

    /// Serves until `stop`, then drains: for `shutdown.delay` cached tokens are still vended on open listeners, then
    /// in-flight requests may take `shutdown.grace` to end, and the revocation of the tokens as long again.
    pub async fn serve(self, listeners: Listeners, stop: impl Future<Output = ()>) {
        let Self { broker, server, reloader, shutdown, sweep } = self;
        broker.probe();
        let close = CancellationToken::new();
        let draining = async {
            stop.await;
            broker.drain();
            tokio::time::sleep(shutdown.delay).await;
            close.cancel();
        };
        let sweeping = async {
            if sweep == Sweep::EverySecond {
                broker.sweep().await;
            }
        };
        // The sweep is no task of its own: its panic must end the process.
        let serving = async {
            tokio::join!(server.serve(listeners, close.clone(), shutdown.grace), draining, sweeping)
        };
        tokio::select! {
            _ = serving => {}
            never = reloader.run() => match never {},
        }
        let _ = match shutdown.revoke {
            // A token minted after its callers have gone is revoked with the others.
            true => tokio::time::timeout(shutdown.grace, broker.revoke_all()).await,
            // Else nobody needs such a mint any more.
            false => tokio::time::timeout(MINT_DRAIN_TIMEOUT, broker.drained()).await,
        };
    }
}

fn broker_config(settings: &Settings) -> broker::BrokerConfig {
    let cache = &settings.cache;
    broker::BrokerConfig {
        apps: settings.apps.iter().map(|(name, app)| (name.clone(), app.installation)).collect(),
        default_app: settings.default_app.clone(),
        windows: Windows {
            renew_before: cache.renew_before,
            min_validity: cache.min_validity,
            grace: cache.grace,
        },
        settle: cache.settle,
        idle_after: cache.idle_after,
        prefetch: settings.prefetch.iter().map(prefetch_request).collect(),
        max_entries: cache.max_entries,
        max_bytes: cache.max_bytes.0,
        render: server::render,
    }
}

fn prefetch_request(prefetch: &settings::Prefetch) -> broker::TokenRequest {
    broker::TokenRequest {
        app: prefetch.app.clone(),
        selector: prefetch.selector.clone(),
        scope: Arc::new(prefetch.scope.clone()),
        user: prefetch.user,
        requirement: broker::Requirement::Any,
    }
}

fn server_config(settings: &Settings) -> Result<server::ServerConfig, Error> {
    let listen = &settings.listen;
    let token_listeners = usize::from(listen.tcp.is_some()) + usize::from(listen.unix.is_some());
    let max_connections = open_files::connections(listen.max_connections, token_listeners);
    Ok(server::ServerConfig {
        guard: guard(listen),
        hop_limit_1: listen.hop_limit_1,
        max_connections: max_connections.tokens,
        max_ops_connections: max_connections.ops,
        api_url: settings.github.api_url.clone(),
        web_url: settings.github.web_url.clone(),
        head_timeout: HEAD_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
        connection_age: CONNECTION_AGE,
        request_timeout: settings.github.request_timeout * MAX_CALLS,
        webhook: settings.webhook.secret_file.as_deref().map(webhook::Secrets::read).transpose()?,
    })
}

/// Ends requests of which only half a head comes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Ends connections that their client keeps for nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Of `cache.max_bytes`, an eighth is for failures that are remembered.
const REMEMBERED_SHARE: u64 = 8;
const MINT_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Long for a client that keeps its connection, short for one that only occupies it.
const CONNECTION_AGE: Duration = Duration::from_secs(600);
/// What one request for a token may ask of GitHub, one after the other: a look-up, a mint, whether a 404 is meant, and
/// both once more if the look-up was out of date.
const MAX_CALLS: u32 = 5;
