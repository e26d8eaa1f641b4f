//! The one place where outcomes become HTTP answers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, SERVER,
};
use hyper::{Response, StatusCode};

use crate::api;
use crate::broker::{self, FailureOrigin as Origin};
use crate::model::{ErrorCode, redact};
use crate::telemetry::audit::Requested;

/// An answer on its way out.
pub(super) type Reply = Response<Full<Bytes>>;

/// A request that gets no token: status, code and sentence as CONTRACT and the manual list them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: ErrorCode,
    pub(super) message: String,
    /// Whether the same request may succeed later.
    pub(super) retryable: bool,
    pub(super) retry_after: Option<Duration>,
    /// The methods that would do, for a 405.
    pub(super) allow: Option<&'static str>,
    /// What the request asked for, for the audit trail.
    pub(super) requested: Option<Box<Requested>>,
    /// Whether no call was made, by the negative cache or by a limit: such errors are only counted.
    pub(super) is_local: bool,
}

impl ApiError {
    /// With the usual status of `code`.
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let usual = code.statuses().first().and_then(|status| StatusCode::from_u16(*status).ok());
        Self::with_status(usual.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), code, message)
    }

    /// With one of the other statuses of `code`.
    pub(super) fn with_status(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        debug_assert!(code.statuses().contains(&status.as_u16()), "{status} {code:?}");
        Self {
            status,
            code,
            message: message.into(),
            retryable: code.is_retryable(),
            retry_after: code.is_retryable().then_some(DEFAULT_WAIT),
            allow: None,
            requested: None,
            is_local: false,
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::CallerForbidden, message)
    }

    pub(super) fn overloaded() -> Self {
        let message = "too many bodies are on their way at the same time: send this one again later";
        Self::new(ErrorCode::Overloaded, message)
    }

    pub(super) fn deadline_exceeded() -> Self {
        let message =
            "deadline exceeded while waiting for GitHub: the request continues in the background, try again";
        Self::new(ErrorCode::GithubTimeout, message)
    }
}

impl From<broker::Error> for ApiError {
    fn from(error: broker::Error) -> Self {
        use broker::Error;
        let message = error.to_string();
        match error {
            Error::SelectorNeeded(_) | Error::AppNeeded(_) | Error::MinTtlTooLong(_) => {
                Self::invalid(message)
            }
            Error::MinTtlUnavailable { because, .. } => Self { message, ..Self::from(*because) },
            Error::UnknownInstallation(_) => Self::new(ErrorCode::UnknownInstallation, message),
            Error::UnknownApp(_) => Self::new(ErrorCode::UnknownApp, message),
            // The next request tries again at once: it is no matter of time.
            Error::Internal => Self { retry_after: None, ..Self::new(ErrorCode::Internal, message) },
            Error::InvalidatedWhileMinting => Self::new(ErrorCode::GithubUnavailable, message),
            Error::ShuttingDown => Self::new(ErrorCode::ShuttingDown, message),
            Error::Github(failure) => {
                let error = Self::new(failure.kind.code(), message);
                let retry_after = error.retry_after.map(|usual| failure.retry_after.unwrap_or(usual));
                Self { retry_after, is_local: failure.origin == Origin::Local, ..error }
            }
        }
    }
}

/// How the caller wants a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Text,
}

/// An error, in the format that the caller asked for.
pub(super) fn refused(error: &ApiError, format: Format, request_id: &str) -> Reply {
    // A token that a caller has put in the wrong place is not quoted.
    let message = redact(&error.message);
    let body = match format {
        Format::Text => format!("{}: {message}\n", error.code.as_str()),
        Format::Json => {
            let body = api::Error {
                message: message.into_owned(),
                documentation_url: DOCUMENTATION.to_owned(),
                status: error.status.as_str().to_owned(),
                code: error.code.as_str().to_owned(),
                retryable: error.retryable,
                request_id: request_id.to_owned(),
            };
            serde_json::to_string(&body).unwrap_or_default() + "\n"
        }
    };
    let mut reply = ok(format, body.into());
    *reply.status_mut() = error.status;
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    if let Some(after) = error.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
    }
    if let Some(allow) = error.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    reply
}

/// A body that is a JSON object of the shape `T`. serde takes an array for a struct too; no caller means one.
pub(super) fn json_object<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    body.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(body).ok()).flatten()
}

/// A wait in whole seconds for `Retry-After`: rounded up, and 1 at least.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1)
}

/// A `200` with this body.
pub(super) fn ok(format: Format, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    let content_type = match format {
        Format::Json => "application/json",
        Format::Text => "text/plain; charset=utf-8",
    };
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// An answer of this status whose body is JSON that nobody may keep.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = ok(Format::Json, body.into());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    reply
}

/// What every answer carries, whatever it is.
pub(super) fn add_common_headers(reply: &mut Reply, request_id: &str) {
    let headers = reply.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static(concat!("ghtokend/", env!("CARGO_PKG_VERSION"))));
    headers.insert(NOSNIFF.0, NOSNIFF.1);
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
}

/// Announces that this is the last answer of its connection.
pub(super) fn close(reply: &mut Reply) {
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A browser that reads an answer all the same does not take it for a page.
const NOSNIFF: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
const DOCUMENTATION: &str =
    concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/HEAD/src/guide/operations.md#errors");
/// For failures that name no time of their own.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
