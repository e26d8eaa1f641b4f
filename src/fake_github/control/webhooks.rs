//! Operations on webhooks.

use serde::Deserialize;
use serde_json::{Value, json};

use super::context::{ControlContext, ControlError, Outcome, done, found};
use crate::fake_github::webhooks::hook::Hook;

/// `POST /webhook`
pub(super) fn set_webhook(context: &ControlContext<'_>) -> Outcome {
    let Target { url, secret } = context.body()?;
    let hook = Hook::new(&url, &secret).map_err(|error| ControlError::invalid(error.to_string()))?;
    context.state.set_webhook(hook);
    done()
}

/// `GET /deliveries`
pub(super) fn deliveries(context: &ControlContext<'_>) -> Outcome {
    Ok(json!(context.state.webhooks.delivered()))
}

/// `POST /deliveries`
pub(super) fn deliver(context: &ControlContext<'_>) -> Outcome {
    let Event { event, payload } = context.body()?;
    let delivery = context.state.signed(&event, payload.to_string().into());
    let id = delivery.as_ref().map(|delivery| delivery.id.clone());
    let queued = delivery.is_some_and(|delivery| context.state.webhooks.deliver(delivery));
    found(queued, "there is no webhook yet").map(|_| json!({ "id": id }))
}

/// `POST /deliveries/{delivery}/redeliver`
pub(super) fn redeliver(context: &ControlContext<'_>) -> Outcome {
    found(context.state.webhooks.redeliver(context.text(0)), "no such delivery")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    url: String,
    secret: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    event: String,
    payload: Value,
}
