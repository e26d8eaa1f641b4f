//! The app JWT: proves that we are the app. Signed once, reused until near its end.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, Header};
use serde::Serialize;

use super::key::Key;
use crate::clock::GithubClock;
use crate::model::Secret;

/// Signs app JWTs for one app and keeps the newest one.
///
/// GitHub's rules: RS256, `iat` a minute back, `exp` at most ten minutes ahead, both by GitHub's clock:
/// <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app>.
#[derive(Debug)]
pub(crate) struct AppJwt {
    issuer: Issuer,
    key: Key,
    current: Mutex<Option<Signed>>,
}

/// An app JWT.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) jwt: Secret,
    /// By GitHub's clock as known when it was signed.
    at: Timestamp,
}

impl Signed {
    /// Whether GitHub would accept it at `now`, by its clock as known by then.
    pub(crate) fn is_usable(&self, now: Timestamp) -> bool {
        is_usable(self.at, now)
    }
}

/// A client id is a string; an app id is a number, which older GitHub Enterprise Servers insist on.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum Issuer {
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
    pub(crate) fn new(id: &str, key: Key) -> Self {
        let issuer = id.parse().map_or_else(|_| Issuer::ClientId(id.to_owned()), Issuer::AppId);
        Self { issuer, key, current: Mutex::new(None) }
    }

    /// The key that signs.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// A JWT that GitHub accepts for some minutes more. `None` if the key cannot sign, which its test at load excludes.
    pub(crate) fn get(&self, github: &GithubClock) -> Option<Signed> {
        let now = github.now();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signed) = current.as_ref().filter(|signed| signed.is_usable(now)) {
            return Some(signed.clone());
        }
        let signed = Signed { jwt: self.sign(now)?, at: now };
        *current = Some(signed.clone());
        Some(signed)
    }

    fn sign(&self, now: Timestamp) -> Option<Secret> {
        let claims = Claims {
            iat: now.as_second() - BACKDATED.as_secs() as i64,
            exp: now.as_second() + LIFETIME.as_secs() as i64,
            iss: &self.issuer,
        };
        let jwt = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, self.key.signer());
        jwt.ok().map(Secret::from)
    }
}

/// Whether a JWT signed at `at` is still accepted at `now`. One that seems to come from the future was signed before
/// GitHub's clock was known, and is refused.
fn is_usable(at: Timestamp, now: Timestamp) -> bool {
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
    fn a_jwt_is_reused_until_a_minute_before_its_end() {
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        for (age, usable) in [(0, true), (479, true), (480, false), (600, false), (-59, true), (-60, false)] {
            assert_eq!(is_usable(at, at + SignedDuration::from_secs(age)), usable, "{age}");
        }
    }

    #[test]
    fn digits_are_an_app_id_and_anything_else_a_client_id() {
        let json = |id: &str| {
            serde_json::to_string(&id.parse().map_or(Issuer::ClientId(id.into()), Issuer::AppId)).unwrap()
        };
        assert_eq!((json("1001").as_str(), json("Iv1.ab").as_str()), ("1001", "\"Iv1.ab\""));
    }
}
