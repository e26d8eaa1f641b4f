//! What handlers of the control endpoint know about a request, and what they return.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::json;
use crate::fake_github::state::State;
use crate::fake_github::wire::request::Request;

/// A handler of the control endpoint.
pub(super) type Handler = fn(&ControlContext<'_>) -> Outcome;

/// What a handler returns: the JSON of the response, or why there is none.
pub(super) type Outcome = Result<Value, ControlError>;

/// The argument of every handler.
pub(super) struct ControlContext<'a> {
    pub(super) state: &'a State,
    pub(super) request: &'a Request,
    /// The values of the path's parameters.
    pub(super) parameters: Vec<&'a str>,
}

/// Why a request was refused.
pub(super) struct ControlError {
    pub(super) status: u16,
    pub(super) message: String,
}

impl<'a> ControlContext<'a> {
    /// The `n`th path parameter; empty if there is none.
    pub(super) fn text(&self, n: usize) -> &'a str {
        self.parameters.get(n).copied().unwrap_or_default()
    }

    /// The first path parameter, which must be an id.
    pub(super) fn id(&self) -> Result<u64, ControlError> {
        let text = self.text(0);
        text.parse().map_err(|_| {
            ControlError::invalid(format!("`{text}` in the path must be an id, which is a number"))
        })
    }

    /// The body; an empty one is `{}`.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, ControlError> {
        json::parse(self.request.body.as_deref().unwrap_or_default()).map_err(ControlError::invalid)
    }
}

impl ControlError {
    pub(super) fn not_found(message: &str) -> Self {
        Self { status: 404, message: message.into() }
    }

    pub(super) fn invalid(message: String) -> Self {
        Self { status: 400, message }
    }
}

/// The response to an operation that returns nothing.
pub(super) fn done() -> Outcome {
    Ok(json!({ "ok": true }))
}

/// [`done`] if the operation found its object, else 404 with `otherwise`.
pub(super) fn found(known: bool, otherwise: &str) -> Outcome {
    if known { done() } else { Err(ControlError::not_found(otherwise)) }
}
