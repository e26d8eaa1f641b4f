//! Webhook events: what they invalidate here.

use super::Broker;
use super::invalidation::{Effect, InvalidationScope};
use crate::model::News;

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
    pub fn handle_event(&self, delivery: &str, event: &News) -> EventOutcome {
        if !self.0.deliveries.put_new(delivery.to_owned(), ()) {
            return EventOutcome::Duplicate;
        }
        tracing::info!(delivery, %event, "webhook event applied");
        self.invalidate_tokens(event);
        self.invalidate_lookups(event);
        if matches!(event, News::Back(_)) {
            self.0.renewals.lock().prefetch_at_once();
        }
        EventOutcome::Applied
    }

    fn invalidate_tokens(&self, event: &News) {
        match event {
            News::Gone(id) => self.revoke_cached(InvalidationScope::Installation(*id)),
            News::UserLeft(id) => self.revoke_cached(InvalidationScope::User(*id)),
            News::Regranted(id) => self.mark_stale(InvalidationScope::Installation(*id)),
            News::Widened(id) => self.mark_stale(InvalidationScope::Unnarrowed(*id)),
            News::Back(_) | News::Renamed(_) | News::Moved(..) => {}
        }
    }

    fn invalidate_lookups(&self, event: &News) {
        match event {
            News::Gone(id) | News::Back(id) | News::Regranted(id) | News::Widened(id) => {
                self.0.directory.forget_installation(*id);
                self.0.github.forget_refusals();
            }
            News::Renamed(id) => self.0.directory.forget_installation(*id),
            News::Moved(owner, name) => self.0.directory.forget_repository(owner, name),
            News::UserLeft(_) => {}
        }
    }

    /// The cached tokens of `scope`, and those that are being minted, are worthless.
    pub(super) fn revoke_cached(&self, scope: InvalidationScope) {
        self.0.invalidations.note(scope.clone(), Effect::Revoke, self.0.clock.boot());
        self.0.tokens.purge(scope);
    }

    fn mark_stale(&self, scope: InvalidationScope) {
        self.0.invalidations.note(scope, Effect::MarkStale, self.0.clock.boot());
    }
}

/// Deliveries that are recognised when they come again.
pub(super) const MAX_REMEMBERED_DELIVERIES: u64 = 10_000;
