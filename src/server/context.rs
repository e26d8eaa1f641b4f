//! What a handler knows of the request beside its head and body.

use super::reply::{self, ApiError, Format, Reply};
use crate::caller::Caller;
use crate::model::ClientId;
use crate::telemetry::audit::{self, RequestContext};

/// The caller, the id of its request, and the format of the answer.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) request_id: &'a str,
    pub(super) caller: Caller<'a>,
    pub(super) format: Format,
}

impl<'a> Context<'a> {
    /// Whose share of the calls to GitHub the request uses.
    pub(super) fn client(&self) -> ClientId {
        self.caller.client
    }

    /// The request, as the audit trail names it.
    pub(super) fn audited(&self) -> RequestContext<'a> {
        RequestContext { request_id: self.request_id, client: self.caller.name, uid: self.caller.uid }
    }

    /// The answer to a request that fails, which goes into the audit trail.
    pub(super) fn refuse(&self, error: &ApiError) -> Reply {
        self.record(error);
        reply::refused(error, self.format, self.request_id)
    }

    /// Writes an error to the audit trail.
    pub(super) fn record(&self, error: &ApiError) {
        // A line for each would cost more than the call that is saved.
        if error.is_local {
            return;
        }
        audit::refused(
            self.audited(),
            error.requested.as_deref(),
            error.status.as_u16(),
            error.code.as_str(),
        );
    }
}
