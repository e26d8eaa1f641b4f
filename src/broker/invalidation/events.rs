//! Webhook events: what they invalidate.

use std::sync::Arc;

use super::log::InvalidationScope;
use crate::broker::as_of::FreshnessClock;
use crate::broker::cache::lru::Lru;
use crate::broker::cache::token_cache::TokenCache;
use crate::broker::installations::resolver::InstallationResolver;
use crate::broker::refresh::prefetch::Prefetcher;
use crate::github::Github;
use crate::model::WebhookEvent;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOutcome {
    /// What it makes stale is no longer handed out.
    Applied,
    /// The same delivery has been applied before.
    Duplicate,
}

/// Applies webhook events, each delivery once.
pub(crate) struct EventInvalidator {
    github: Arc<dyn Github>,
    clock: FreshnessClock,
    tokens: Arc<TokenCache>,
    resolver: Arc<InstallationResolver>,
    prefetcher: Arc<Prefetcher>,
    deliveries: Lru<String, ()>,
}

impl EventInvalidator {
    pub(crate) fn new(
        github: Arc<dyn Github>,
        clock: FreshnessClock,
        tokens: Arc<TokenCache>,
        resolver: Arc<InstallationResolver>,
        prefetcher: Arc<Prefetcher>,
    ) -> Self {
        let deliveries = Lru::new(MAX_REMEMBERED_DELIVERIES);
        Self { github, clock, tokens, resolver, prefetcher, deliveries }
    }

    /// Applies the `event` of a delivery. One that was applied before changes nothing: an old delivery that somebody
    /// sends again shall not have tokens minted.
    ///
    /// Tokens that GitHub no longer serves are dropped. Those that it still serves, but would grant otherwise, make the
    /// next caller wait for a new one, and go on as stale if none can be minted.
    pub(crate) fn handle(&self, delivery: &str, event: &WebhookEvent) -> EventOutcome {
        if !self.deliveries.put_new(delivery.to_owned(), ()) {
            return EventOutcome::Duplicate;
        }
        tracing::info!(delivery, %event, "webhook event applied");
        self.invalidate_tokens(event);
        self.invalidate_lookups(event);
        if matches!(event, WebhookEvent::InstallationRestored(_)) {
            self.prefetcher.retry_at_once();
        }
        EventOutcome::Applied
    }

    fn invalidate_tokens(&self, event: &WebhookEvent) {
        use InvalidationScope::{Installation, Unnarrowed, User};
        let now = self.clock.now();
        match event {
            WebhookEvent::InstallationRemoved(id) => self.tokens.revoke(Installation(*id), now),
            WebhookEvent::UserAuthorizationRevoked(id) => self.tokens.revoke(User(*id), now),
            WebhookEvent::PermissionsChanged(id) => self.tokens.mark_stale(Installation(*id), now),
            WebhookEvent::RepositoriesAdded(id) => self.tokens.mark_stale(Unnarrowed(*id), now),
            WebhookEvent::InstallationRestored(_)
            | WebhookEvent::AccountRenamed(_)
            | WebhookEvent::RepositoryMoved(..) => {}
        }
    }

    fn invalidate_lookups(&self, event: &WebhookEvent) {
        match event {
            WebhookEvent::InstallationRemoved(id)
            | WebhookEvent::InstallationRestored(id)
            | WebhookEvent::PermissionsChanged(id)
            | WebhookEvent::RepositoriesAdded(id) => {
                self.resolver.forget_installation(*id);
                self.github.forget_refusals();
            }
            WebhookEvent::AccountRenamed(id) => self.resolver.forget_installation(*id),
            WebhookEvent::RepositoryMoved(owner, name) => self.resolver.forget_repository(owner, name),
            WebhookEvent::UserAuthorizationRevoked(_) => {}
        }
    }
}

/// Deliveries that are recognised when they come again.
const MAX_REMEMBERED_DELIVERIES: u64 = 10_000;
