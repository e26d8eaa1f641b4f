//! `POST /webhook`: GitHub's deliveries, from an ingress or from a bot that passes on what it receives.
//!
//! They come from outside the machine, so none of the guards would let them in, and none would prove anything. What
//! proves them is GitHub's signature over the body, and nothing is done before it has.

use hyper::StatusCode;
use hyper::header::HeaderMap;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::reply::{ApiError, Format, Reply, ok};
use super::route::not_found;
use crate::broker::webhook::{self, Secrets};
use crate::broker::{Broker, EventOutcome};

/// Takes deliveries.
pub(super) struct Webhook {
    secrets: watch::Sender<Secrets>,
    in_flight: Semaphore,
}

impl Webhook {
    pub(super) fn new(secrets: Secrets) -> Self {
        Self { secrets: watch::Sender::new(secrets), in_flight: Semaphore::new(MAX_DELIVERIES) }
    }

    pub(super) fn secrets(&self) -> watch::Sender<Secrets> {
        self.secrets.clone()
    }

    /// Admits a delivery, before its body is read. Its sender is not authenticated yet and may never send the end, and must
    /// not take every place of the listener for health meanwhile.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<SemaphorePermit<'_>, ApiError> {
        if !headers.contains_key(SIGNATURE) {
            return Err(ApiError::forbidden(
                "X-Hub-Signature-256 is missing: set a secret in the app's webhook settings, and pass GitHub's headers \
                 on with its deliveries",
            ));
        }
        self.in_flight.try_acquire().map_err(|_| ApiError::overloaded())
    }

    /// Applies a delivery, if GitHub has signed it.
    pub(super) fn receive(
        &self,
        broker: &Broker,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Reply, ApiError> {
        let signature = headers.get(SIGNATURE).map(|value| value.as_bytes()).unwrap_or_default();
        if !self.secrets.borrow().verify_signature(body, signature) {
            return Err(ApiError::forbidden(
                "X-Hub-Signature-256 was not made of this body with the secret in webhook.secret_file: compare it with \
                 the app's webhook settings, and pass the body on byte for byte",
            ));
        }
        let event = header(headers, EVENT)?;
        let delivery = header(headers, DELIVERY)?;
        let event = webhook::read(event, body).map_err(|problem| {
            ApiError::invalid(format!("this delivery of event {event} is not understood: {problem}"))
        })?;
        let outcome = match event.map(|event| broker.handle_event(delivery, &event)) {
            Some(EventOutcome::Applied) => "applied",
            Some(EventOutcome::Duplicate) => "duplicate",
            None => "ignored",
        };
        let mut reply = ok(Format::Json, format!("{{\"outcome\":\"{outcome}\"}}\n").into());
        *reply.status_mut() = StatusCode::ACCEPTED;
        Ok(reply)
    }
}

/// The answer where no deliveries are taken.
pub(super) fn not_configured() -> ApiError {
    not_found("webhook deliveries are not taken: webhook.secret_file is not configured")
}

/// The value of a header that every delivery has.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, ApiError> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.filter(|value| (1..=MAX_VALUE_LENGTH).contains(&value.len())).ok_or_else(|| {
        ApiError::invalid(format!(
            "{name} is missing or no header of GitHub's: pass its headers on with its deliveries"
        ))
    })
}

const SIGNATURE: &str = "x-hub-signature-256";
const EVENT: &str = "x-github-event";
const DELIVERY: &str = "x-github-delivery";
/// A delivery's id has 36 characters.
const MAX_VALUE_LENGTH: usize = 128;
/// At a time: half of the places of the listener for health.
const MAX_DELIVERIES: usize = 32;
