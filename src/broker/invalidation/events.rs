//! Webhook events: what they invalidate.

use std::sync::Arc;

use crate::broker::cache::lru::Lru;
use crate::broker::cache::token_cache::TokenCache;
use crate::broker::installations::resolver::InstallationResolver;
use crate::broker::invalidation_log::InvalidationScope;
use crate::broker::refresh::prefetch::Prefetcher;
use crate::github::Github;
use crate::model::WebhookEvent;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOutcome {
    /// The tokens and look-ups that it invalidates are no longer used.
    Applied,
    /// The same delivery has been applied before.
    Duplicate,
}

/// Applies webhook events, each delivery once.
pub(crate) struct EventInvalidator {
    github: Arc<dyn Github>,
    tokens: Arc<TokenCache>,
    resolver: Arc<InstallationResolver>,
    prefetcher: Arc<Prefetcher>,
    /// The ids of the latest deliveries.
    deliveries: Lru<String, ()>,
}

impl EventInvalidator {
    pub(crate) fn new(
        github: Arc<dyn Github>,
        tokens: Arc<TokenCache>,
        resolver: Arc<InstallationResolver>,
        prefetcher: Arc<Prefetcher>,
    ) -> Self {
        Self { github, tokens, resolver, prefetcher, deliveries: Lru::new(MAX_REMEMBERED_DELIVERIES) }
    }

    /// Applies the `event` of a delivery. One that was applied before changes nothing: a replayed
    /// delivery must not cause mints.
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
        match event {
            WebhookEvent::InstallationRemoved(id) => self.tokens.revoke(Installation(*id)),
            WebhookEvent::UserAuthorizationRevoked(id) => self.tokens.revoke(User(*id)),
            WebhookEvent::PermissionsChanged(id) => self.tokens.mark_stale(Installation(*id)),
            WebhookEvent::RepositoriesAdded(id) => self.tokens.mark_stale(Unnarrowed(*id)),
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
                // What GitHub has refused, and the negative cache holds, it may grant now.
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
