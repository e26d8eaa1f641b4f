//! The app JWT: proves that we are the app. Reused until near its end.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, Header};
use serde::Serialize;

use super::signer::{SignError, Signer};
use crate::model::Secret;

/// An app JWT.
///
/// GitHub's rules: RS256, `iat` a minute back, `exp` at most ten minutes ahead, both by GitHub's clock:
/// <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app>.
#[derive(Debug, Clone)]
pub(crate) struct AppJwt {
    pub(crate) secret: Secret,
    signer: Arc<dyn Signer>,
    /// By GitHub's clock as known when it was signed.
    issued_at: Timestamp,
}

/// A client id is a string; an app id is a number, which older GitHub Enterprise Servers insist on.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum Issuer {
    AppId(u64),
    ClientId(String),
}

#[derive(Serialize)]
struct Claims<'a> {
    iat: i64,
    exp: i64,
    iss: &'a Issuer,
}

impl AppJwt {
    /// Signed by `signer`, issued at `now` of GitHub's clock.
    pub(crate) async fn sign(
        issuer: Issuer,
        signer: Arc<dyn Signer>,
        now: Timestamp,
    ) -> Result<Self, SignError> {
        let claims = Claims {
            iat: now.as_second() - BACKDATED.as_secs() as i64,
            exp: now.as_second() + LIFETIME.as_secs() as i64,
            iss: &issuer,
        };
        let message = format!("{}.{}", encode(&Header::new(Algorithm::RS256))?, encode(&claims)?);
        let signature = URL_SAFE_NO_PAD.encode(signer.sign(message.as_bytes()).await?);
        Ok(Self { secret: format!("{message}.{signature}").into(), signer, issued_at: now })
    }

    /// Whether GitHub would accept its times at `now`, by its clock as known by then.
    pub(crate) fn is_usable(&self, now: Timestamp) -> bool {
        is_usable(self.issued_at, now)
    }

    /// That of the key it was signed with.
    pub(crate) fn fingerprint(&self) -> &str {
        self.signer.fingerprint()
    }
}

impl Issuer {
    pub(crate) fn new(id: &str) -> Self {
        id.parse().map_or_else(|_| Self::ClientId(id.to_owned()), Self::AppId)
    }
}

fn encode(part: &impl Serialize) -> Result<String, SignError> {
    serde_json::to_vec(part).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|error| SignError::new(&error))
}

/// Whether a JWT issued at `at` is still accepted at `now`. One that seems to come from the future was signed before
/// GitHub's clock was known, and is rejected.
pub(crate) fn is_usable(at: Timestamp, now: Timestamp) -> bool {
    let age = now.duration_since(at);
    let oldest = SignedDuration::try_from(LIFETIME - RESIGN_BEFORE).unwrap_or(SignedDuration::ZERO);
    -SignedDuration::from_secs(BACKDATED.as_secs() as i64) < age && age < oldest
}

/// GitHub allows ten minutes; the difference is for clocks that disagree.
const LIFETIME: Duration = Duration::from_secs(9 * 60);
const BACKDATED: Duration = Duration::from_secs(60);
/// Left for the longest request.
const RESIGN_BEFORE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jwt_is_reused_until_a_minute_before_its_end() {
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        for (age, usable) in [(0, true), (479, true), (480, false), (600, false), (-59, true), (-60, false)] {
            assert_eq!(is_usable(at, at + SignedDuration::from_secs(age)), usable, "{age}");
        }
    }

    #[test]
    fn issuer_of_digits_is_an_app_id_else_a_client_id() {
        let json = |id: &str| serde_json::to_string(&Issuer::new(id)).unwrap();
        assert_eq!((json("1001").as_str(), json("Iv1.ab").as_str()), ("1001", "\"Iv1.ab\""));
    }
}
