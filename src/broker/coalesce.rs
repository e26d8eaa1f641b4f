//! Coalescing: callers who want the same share one call to GitHub.

use std::hash::Hash;

use super::error::Error;
use crate::flight::{Demand, Requester, Role, SingleFlight};

/// What the call for `key` brings, the one under way or the one that `start` makes. Made once more if the call under way
/// was refused because the share of the client that had started it is spent: this one has a share of its own.
pub(super) async fn coalesced<K, T, F>(
    flights: &SingleFlight<K, Result<T, Error>>,
    key: &K,
    requester: Requester,
    start: impl Fn(Demand) -> F,
) -> Result<T, Error>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (outcome, role) = flights.run(key, requester, &start).await;
    match outcome.unwrap_or(Err(Error::Internal)) {
        Err(error) if role == Role::Joined && error.is_budget() => {
            let (outcome, _) = flights.run(key, requester, &start).await;
            outcome.unwrap_or(Err(Error::Internal))
        }
        outcome => outcome,
    }
}
