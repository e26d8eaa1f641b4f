//! Coalescing: callers that want the same share one call to GitHub, in single flight.

use std::hash::Hash;

use super::error::Error;
use crate::single_flight::{Demand, Requester, Role, SingleFlight};

/// The outcome of the call for `key`: the one in flight, else the one that `start` makes. If the call in flight is refused
/// because its starter has spent its share, it is made once more: this caller has a share of its own.
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
