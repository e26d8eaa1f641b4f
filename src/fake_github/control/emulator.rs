//! Operations on the emulator itself: journal, faults, clock, replication lag, the preview, holds.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::context::{ControlContext, ControlError, Outcome, done, found};
use crate::fake_github::clock::iso;
use crate::fake_github::faults::fault::Fault;

/// `GET /journal`
pub(super) fn journal(context: &ControlContext<'_>) -> Outcome {
    Ok(json!(context.state.journal.lock().entries()))
}

/// `GET /counters`
pub(super) fn counters(context: &ControlContext<'_>) -> Outcome {
    Ok(json!(context.state.journal.lock().counters()))
}

/// `POST /reset`
pub(super) fn reset(context: &ControlContext<'_>) -> Outcome {
    context.state.reset();
    done()
}

/// `GET /faults`
pub(super) fn faults(context: &ControlContext<'_>) -> Outcome {
    Ok(json!(context.state.faults.lock().armed()))
}

/// `POST /faults`
pub(super) fn arm_fault(context: &ControlContext<'_>) -> Outcome {
    let fault: Fault = context.body()?;
    fault.check().map_err(ControlError::invalid)?;
    context.state.faults.lock().arm(fault);
    done()
}

/// `DELETE /faults`
pub(super) fn clear_faults(context: &ControlContext<'_>) -> Outcome {
    context.state.faults.lock().clear();
    done()
}

/// `GET /clock`
pub(super) fn clock(context: &ControlContext<'_>) -> Outcome {
    Ok(json!({ "now": iso(context.state.clock.skewed_second()) }))
}

/// `POST /clock`
pub(super) fn set_clock(context: &ControlContext<'_>) -> Outcome {
    let Time { advance_seconds, skew_seconds } = context.body()?;
    if advance_seconds.is_none() && skew_seconds.is_none() {
        return Err(ControlError::invalid("give `advance_seconds` or `skew_seconds`".into()));
    }
    if let Some(seconds) = advance_seconds {
        context.state.clock.advance(Duration::from_secs(seconds));
    }
    if let Some(seconds) = skew_seconds {
        context.state.clock.skew(seconds);
    }
    clock(context)
}

/// `GET /replication`
pub(super) fn replication(context: &ControlContext<'_>) -> Outcome {
    Ok(json!(*context.state.replication.lock()))
}

/// `POST /replication`
pub(super) fn set_replication(context: &ControlContext<'_>) -> Outcome {
    *context.state.replication.lock() = context.body()?;
    done()
}

/// `POST /preview/retire`
pub(super) fn retire_preview(context: &ControlContext<'_>) -> Outcome {
    context.state.retire_preview();
    done()
}

/// `POST /preview/restore`
pub(super) fn restore_preview(context: &ControlContext<'_>) -> Outcome {
    context.state.restore_preview();
    done()
}

/// `GET /holds`
pub(super) fn holds(context: &ControlContext<'_>) -> Outcome {
    let holds = context.state.holds.list();
    Ok(holds.into_iter().map(|(id, held)| json!({ "id": id, "held": held })).collect())
}

/// `POST /holds`
pub(super) fn hold(context: &ControlContext<'_>) -> Outcome {
    let Matching { method, path } = context.body()?;
    Ok(json!({ "id": context.state.holds.hold_by_id(method.as_deref(), path.as_deref()) }))
}

/// `POST /holds/{id}/release`
pub(super) fn release_hold(context: &ControlContext<'_>) -> Outcome {
    let id = context.id()?;
    found(context.state.holds.release(id), "no such hold")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Time {
    advance_seconds: Option<u64>,
    skew_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matching {
    method: Option<String>,
    path: Option<String>,
}
