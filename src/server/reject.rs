//! `POST /token/reject`: a caller got a 401 with a token that we handed out.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use serde::Deserialize;

use super::reply::{ApiError, Format, Reply, json_object, ok, whole_seconds};
use crate::broker::{Rejection, TokenHash};
use crate::model::Secret;

/// Reads which token is meant.
pub(super) fn read(body: &[u8]) -> Result<TokenHash, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        token: Option<String>,
        token_sha256: Option<String>,
    }
    // The error's own text may quote the body, and the body holds a token.
    let body: Body = json_object(body).ok_or_else(|| ApiError::invalid(SHAPE))?;
    match (body.token.map(Secret::from), body.token_sha256) {
        (Some(token), None) => Ok(TokenHash::of(&token)),
        (None, Some(hash)) => {
            let bytes = STANDARD.decode(&hash).or_else(|_| STANDARD_NO_PAD.decode(&hash));
            let bytes = bytes.ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            bytes.map(TokenHash::new).ok_or_else(|| ApiError::invalid(SHAPE))
        }
        _ => Err(ApiError::invalid(SHAPE)),
    }
}

/// What became of the token.
pub(super) fn answer(rejection: Rejection) -> Reply {
    let outcome = match rejection {
        Rejection::Evicted => "evicted",
        Rejection::Kept(_) => "kept",
        Rejection::Unknown => "unknown",
    };
    let mut reply = ok(Format::Json, format!("{{\"outcome\":\"{outcome}\"}}\n").into());
    *reply.status_mut() = StatusCode::ACCEPTED;
    if let Rejection::Kept(wait) = rejection {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    reply
}

const SHAPE: &str =
    "the body is {\"token\":\"…\"} or {\"token_sha256\":\"BASE64\"}, the SHA-256 of the token";
