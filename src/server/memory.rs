//! How many bytes of requests are held at a time, over all connections.
//!
//! | what | bytes |
//! |---|---|
//! | the first 8 KiB of a head, on 2 × 1024 + 64 connections | 16.5 MiB |
//! | the rest of longer heads, 16 KiB each | 5 MiB |
//! | bodies of up to 64 KiB | 4 MiB |
//! | webhook deliveries of up to 64 KiB | 1 MiB |
//! | webhook deliveries of up to 1 MiB | 5 MiB |
//! | all together, with the default `listen.max_connections` | 31.5 MiB |
//!
//! Deliveries have shares of their own: their sender is not authenticated before the body is read, and must not take
//! memory from callers. Large deliveries do not delay small ones. GitHub's are small, but for those that list hundreds
//! of repositories.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::reply::ApiError;
use super::route::Endpoint;

/// Shares of memory, in permits of [`PERMIT_BYTES`].
pub(super) struct RequestMemory {
    heads: Arc<Semaphore>,
    bodies: Semaphore,
    small_deliveries: Semaphore,
    large_deliveries: Semaphore,
}

impl Default for RequestMemory {
    fn default() -> Self {
        let share = |bytes| Semaphore::new(permits(bytes) as usize);
        Self {
            heads: Arc::new(share(MAX_LONG_HEADS_BYTES)),
            bodies: share(MAX_BODIES_BYTES),
            small_deliveries: share(MAX_SMALL_DELIVERIES_BYTES),
            large_deliveries: share(MAX_LARGE_DELIVERIES_BYTES),
        }
    }
}

impl RequestMemory {
    /// The share for what heads have beyond [`FREE_HEAD_BYTES`].
    pub(super) fn heads(&self) -> Arc<Semaphore> {
        Arc::clone(&self.heads)
    }

    /// Room for a body of so many bytes, until the permit is dropped.
    pub(super) async fn reserve(
        &self,
        endpoint: Endpoint<'_>,
        bytes: usize,
    ) -> Result<SemaphorePermit<'_>, ApiError> {
        let share = match endpoint {
            Endpoint::Webhook if bytes <= SMALL_DELIVERY_BYTES => &self.small_deliveries,
            Endpoint::Webhook => &self.large_deliveries,
            _ => &self.bodies,
        };
        reserve_from(share, bytes, RESERVE_TIMEOUT).await
    }
}

async fn reserve_from(
    share: &Semaphore,
    bytes: usize,
    timeout: Duration,
) -> Result<SemaphorePermit<'_>, ApiError> {
    let permit = tokio::time::timeout(timeout, share.acquire_many(permits(bytes))).await;
    permit.ok().and_then(Result::ok).ok_or_else(ApiError::overloaded)
}

/// The permits for so many bytes, rounded up.
pub(super) fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX)
}

/// The part of a head for which no permit is needed: one buffer of hyper's. Most heads are shorter.
pub(super) const FREE_HEAD_BYTES: usize = 8 * 1024;
/// The largest buffer for a head. Above the 16 KiB of names and values that a head may have, so that the error for a
/// longer one is ours and has a body.
pub(super) const MAX_HEAD_BUFFER: usize = 24 * 1024;
const PERMIT_BYTES: usize = 1024;
const MAX_LONG_HEADS_BYTES: usize = 5 * 1024 * 1024;
const MAX_BODIES_BYTES: usize = 4 * 1024 * 1024;
const MAX_SMALL_DELIVERIES_BYTES: usize = 1024 * 1024;
const MAX_LARGE_DELIVERIES_BYTES: usize = 5 * 1024 * 1024;
const SMALL_DELIVERY_BYTES: usize = 64 * 1024;
/// As long as a body itself may take.
const RESERVE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_memory_stays_below_32_mib() {
        const MAX_CONNECTIONS: usize = 2 * 1024 + 64;
        let heads = MAX_CONNECTIONS * FREE_HEAD_BYTES + MAX_LONG_HEADS_BYTES;
        let deliveries = MAX_SMALL_DELIVERIES_BYTES + MAX_LARGE_DELIVERIES_BYTES;
        assert!(heads + MAX_BODIES_BYTES + deliveries <= 32 * 1024 * 1024);
    }

    #[test]
    fn largest_body_of_each_endpoint_fits_its_share() {
        for (endpoint, share) in
            [(Endpoint::Webhook, MAX_LARGE_DELIVERIES_BYTES), (Endpoint::Reject, MAX_BODIES_BYTES)]
        {
            assert!(endpoint.max_body_bytes() <= share);
        }
    }

    #[tokio::test]
    async fn a_body_beyond_the_share_is_overloaded() {
        let memory = RequestMemory::default();
        let mib = 1024 * 1024;
        let mut held = Vec::new();
        for _ in 0..MAX_LARGE_DELIVERIES_BYTES / mib {
            held.push(memory.reserve(Endpoint::Webhook, mib).await.unwrap());
        }
        let error = reserve_from(&memory.large_deliveries, 1, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!((error.status.as_u16(), error.code.as_str()), (503, "overloaded"));
        assert!(error.retryable && error.retry_after.is_some());
        for endpoint in [Endpoint::Reject, Endpoint::Webhook] {
            assert!(memory.reserve(endpoint, 64 * 1024).await.is_ok());
        }
        drop(held);
        assert!(memory.reserve(Endpoint::Webhook, mib).await.is_ok());
    }
}
