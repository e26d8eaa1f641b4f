//! An HTTP answer of GitHub, reduced to what is read of it.

use std::num::IntErrorKind;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, LINK, RETRY_AFTER};
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::failure::{Failure, Kind, classify};
use super::request::on_origin_of;
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

    /// This answer, if it has the status of success that is documented.
    pub(crate) fn expect(&self, status: u16) -> Result<&Self, Failure> {
        match self.status {
            ok if ok == status => Ok(self),
            200..=299 => Err(Failure::new(
                Kind::BadAnswer,
                format!(
                    "{} answered {} where {status} is documented: check github.api_url",
                    self.what, self.status
                ),
            )),
            _ => Err(classify(self)),
        }
    }

    /// The body as JSON of the shape `T`.
    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // The error's own text may quote the body, and the body may hold a token: only its place is told.
            let what = match error.classify() {
                serde_json::error::Category::Data => "the body has not the shape it should have",
                _ => "the body is not JSON",
            };
            let place = format!("{what} (line {}, column {})", error.line(), error.column());
            Failure::bad_answer(self, &place)
        })
    }

    /// A part of the body, as JSON of the shape `T`.
    pub(crate) fn part<'a, T: Deserialize<'a>>(&self, json: &'a RawValue) -> Result<T, Failure> {
        serde_json::from_str(json.get())
            .map_err(|_| Failure::bad_answer(self, "a part of the body has not the shape it should have"))
    }

    /// The body as text, all of it.
    pub(crate) fn text(&self) -> Result<String, Failure> {
        let text = std::str::from_utf8(&self.body);
        text.map(str::to_owned).map_err(|_| Failure::bad_answer(self, "the body is not UTF-8"))
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

    /// How long GitHub asks to be left alone, if it does: `Retry-After` in seconds or as a date, else until the reset.
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
        // No wait at all is no answer to whom GitHub has just sent away.
        let named = named.or_else(reset).filter(|wait| !wait.is_zero());
        named.map(|wait| wait.min(MAX_WAIT))
    }

    /// The page after this one, if `Link` names one on the same origin as `base`.
    pub(crate) fn next_page(&self, base: &Url) -> Result<Option<Url>, Failure> {
        let Some(next) = self.linked("next") else { return Ok(None) };
        let foreign = || Failure::bad_answer(self, "its next page is not on the host of github.api_url");
        on_origin_of(base, next).map(Some).ok_or_else(foreign)
    }

    /// The number of the last page, if `Link` names one.
    pub(crate) fn last_page(&self, base: &Url) -> Option<u64> {
        let last = base.join(self.linked("last")?).ok()?;
        last.query_pairs().find(|(name, _)| name == "page")?.1.parse().ok()
    }

    /// Where `Link` leads by the name of `relation`.
    fn linked(&self, relation: &str) -> Option<&str> {
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

/// No caller is sent away for longer, whatever GitHub says.
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

    #[test]
    fn the_next_page_is_followed_on_the_same_origin_only() {
        let base: Url = "https://ghe.example/api/v3".parse().unwrap();
        let page = |link: &str| Answer { link: Some(link.into()), ..Answer::empty("x") }.next_page(&base);
        let next = page(
            "<https://ghe.example/api/v3/app/installations?page=1>; rel=\"prev\", \
                         <https://ghe.example/api/v3/app/installations?page=3>; rel=\"next\"",
        );
        assert_eq!(next.unwrap().unwrap().query(), Some("page=3"));
        assert_eq!(page("<https://ghe.example/x?page=9>; rel=\"last\"").unwrap(), None);
        assert!(page("<https://evil.example/x>; rel=\"next\"").is_err());
        assert!(page("<http://ghe.example/x>; rel=\"next\"").is_err());
    }

    #[test]
    fn a_malformed_body_is_never_quoted() {
        let answer = Answer { body: "{\"token\": ghs_marker}".into(), ..Answer::empty("x") };
        let failure = answer.json::<serde_json::Value>().unwrap_err();
        assert!(!failure.message.contains("marker"), "{failure}");
    }
}
