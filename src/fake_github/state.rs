//! The state of an emulator, which the listeners, the Rust interface and the control endpoint work on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;

use crate::fake_github::clock::Clock;
use crate::fake_github::faults::fault::Faults;
use crate::fake_github::faults::hold::Holds;
use crate::fake_github::options::Options;
use crate::fake_github::random::Random;
use crate::fake_github::webhooks::delivery::{Delivery, Webhooks};
use crate::fake_github::webhooks::hook::Hook;
use crate::fake_github::world::definition::App;
use crate::fake_github::world::journal::Journal;
use crate::fake_github::world::keys::{AppKey, AppKeys};
use crate::fake_github::world::limits::{Caller, Limits, Quota};
use crate::fake_github::world::replication::Replication;
use crate::fake_github::world::store::Store;
use crate::fake_github::world::urls::Urls;

/// The state of an emulator.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) urls: Arc<Urls>,
    pub(crate) clock: Clock,
    pub(crate) store: Mutex<Store>,
    pub(crate) journal: Mutex<Journal>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) limits: Mutex<Limits>,
    pub(crate) holds: Holds,
    pub(crate) replication: Mutex<Replication>,
    pub(crate) webhooks: Webhooks,
    preview_retired: AtomicBool,
    /// For request ids and the probability of faults. Tokens have a generator of their own, so that a seed gives the
    /// same ones whatever was requested before.
    pub(crate) random: Random,
    /// The keys at the start, for a reset.
    keys: AppKeys,
}

/// An app, with its private keys.
#[derive(Clone, Serialize)]
pub struct AppInfo {
    /// The name in the emulator's own interfaces.
    pub name: String,
    /// The app id.
    pub id: u64,
    /// The client id.
    pub client_id: String,
    /// The name in URLs.
    pub slug: String,
    /// The first of its private keys, PKCS#1 in PEM; empty if it has none.
    pub private_key_pem: String,
    /// All its private keys.
    pub keys: Vec<AppKey>,
    /// The ids of its installations.
    pub installations: Vec<u64>,
}

impl State {
    /// An emulator that listens at `base`, such as `http://127.0.0.1:40001`.
    pub(crate) fn new(options: Options, keys: AppKeys, base: &str) -> Self {
        let web = options.external_url.as_deref().unwrap_or(base).trim_end_matches('/').to_owned();
        let urls = Arc::new(Urls { api: format!("{web}{}", options.mode.path_prefix()), web });
        let webhooks = Webhooks::new(options.seed, options.webhook_timestamps, options.webhook_timeout);
        Self {
            clock: Clock::default(),
            store: Mutex::new(initial_store(&options, &keys, &urls, &webhooks)),
            journal: Mutex::default(),
            faults: Mutex::default(),
            limits: Mutex::default(),
            holds: Holds::default(),
            replication: Mutex::new(options.replication),
            preview_retired: AtomicBool::new(options.preview.retired),
            random: Random::new(options.seed),
            keys,
            urls,
            webhooks,
            options,
        }
    }

    pub(crate) fn apps(&self) -> Vec<AppInfo> {
        let store = self.store.lock();
        let info = |app: &App| {
            let keys = store.keys.of_app(&app.name).to_vec();
            let own = store.world.installations.iter().filter(|installation| installation.app == app.name);
            AppInfo {
                name: app.name.clone(),
                id: app.id,
                client_id: app.client_id.clone(),
                slug: app.slug.clone(),
                private_key_pem: keys.first().map(|key| key.private_key_pem.clone()).unwrap_or_default(),
                keys,
                installations: own.map(|installation| installation.id).collect(),
            }
        };
        store.world.apps.iter().map(info).collect()
    }

    /// Whether the preview of 2016 is retired.
    pub(crate) fn preview_is_retired(&self) -> bool {
        self.preview_retired.load(Ordering::SeqCst)
    }

    /// Charges one request to `caller`.
    pub(crate) fn charge(&self, caller: Caller) -> Quota {
        self.limits.lock().charge(caller, self.options.installation_rate_limit, &self.clock)
    }

    /// The quota of `caller`, free of charge.
    pub(crate) fn quota(&self, caller: Caller) -> Quota {
        self.limits.lock().quota(caller, self.options.installation_rate_limit, &self.clock)
    }

    /// A new nonce for `user` of `installation`.
    pub(crate) fn create_nonce(&self, installation: u64, user: &str) -> Option<String> {
        let lifetime = self.options.preview.nonce_lifetime;
        self.store.lock().add_nonce(installation, user, lifetime, self.clock.now())
    }

    /// Sends webhooks to `hook` from now on.
    pub(crate) fn set_webhook(&self, hook: Hook) {
        let store = self.store.lock();
        let url = hook.url().clone();
        self.webhooks.set_hook(hook);
        store.notify_ping(&url);
    }

    /// A signed delivery of `event` about `installation`. It is not sent.
    pub(crate) fn delivery(&self, event: &str, action: &str, installation: u64) -> Option<Delivery> {
        let store = self.store.lock();
        let app = store.app(&store.installation(installation)?.app)?.id;
        let payload = store.payload(event, action, installation)?;
        self.webhooks.signed(app, event, payload.to_string().into())
    }

    /// A signed delivery of `body` to the first app. It is not sent.
    pub(crate) fn signed(&self, event: &str, body: Bytes) -> Option<Delivery> {
        let app = self.store.lock().world.apps.first()?.id;
        self.webhooks.signed(app, event, body)
    }

    pub(crate) fn retire_preview(&self) {
        self.preview_retired.store(true, Ordering::SeqCst);
    }

    pub(crate) fn restore_preview(&self) {
        self.preview_retired.store(false, Ordering::SeqCst);
    }

    /// Back to the start: world, keys, clock, faults, limits, journal, webhook. Holds are released and tokens revoked.
    pub(crate) fn reset(&self) {
        self.webhooks.reset(self.options.webhook.clone());
        *self.store.lock() = initial_store(&self.options, &self.keys, &self.urls, &self.webhooks);
        *self.limits.lock() = Limits::default();
        self.faults.lock().clear();
        self.journal.lock().reset();
        self.clock.reset();
        *self.replication.lock() = self.options.replication;
        self.preview_retired.store(self.options.preview.retired, Ordering::SeqCst);
        self.holds.release_all();
    }
}

impl std::fmt::Debug for AppInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppInfo").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

fn initial_store(options: &Options, keys: &AppKeys, urls: &Arc<Urls>, webhooks: &Webhooks) -> Store {
    Store::new(options.world.clone(), options.seed, keys.clone(), urls.clone(), webhooks.clone())
}
