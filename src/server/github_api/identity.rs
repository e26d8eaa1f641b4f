//! `POST /integration/identity/user`: the user who brings a nonce.

use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::broker::{self, Kind};
use crate::model::{ErrorCode, Identity, Secret};
use crate::server::reply::{ApiError, Reply, json, json_object};

/// The nonce in the body of `POST /integration/identity/user`.
pub(super) fn read_nonce(body: &Bytes) -> Result<Secret, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        nonce: String,
    }
    // The error's own text may quote the body, and the body holds the nonce.
    match json_object::<Body>(body) {
        Some(Body { nonce }) if !nonce.is_empty() => Ok(Secret::from(nonce)),
        _ => {
            let message =
                "Validation Failed: the body is {\"nonce\":\"…\"}, the nonce that GitHub sent the user with";
            Err(ApiError::with_status(StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::InvalidRequest, message))
        }
    }
}

/// The user, as GitHub describes it.
pub(super) fn reply(identity: &Identity) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Body<'a> {
        user: &'a RawValue,
        repositories_url: &'a str,
    }
    let user = serde_json::from_str(&identity.user.json);
    let body = user
        .and_then(|user| serde_json::to_vec(&Body { user, repositories_url: &identity.repositories_url }));
    let body = body.map_err(|_| ApiError::from(broker::Error::Internal))?;
    Ok(json(StatusCode::OK, body))
}

/// Why there is no identity. No error is retryable: GitHub takes a nonce once.
pub(super) fn identity_error(error: broker::Error) -> ApiError {
    let unknown_nonce = matches!(&error, broker::Error::Github(failure)
        if matches!(failure.kind, Kind::NotFound | Kind::ScopeRefused));
    let error = match unknown_nonce {
        true => ApiError::new(ErrorCode::NotFound, error.to_string()),
        false => error.into(),
    };
    ApiError { retryable: false, ..error }
}
