//! Webhook events: what they invalidate here.

use crate::broker::Broker;
use crate::broker::invalidation::log::{Effect, InvalidationScope};
use crate::model::WebhookEvent;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOutcome {
    /// What it makes stale is no longer handed out.
    Applied,
    /// The same delivery has been applied before.
    Duplicate,
}

impl Broker {
    /// Applies the `event` of a delivery. One that was applied before changes nothing: an old delivery that somebody
    /// sends again shall not have tokens minted.
    ///
    /// Tokens that GitHub no longer serves are dropped. Those that it still serves, but would grant otherwise, make the
    /// next caller wait for a new one, and go on as stale if none can be minted.
    pub fn handle_event(&self, delivery: &str, event: &WebhookEvent) -> EventOutcome {
        if !self.0.deliveries.put_new(delivery.to_owned(), ()) {
            return EventOutcome::Duplicate;
        }
        tracing::info!(delivery, %event, "webhook event applied");
        self.invalidate_tokens(event);
        self.invalidate_lookups(event);
        if matches!(event, WebhookEvent::InstallationRestored(_)) {
            self.0.renewals.lock().prefetch_at_once();
        }
        EventOutcome::Applied
    }

    fn invalidate_tokens(&self, event: &WebhookEvent) {
        match event {
            WebhookEvent::InstallationRemoved(id) => self.revoke_cached(InvalidationScope::Installation(*id)),
            WebhookEvent::UserAuthorizationRevoked(id) => self.revoke_cached(InvalidationScope::User(*id)),
            WebhookEvent::PermissionsChanged(id) => self.mark_stale(InvalidationScope::Installation(*id)),
            WebhookEvent::RepositoriesAdded(id) => self.mark_stale(InvalidationScope::Unnarrowed(*id)),
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
                self.0.directory.forget_installation(*id);
                self.0.github.forget_refusals();
            }
            WebhookEvent::AccountRenamed(id) => self.0.directory.forget_installation(*id),
            WebhookEvent::RepositoryMoved(owner, name) => self.0.directory.forget_repository(owner, name),
            WebhookEvent::UserAuthorizationRevoked(_) => {}
        }
    }

    /// The cached tokens of `scope`, and those that are being minted, are worthless.
    pub(in crate::broker) fn revoke_cached(&self, scope: InvalidationScope) {
        self.0.invalidations.note(scope.clone(), Effect::Revoke, self.0.clock.boot());
        self.0.tokens.purge(scope);
    }

    fn mark_stale(&self, scope: InvalidationScope) {
        self.0.invalidations.note(scope, Effect::MarkStale, self.0.clock.boot());
    }
}

/// Deliveries that are recognised when they come again.
pub(in crate::broker) const MAX_REMEMBERED_DELIVERIES: u64 = 10_000;
