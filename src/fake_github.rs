//! An emulator of GitHub for tests on one machine: an HTTP server that mints installation tokens for GitHub Apps.
//!
//! It is written from GitHub's documentation and recorded traffic and knows nothing of ghtokend, so that it can judge
//! it, or any other client. It keeps GitHub's clock, checks JWTs as GitHub does, in the same order with the same
//! messages, and misbehaves on demand. What is not documented is an [`Options`] field. It listens on loopback only.
//!
//! It speaks two dialects over one world: today's API and, in `api::preview`, the "Integrations" preview of 2016.
//!
//! A request goes from `wire::server` to `api::service`, which applies faults and holds, through `api::middleware`,
//! which checks credentials and limits, to a handler in the table `api::routes`. `control::routes` is the table of the
//! control endpoint. Both work on `state`.
//!
//! Each folder uses only those before it: `wire` (HTTP), `webhooks`, `world` (state and rules), `faults`, `options`,
//! `state` (all of it, under its locks), `api`, `control`.
//!
//! Every change to the world is in `world::changes`; it notifies apps of `world::events`, and `webhooks` sends them.
//!
//! With a seed, apps get keys from `fake_github/world/keys.pem`. These are public and for tests only.

mod api;
mod clock;
mod control;
mod digest;
mod faults;
mod options;
mod random;
mod state;
mod webhooks;
mod wire;
mod world;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

pub use faults::fault::{Effect, Fault, WiderRepositories};
pub use faults::hold::Hold;
pub use options::preview::{ErrorResponse, Flavour, Preview};
pub use options::{Options, Wording};
pub use state::AppInfo;
pub use webhooks::delivery::{Delivery, DeliveryRecord, Timestamps};
pub use webhooks::hook::Hook;
pub use world::definition::{
    Account, App, Installation, Member, Permissions, Repository, Selection, World, permissions,
};
pub use world::journal::{Counters, JournalEntry};
pub use world::keys::AppKey;
pub use world::product::{Mode, RateLimits, Revocation, SuspendedWording, TokenFormat};
pub use world::replication::{LagResponse, Replication};

use state::State;
use wire::server;
use world::keys::AppKeys;

/// A running emulator. Dropping it stops it and cuts its connections.
pub struct FakeGithub {
    state: Arc<State>,
    api_url: String,
    control_url: String,
    tasks: [JoinHandle<()>; 3],
}

impl FakeGithub {
    /// Starts an emulator in the runtime that runs this. It accepts requests when this returns.
    ///
    /// # Errors
    ///
    /// If an address is not loopback or not free, the world is inconsistent, or a key cannot be used.
    pub async fn start(options: Options) -> io::Result<Self> {
        options.world.check().map_err(|why| invalid(format!("the world is inconsistent: {why}")))?;
        if options.versions.is_empty() {
            return Err(invalid("`versions` must name at least one API version"));
        }
        options.preview.check().map_err(|why| invalid(format!("the preview is invalid: {why}")))?;
        let (apps, seed) = (options.world.apps.clone(), options.seed);
        let keys = tokio::task::spawn_blocking(move || AppKeys::new(&apps, seed)).await??;
        let api_listener = server::bind(options.listen).await?;
        let control_listener = server::bind(options.control_listen).await?;
        let base = format!("http://{}", api_listener.local_addr()?);
        let control_url = format!("http://{}", control_listener.local_addr()?);
        let api_url = format!("{base}{}", options.mode.path_prefix());
        let state = Arc::new(State::new(options, keys, &base));
        if let Some(hook) = state.options.webhook.clone() {
            state.set_webhook(hook);
        }
        let tasks = [
            tokio::spawn(server::accept(api_listener, api::service::service(state.clone()))),
            tokio::spawn(server::accept(
                control_listener,
                control::service::service(state.clone(), control_url.clone()),
            )),
            tokio::spawn(state.webhooks.clone().run()),
        ];
        Ok(Self { state, api_url, control_url, tasks })
    }

    /// Where the API is, with `/api/v3` in [`Mode::Ghes`] and without a slash at the end.
    pub fn api_url(&self) -> String {
        self.api_url.clone()
    }

    /// Where the control endpoint is; `GET /` there says which operations it has.
    pub fn control_url(&self) -> String {
        self.control_url.clone()
    }

    /// The app with this name.
    pub fn app(&self, name: &str) -> Option<AppInfo> {
        self.state.apps().into_iter().find(|app| app.name == name)
    }

    /// All apps.
    pub fn apps(&self) -> Vec<AppInfo> {
        self.state.apps()
    }

    /// The last 100 000 requests.
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.state.journal.lock().entries().iter().cloned().collect()
    }

    /// Counters since the start or the last reset.
    pub fn counters(&self) -> Counters {
        self.state.journal.lock().counters().clone()
    }

    /// The number of requests with this method and exactly this path as sent, apart from the query.
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.state.journal.lock().count(method, path)
    }

    /// Arms a fault.
    pub fn fault(&self, fault: Fault) {
        self.state.faults.lock().arm(fault);
    }

    /// Disarms all faults.
    pub fn clear_faults(&self) {
        self.state.faults.lock().clear();
    }

    /// Moves GitHub's clock forward.
    pub fn advance(&self, by: Duration) {
        self.state.clock.advance(by);
    }

    /// Sets the skew of GitHub's clock, which affects `Date`, `expires_at` and the verification of JWTs, but not how
    /// long tokens live. 0 ends it.
    pub fn skew(&self, seconds: i64) {
        self.state.clock.skew(seconds);
    }

    /// Sets the replication lag, also for tokens minted before.
    pub fn set_replication(&self, replication: Replication) {
        *self.state.replication.lock() = replication;
    }

    /// Holds back the responses to requests with `method` and a path that begins with `path`. They are carried out.
    pub fn hold(&self, method: &str, path: &str) -> Hold {
        self.state.holds.hold(Some(method), Some(path))
    }

    /// Suspends an installation. Whether there is such an installation.
    pub fn suspend(&self, installation: u64) -> bool {
        self.state.store.lock().suspend(installation, self.state.clock.skewed_second())
    }

    /// Ends a suspension. Whether there is such an installation.
    pub fn unsuspend(&self, installation: u64) -> bool {
        self.state.store.lock().unsuspend(installation)
    }

    /// Adds an installation.
    ///
    /// # Errors
    ///
    /// If its id is taken, or its app, account or repositories do not exist.
    pub fn add_installation(&self, installation: Installation) -> io::Result<()> {
        self.state.store.lock().add_installation(installation).map_err(invalid)
    }

    /// Deletes an installation and its tokens. Whether there was such an installation.
    pub fn delete_installation(&self, installation: u64) -> bool {
        self.state.store.lock().delete_installation(installation)
    }

    /// Sets the permissions of an installation, for tokens to come. Whether there is such an
    /// installation.
    pub fn set_permissions(&self, installation: u64, permissions: Permissions) -> bool {
        self.state.store.lock().set_permissions(installation, permissions)
    }

    /// Gives an installation a repository of its account, a new private one if it does not exist. Whether there is
    /// such an installation.
    pub fn add_repository(&self, installation: u64, name: &str) -> bool {
        self.state.store.lock().add_repository(installation, name)
    }

    /// Takes a repository from an installation; where it has all of its account's, the repository is deleted.
    /// Whether the installation had it.
    pub fn remove_repository(&self, installation: u64, name: &str) -> bool {
        self.state.store.lock().remove_repository(installation, name)
    }

    /// Renames a repository; its old name redirects. Whether there is such a repository.
    pub fn rename_repository(&self, owner: &str, old: &str, new: &str) -> bool {
        self.state.store.lock().rename_repository(owner, old, new)
    }

    /// Renames an account; the old names of its repositories redirect, its own does not. Whether there is such an
    /// account.
    pub fn rename_account(&self, old: &str, new: &str) -> bool {
        self.state.store.lock().rename_account(old, new)
    }

    /// Revokes a token. Whether there was such a token.
    pub fn revoke_token(&self, token: &str) -> bool {
        self.state.store.lock().remove_token(token)
    }

    /// Adds a private key to an app. `None` if there is no such app, or it has 25 already.
    pub fn add_key(&self, app: &str) -> Option<AppKey> {
        self.state.store.lock().keys.add(app)
    }

    /// Removes a private key from an app. Whether there was such a key.
    pub fn remove_key(&self, app: &str, fingerprint: &str) -> bool {
        self.state.store.lock().keys.remove(app, fingerprint)
    }

    /// Makes a nonce, as when the browser of `user` is redirected from `installation` to the app, which exchanges it
    /// once for the user's identity. `None` if there is no such installation or user.
    pub fn create_nonce(&self, installation: u64, user: &str) -> Option<String> {
        self.state.create_nonce(installation, user)
    }

    /// Retires the preview of 2016: its routes are gone. Tokens minted by it stay valid.
    pub fn retire_preview(&self) {
        self.state.retire_preview();
    }

    /// Restores the preview of 2016.
    pub fn restore_preview(&self) {
        self.state.restore_preview();
    }

    /// Sends webhooks to `url` from now on, signed with `secret`: first a ping, then one for every change that
    /// GitHub announces, one after the other, in order, each once.
    ///
    /// # Errors
    ///
    /// If the URL is not on this machine.
    pub fn set_webhook(&self, url: &str, secret: &str) -> io::Result<()> {
        self.state.set_webhook(Hook::new(url, secret)?);
        Ok(())
    }

    /// A signed delivery of `event` and `action` about an installation as it is now, as if it had happened. It is
    /// not sent: change it, send it twice, late or in another order, by [`Self::deliver`] or yourself. `None`
    /// without a hook, such an installation or such an event.
    pub fn delivery(&self, event: &str, action: &str, installation: u64) -> Option<Delivery> {
        self.state.delivery(event, action, installation)
    }

    /// A signed delivery of any bytes, not sent either. `None` without a hook.
    pub fn signed(&self, event: &str, body: &[u8]) -> Option<Delivery> {
        self.state.signed(event, body.to_vec().into())
    }

    /// Sends a delivery as it is, after those in the queue. Whether there is a hook.
    pub fn deliver(&self, delivery: Delivery) -> bool {
        self.state.webhooks.deliver(delivery)
    }

    /// Sends a delivery again, under the same id. Whether there was such a delivery.
    pub fn redeliver(&self, id: &str) -> bool {
        self.state.webhooks.redeliver(id)
    }

    /// The last 1000 deliveries that were sent, and their results.
    pub fn deliveries(&self) -> Vec<DeliveryRecord> {
        self.state.webhooks.delivered()
    }

    /// Waits until every webhook has been delivered, or has failed.
    pub async fn all_delivered(&self) {
        self.state.webhooks.all_delivered().await;
    }

    /// Back to the start: world, keys, clock, faults, journal, webhook. Holds are released and tokens revoked.
    pub fn reset(&self) {
        self.state.reset();
    }

    /// Stops it; the ports are free when this returns.
    pub async fn shutdown(mut self) {
        for task in &mut self.tasks {
            task.abort();
            // An aborted task always ends with an error.
            let _ = task.await;
        }
    }
}

impl fmt::Debug for FakeGithub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeGithub").field("api_url", &self.api_url).finish_non_exhaustive()
    }
}

impl Drop for FakeGithub {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.into())
}
