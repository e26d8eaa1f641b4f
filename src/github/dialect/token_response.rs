//! What both dialects demand of a token that has just been minted. Neither its length nor its shape is looked at beyond
//! what keeps it from breaking a header.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::github::failure::Failure;
use crate::github::http::answer::Answer;
use crate::model::Secret;

/// The token itself, if a header can carry it.
pub(crate) fn parse_token(answer: &Answer, token: String) -> Result<Secret, Failure> {
    let secret = Secret::from(token);
    let text = secret.expose();
    if (1..=MAX_TOKEN_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(secret);
    }
    Err(answer.distrusted("its token is empty, over 8 KiB, or not plain ASCII"))
}

/// The end of its life.
pub(crate) fn parse_expires_at(answer: &Answer, expires_at: &str) -> Result<Timestamp, Failure> {
    expires_at.parse().map_err(|_| answer.distrusted("its expires_at is not a date"))
}

/// How long a token lives that expires at `expires` and was handed out at `now`, both by GitHub's clock.
pub(crate) fn token_lifetime(
    answer: &Answer,
    expires: Timestamp,
    now: Timestamp,
) -> Result<Duration, Failure> {
    let lifetime = expires.duration_since(now);
    if !(MIN_LIFETIME..=MAX_LIFETIME).contains(&lifetime) {
        let what = format!("its token would live {lifetime:#}, and only 2 s to 24 h are believed");
        return Err(answer.distrusted(&what));
    }
    Duration::try_from(lifetime).map_err(|_| answer.distrusted("its token has expired"))
}

/// GitHub's stateless tokens are some 520 bytes long; nothing says that they stay so.
const MAX_TOKEN_LENGTH: usize = 8 * 1024;
const MIN_LIFETIME: SignedDuration = SignedDuration::from_secs(2);
const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer { status: 201, ..Answer::empty("minting a token") }
    }

    #[test]
    fn tokens_that_would_break_a_header_or_a_buffer_are_refused() {
        for (token, ok) in [("ghs_x", true), ("", false), ("a b", false), ("a\nb", false), ("ä", false)] {
            assert_eq!(parse_token(&answer(), token.to_owned()).is_ok(), ok, "{token:?}");
        }
        assert!(parse_token(&answer(), "x".repeat(8192)).is_ok());
        assert!(parse_token(&answer(), "x".repeat(8193)).is_err());
    }

    #[test]
    fn expires_at_parses_with_fraction_or_offset() {
        let read = |at: &str| parse_expires_at(&answer(), at);
        let expected = "2026-11-22T10:00:00Z".parse::<Timestamp>().unwrap();
        for at in ["2026-11-22T10:00:00Z", "2026-11-22T12:00:00+02:00", "2026-11-22T10:00:00.000Z"] {
            assert_eq!(read(at), Ok(expected), "{at}");
        }
        for at in ["", "soon", "1795341600", "2026-11-22"] {
            assert!(read(at).is_err(), "{at}");
        }
    }

    #[test]
    fn only_lifetimes_from_two_seconds_to_a_day_are_believed() {
        let now = "2026-11-22T10:00:00Z".parse::<Timestamp>().unwrap();
        for (seconds, ok) in
            [(-1, false), (0, false), (1, false), (2, true), (3600, true), (86_400, true), (86_401, false)]
        {
            let expires = now + SignedDuration::from_secs(seconds);
            assert_eq!(token_lifetime(&answer(), expires, now).is_ok(), ok, "{seconds}");
        }
    }
}
