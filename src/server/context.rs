//! What a handler knows of the request beside its head and body.

use super::reply::{self, ApiError, Format, Reply};
use crate::caller::Caller;
use crate::model::ClientId;
use crate::telemetry::audit::{self, RequestContext};

/// Who asks, under which id, and which format the answer is to have.
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

    /// The answer to a request that is refused, which is put on record.
    pub(super) fn refuse(&self, error: &ApiError) -> Reply {
        self.record(error);
        reply::refused(error, self.format, self.request_id)
    }

    /// Puts a refusal on record.
    pub(super) fn record(&self, error: &ApiError) {
        // A line for each would cost more than what it was refused.
        if error.is_local {
            return;
        }
        audit::refused(self.audited(), error.asked.as_deref(), error.status.as_u16(), error.code.as_str());
    }
}
