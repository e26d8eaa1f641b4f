//! Prefetch: tokens that are minted at start, before a caller asks for them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;

use super::workers::Workers;
use crate::broker::cache::schedule::Lane;
use crate::broker::cache::token_cache::TokenCache;
use crate::broker::cache::usage::MINT_BACKOFF;
use crate::broker::error::Error;
use crate::broker::installations::resolver::InstallationResolver;
use crate::broker::minter::Minter;
use crate::broker::request::TokenRequest;
use crate::broker::requirement::Requirement;
use crate::clock::BootTime;
use crate::model::{AppName, Priority};
use crate::single_flight::Requester;

/// Mints what `[[prefetch]]` lists, and tries again until each is there.
pub(crate) struct Prefetcher {
    pub(crate) resolver: Arc<InstallationResolver>,
    pub(crate) tokens: Arc<TokenCache>,
    pub(crate) minter: Arc<Minter>,
    pub(crate) tasks: TaskTracker,
    pub(crate) list: Mutex<Vec<Prefetch>>,
}

/// A token to be minted at start.
pub(crate) struct Prefetch {
    app: AppName,
    request: Arc<TokenRequest>,
    progress: Progress,
    /// Attempts in a row that failed, and when the next may be made.
    failures: u32,
    not_before: BootTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Wanted,
    UnderWay,
    Done,
}

impl Prefetch {
    /// A token of `app`.
    pub(crate) fn new(app: AppName, request: TokenRequest) -> Self {
        let (request, not_before) = (Arc::new(request), BootTime::new(Duration::ZERO));
        Self { app, request, progress: Progress::Wanted, failures: 0, not_before }
    }

    fn is_due(&self, app: &AppName, now: BootTime) -> bool {
        self.progress == Progress::Wanted && self.app == *app && self.not_before <= now
    }
}

impl Prefetcher {
    /// What failed before may succeed now.
    pub(crate) fn retry_at_once(&self) {
        let mut list = self.list.lock();
        list.iter_mut().for_each(|prefetch| prefetch.not_before = BootTime::new(Duration::ZERO));
    }

    /// Starts what is due for `app`. Returns how many it started, and how many have to wait for a worker.
    pub(super) fn start_due(
        self: &Arc<Self>,
        app: &AppName,
        workers: &Workers,
        now: BootTime,
    ) -> (usize, usize) {
        let (mut started, mut waiting) = (Vec::new(), 0);
        let mut list = self.list.lock();
        for (index, prefetch) in list.iter_mut().enumerate().filter(|(_, prefetch)| prefetch.is_due(app, now))
        {
            let lane = if prefetch.failures > 0 { Lane::Suspect } else { Lane::Healthy };
            match workers.try_acquire(app, lane) {
                Some(permit) => {
                    prefetch.progress = Progress::UnderWay;
                    started.push((index, Arc::clone(&prefetch.request), permit));
                }
                None => waiting += 1,
            }
        }
        drop(list);
        let count = started.len();
        for (index, request, permit) in started {
            self.tasks.spawn(Arc::clone(self).prefetch(index, app.clone(), request, permit));
        }
        (count, waiting)
    }

    async fn prefetch(
        self: Arc<Self>,
        index: usize,
        app: AppName,
        request: Arc<TokenRequest>,
        permit: OwnedSemaphorePermit,
    ) {
        let outcome = self.mint(&app, &request).await;
        drop(permit);
        let now = self.tokens.as_of().now;
        let prefetch = &mut self.list.lock()[index];
        prefetch.progress = match outcome {
            Ok(()) => Progress::Done,
            Err(error) => {
                tracing::warn!(%app, %request, %error, "prefetch failed; will retry");
                prefetch.failures = prefetch.failures.saturating_add(1);
                let wait = error.retry_after().unwrap_or_else(|| MINT_BACKOFF.pause(prefetch.failures));
                prefetch.not_before = now.plus(wait);
                Progress::Wanted
            }
        };
    }

    async fn mint(&self, app: &AppName, request: &TokenRequest) -> Result<(), Error> {
        let (found, _) = self.resolver.resolve(app, request, REQUESTER).await?;
        let key = request.key(app, found.id);
        let at = self.tokens.as_of();
        let cached = self.tokens.get(&key, &at);
        if cached.is_some_and(|pair| pair.fresh_enough(Requirement::Any, &at).is_some()) {
            return Ok(());
        }
        self.minter.mint(&key, found.account.clone(), REQUESTER).await.map(|_| ())
    }
}

const REQUESTER: Requester = Requester::background(Priority::Ahead, None);
