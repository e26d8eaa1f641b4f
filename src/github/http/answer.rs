//! An HTTP answer of GitHub, reduced to what is read of it.

use std::num::IntErrorKind;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, LINK, RETRY_AFTER};
use serde::Deserialize;
use url::Url;

use crate::clock::BootTime;
use crate::model::{cut_before_redaction, redact};

/// Status, the headers that matter, and the body.
#[derive(Clone)]
pub struct Answer {
    /// What was asked, for messages: "minting a token".
    pub what: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// GitHub's own clock when it answered.
    pub date: Option<Timestamp>,
    /// When its head arrived, which is when `date` was true.
    pub head_at: Option<BootTime>,
    /// `Link`
    pub link: Option<String>,
    /// `Retry-After`
    pub retry_after: Option<String>,
    /// `x-ratelimit-remaining`
    pub remaining: Option<String>,
    /// `x-ratelimit-reset`, in seconds since 1970
    pub reset: Option<String>,
    /// `x-github-request-id`, which GitHub's support asks for.
    pub request_id: Option<String>,
    /// The body, whole.
    pub body: Bytes,
}

impl Answer {
    /// The answer to a request that is called `what` in messages.
    pub fn read(what: &'static str, status: u16, headers: &HeaderMap, body: Bytes) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self {
            what,
            status,
            date: date(headers),
            head_at: None,
            link: text(LINK.as_str()),
            retry_after: text(RETRY_AFTER.as_str()),
            remaining: text("x-ratelimit-remaining"),
            reset: text("x-ratelimit-reset"),
            request_id: text("x-github-request-id").map(|id| plain(&id)),
            body,
        }
    }

    /// What GitHub says went wrong, as ` "…"`; empty if it says nothing in its documented form.
    pub(crate) fn message(&self) -> String {
        #[derive(Deserialize)]
        struct Error {
            message: String,
        }
        match serde_json::from_slice::<Error>(&self.body) {
            Ok(error) => format!(" \"{}\"", plain(&error.message)),
            Err(_) => String::new(),
        }
    }

    /// Whether its headers say that a limit was hit.
    pub(crate) fn is_limited(&self) -> bool {
        self.retry_after.is_some() || self.remaining.as_deref() == Some("0")
    }

    /// How long GitHub asks clients to wait, if it does: `Retry-After` in seconds or as a date, else until the reset.
    ///
    /// <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit>
    pub(crate) fn named_wait(&self) -> Option<Duration> {
        let until = |at: Timestamp| {
            let now = self.date?;
            Duration::try_from(at.duration_since(now)).ok()
        };
        let named = self.retry_after.as_deref().and_then(|value| match value.trim().parse::<u64>() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(error) if *error.kind() == IntErrorKind::PosOverflow => Some(Duration::MAX),
            Err(_) => http_date(value).and_then(until),
        });
        let reset = || {
            let at = self.reset.as_deref().filter(|_| self.remaining.as_deref() == Some("0"))?;
            until(Timestamp::from_second(at.trim().parse().ok()?).ok()?)
        };
        // A wait of zero after a refusal makes no sense.
        let named = named.or_else(reset).filter(|wait| !wait.is_zero());
        named.map(|wait| wait.min(MAX_WAIT))
    }

    /// The number of the last page, if `Link` names one.
    pub(crate) fn last_page(&self, base: &Url) -> Option<u64> {
        let last = base.join(self.linked("last")?).ok()?;
        last.query_pairs().find(|(name, _)| name == "page")?.1.parse().ok()
    }

    /// Where `Link` leads by the name of `relation`.
    pub(super) fn linked(&self, relation: &str) -> Option<&str> {
        self.link.as_deref()?.split(',').find_map(|part| {
            let (target, parameters) = part.trim().strip_prefix('<')?.split_once('>')?;
            let named = |parameter: &str| {
                let value = parameter.trim().strip_prefix("rel=");
                value.is_some_and(|value| value.trim_matches('"') == relation)
            };
            parameters.split(';').any(named).then_some(target)
        })
    }

    #[cfg(test)]
    pub(crate) fn empty(what: &'static str) -> Self {
        Self::read(what, 200, &HeaderMap::new(), Bytes::new())
    }
}

/// GitHub's own clock when it answered.
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    headers.get(DATE)?.to_str().ok().and_then(http_date)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|date| date.timestamp())
}

/// Text of the upstream, fit for one line of ours: without control characters and secrets, and cut. More than is quoted is
/// looked through for secrets, so that none is quoted of which the end is cut off.
fn plain(text: &str) -> String {
    let text: String = cut_before_redaction(text, MAX_REDACTED).chars().filter(|c| !c.is_control()).collect();
    redact(&text).chars().take(MAX_QUOTE_CHARS).collect()
}

/// Upper bound of a wait that GitHub names.
const MAX_WAIT: Duration = Duration::from_secs(3600);
const MAX_QUOTE_CHARS: usize = 300;
const MAX_REDACTED: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(retry_after: Option<&str>, remaining: Option<&str>, reset: Option<&str>) -> Option<u64> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let date = http_date("Sun, 22 Nov 2026 10:00:00 GMT");
        let (retry_after, remaining, reset) = (own(retry_after), own(remaining), own(reset));
        let answer = Answer { date, retry_after, remaining, reset, ..Answer::empty("x") };
        answer.named_wait().map(|wait| wait.as_secs())
    }

    #[test]
    fn retry_after_of_github_is_clamped() {
        assert_eq!(limited(Some("30"), None, None), Some(30));
        assert_eq!(limited(Some("Sun, 22 Nov 2026 10:02:00 GMT"), None, None), Some(120));
        for huge in ["3601", "999999999", "99999999999999999999999999"] {
            assert_eq!(limited(Some(huge), None, None), Some(3600), "{huge}");
        }
        for rubbish in ["0", "-5", "soon", "", "1e9", "Sun, 22 Nov 2026 09:00:00 GMT"] {
            assert_eq!(limited(Some(rubbish), None, None), None, "{rubbish}");
        }
        let reset = (http_date("Sun, 22 Nov 2026 10:00:40 GMT").unwrap().as_second()).to_string();
        assert_eq!(limited(None, Some("0"), Some(&reset)), Some(40));
        assert_eq!(limited(None, Some("5"), Some(&reset)), None);
        assert_eq!(limited(None, None, None), None);
    }
}
