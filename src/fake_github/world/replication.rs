//! Replication lag: for a while after a token was minted, GitHub's replicas do not know it.

use serde::{Deserialize, Serialize};

use crate::fake_github::clock::Millis;

/// The replication lag, and the response to new tokens meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replication {
    /// For how many milliseconds after it was minted a token is refused. Default 0.
    pub lag_ms: u64,
    /// How it is refused meanwhile. Default [`LagResponse::Unauthorized`].
    #[serde(default)]
    pub status: LagResponse,
}

/// The responses that clients have seen for new tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum LagResponse {
    /// `401 Bad credentials`: the token is not there yet.
    #[default]
    Unauthorized,
    /// `403 Resource not accessible by integration`: its permissions are not there yet.
    Forbidden,
    /// `404 Not Found`: its repositories are not there yet.
    NotFound,
}

impl TryFrom<u16> for LagResponse {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, String> {
        match status {
            401 => Ok(Self::Unauthorized),
            403 => Ok(Self::Forbidden),
            404 => Ok(Self::NotFound),
            other => Err(format!("`status` is {other}; allowed: 401, 403, 404")),
        }
    }
}

impl From<LagResponse> for u16 {
    fn from(status: LagResponse) -> Self {
        match status {
            LagResponse::Unauthorized => 401,
            LagResponse::Forbidden => 403,
            LagResponse::NotFound => 404,
        }
    }
}

impl Replication {
    /// How the use at `now` of a token that was minted at `created` is refused, if it is.
    pub(crate) fn refusal(self, created: Millis, now: Millis) -> Option<LagResponse> {
        let lag = Millis::try_from(self.lag_ms).unwrap_or(Millis::MAX);
        (now < created.saturating_add(lag)).then_some(self.status)
    }
}
