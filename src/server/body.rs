//! The body of a request: checked before it is read, read into memory that was reserved for it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderMap, TRANSFER_ENCODING};
use tokio::sync::SemaphorePermit;

use super::memory::RequestMemory;
use super::reply::ApiError;
use super::route::Endpoint;
use crate::model::ErrorCode;

/// A body on its way.
pub(super) struct RequestBody {
    incoming: Incoming,
    is_read: bool,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming) -> Self {
        let is_read = incoming.is_end_stream();
        Self { incoming, is_read }
    }

    /// Whether it has come to its end.
    pub(super) fn is_read(&self) -> bool {
        self.is_read
    }

    /// Refuses a body that is too large, or that an endpoint has no use for. hyper drops `Content-Length` where it stands
    /// beside `Transfer-Encoding`, a pair that two servers may read differently, and closes the connection after the
    /// answer: nothing behind it is taken for a request (request smuggling).
    pub(super) fn check(&self, endpoint: Endpoint<'_>, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.incoming.size_hint().lower() > endpoint.max_body_bytes() as u64 {
            return Err(too_large(endpoint.max_body_bytes()));
        }
        if !endpoint.takes_body() && (!self.is_read || headers.contains_key(TRANSFER_ENCODING)) {
            return Err(ApiError::invalid(
                "a GET or DELETE here has no body: send parameters in path and query",
            ));
        }
        Ok(())
    }

    /// All of it, and its share of the memory, to be kept for as long as anything that was read from it. A body of
    /// unknown length reserves the most that `endpoint` takes.
    pub(super) async fn read<'m>(
        &mut self,
        endpoint: Endpoint<'_>,
        memory: &'m RequestMemory,
    ) -> Result<(Bytes, Option<SemaphorePermit<'m>>), ApiError> {
        if self.is_read || !endpoint.takes_body() {
            return Ok((Bytes::new(), None));
        }
        let largest = endpoint.max_body_bytes();
        let length = self.incoming.size_hint().upper();
        let length = length.and_then(|length| length.try_into().ok()).unwrap_or(largest);
        let permit = memory.reserve(endpoint, length).await?;
        let read = tokio::time::timeout(BODY_TIMEOUT, self.collect(length, largest)).await;
        let bytes = read.unwrap_or_else(|_| Err(not_whole()))?;
        Ok((bytes, Some(permit)))
    }

    /// Into one piece: chunks that are put together at the end would be held twice.
    async fn collect(&mut self, length: usize, largest: usize) -> Result<Bytes, ApiError> {
        let mut collected = Vec::with_capacity(length);
        while let Some(frame) = self.incoming.frame().await {
            let Ok(data) = frame.map_err(|_| not_whole())?.into_data() else { continue };
            if collected.len() + data.len() > largest {
                return Err(too_large(largest));
            }
            collected.extend_from_slice(&data);
        }
        self.is_read = true;
        Ok(collected.into())
    }
}

fn not_whole() -> ApiError {
    ApiError::invalid("the body did not arrive whole")
}

fn too_large(largest: usize) -> ApiError {
    let message = format!("the body is over {} KiB, which is more than is taken here", largest / 1024);
    ApiError::new(ErrorCode::TooLarge, message)
}

const BODY_TIMEOUT: Duration = Duration::from_secs(5);
