//! Reads an answer: as what it should be, or as the failure that it is. Pure.

use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::answer::Answer;
use super::request::on_origin_of;
use crate::github::failure::{Failure, Kind};
use crate::model::redact;

impl Answer {
    /// This answer, if it has the status of success that is documented.
    pub(crate) fn expect(&self, status: u16) -> Result<&Self, Failure> {
        match self.status {
            ok if ok == status => Ok(self),
            200..=299 => Err(Failure::new(
                Kind::BadAnswer,
                format!(
                    "GitHub returned {} when {}, where {status} is documented: check github.api_url",
                    self.status, self.what
                ),
            )),
            _ => Err(classify(self)),
        }
    }

    /// The body as JSON of the shape `T`.
    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // The error's own text may quote the body, and the body may hold a token: only the position is reported.
            let what = match error.classify() {
                serde_json::error::Category::Data => "the body has an unexpected JSON structure",
                _ => "the body is not JSON",
            };
            let place = format!("{what} (line {}, column {})", error.line(), error.column());
            self.distrusted(&place)
        })
    }

    /// A part of the body, as JSON of the shape `T`.
    pub(crate) fn part<'a, T: Deserialize<'a>>(&self, json: &'a RawValue) -> Result<T, Failure> {
        serde_json::from_str(json.get())
            .map_err(|_| self.distrusted("a part of the body has an unexpected JSON structure"))
    }

    /// The body as text, all of it.
    pub(crate) fn text(&self) -> Result<String, Failure> {
        let text = std::str::from_utf8(&self.body);
        text.map(str::to_owned).map_err(|_| self.distrusted("the body is not UTF-8"))
    }

    /// The page after this one, if `Link` names one on the same origin as `base`.
    pub(crate) fn next_page(&self, base: &Url) -> Result<Option<Url>, Failure> {
        let Some(next) = self.linked("next") else { return Ok(None) };
        let foreign = || self.distrusted("its next page is not on the host of github.api_url");
        on_origin_of(base, next).map(Some).ok_or_else(foreign)
    }

    /// The failure of an answer that came but is not trusted: `what` says why.
    pub(crate) fn distrusted(&self, what: &str) -> Failure {
        let message =
            format!("GitHub returned {} when {}, but {what}{}", self.status, self.what, trace(self));
        Failure::new(Kind::BadAnswer, message)
    }
}

/// Reads an answer that is not the success it should be.
///
/// Statuses come first, texts decide only where GitHub uses one status for several things:
/// <https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api>.
pub(crate) fn classify(answer: &Answer) -> Failure {
    failure_of_kind(classify_status(answer, &answer.message()), answer)
}

/// The failure of a class that a caller has found out by what it asked for.
pub(crate) fn failure_of_kind(kind: Kind, answer: &Answer) -> Failure {
    let said = answer.message();
    let advice = match kind {
        Kind::Forbidden => {
            "GitHub refuses the app from here: see what it says, and ask an owner of the account"
        }
        Kind::Moved => {
            "redirects are not followed, since they could carry the app JWT away: check github.api_url"
        }
        Kind::ScopeRefused if said.contains("repositor") => {
            "check the names; it often means that another installation is the right one, which repo=OWNER/NAME finds"
        }
        kind => kind.code().advice(),
    };
    let message =
        format!("GitHub returned {}{said} when {}: {advice}{}", answer.status, answer.what, trace(answer));
    let retry_after = match kind {
        Kind::RateLimited | Kind::Unavailable => answer.named_wait(),
        _ => None,
    };
    Failure { retry_after, ..Failure::new(kind, message) }
}

/// Whether a 401 is about the key: GitHub says this of signatures by a key that it does not know for the app, and other
/// things of an unknown app and of wrong times, with which another key would fare no better.
pub(crate) fn refuses_key(answer: &Answer) -> bool {
    answer.status == 401 && answer.message().contains("could not be decoded")
}

fn classify_status(answer: &Answer, said: &str) -> Kind {
    let said = said.to_ascii_lowercase();
    match answer.status {
        401 => Kind::AppRejected,
        403 if said.contains("suspended") => Kind::Suspended,
        403 if answer.is_limited() || said.contains("rate limit") || said.contains("login attempts") => {
            Kind::RateLimited
        }
        429 => Kind::RateLimited,
        403 => Kind::Forbidden,
        404 => Kind::NotFound,
        301 | 302 | 307 | 308 => Kind::Moved,
        422 => Kind::ScopeRefused,
        500..=599 => Kind::Unavailable,
        _ => Kind::BadAnswer,
    }
}

/// Reads an error of the HTTP client: nothing came that could be called an answer.
pub(crate) fn from_transport_error(what: &str, error: &reqwest::Error) -> Failure {
    let cause = innermost(error);
    let message = cause.to_string();
    if error.is_timeout() {
        let (kind, limit) = match error.is_connect() {
            true => (Kind::ConnectTimedOut, "github.connect_timeout"),
            false => (Kind::TimedOut, "github.request_timeout"),
        };
        let message =
            format!("GitHub took longer than {limit} when {what}: it or the way to it is slow, try again");
        return Failure::new(kind, message);
    }
    if error.is_connect() && lacks_resources(cause) {
        let message = format!(
            "no file descriptor or port is left in this process when {what} ({message}): raise the limit on open files, or \
             try again"
        );
        return Failure::new(Kind::NoResources, message);
    }
    let cause = message;
    let host = error.url().and_then(url::Url::host_str).unwrap_or("GitHub");
    let (step, advice) = if cause.contains("UnknownIssuer") {
        ("could not connect to", "if a private authority signs there, name its certificate in github.ca_file")
    } else if cause.contains("certificate") {
        (
            "could not connect to",
            "check github.api_url and this machine's clock; else the server needs another one",
        )
    } else if error.is_connect() {
        ("could not connect to", "check github.api_url, github.proxy and the network, or try again")
    } else {
        ("lost the connection to", "try again")
    };
    let kind = if error.is_connect() { Kind::Unreachable } else { Kind::Unavailable };
    Failure::new(kind, format!("{step} {host} ({}) when {what}: {advice}", redact(&cause)))
}

/// Whether a connection failed for what this process or machine lacks, which says nothing of the host.
fn lacks_resources(cause: &(dyn std::error::Error + 'static)) -> bool {
    use rustix::io::Errno;
    let code = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    let lacking = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    code.is_some_and(|code| lacking.iter().any(|errno| errno.raw_os_error() == code))
}

/// The cause that says most: a chain's outer links only repeat that sending failed.
fn innermost<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

fn trace(answer: &Answer) -> String {
    answer.request_id.as_ref().map(|id| format!(" (GitHub request {id})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(status: u16, message: &str) -> Answer {
        Answer {
            status,
            body: format!("{{\"message\":{message:?}}}").into(),
            ..Answer::empty("minting a token")
        }
    }

    #[test]
    fn every_status_has_its_class() {
        let suspended = "This installation has been suspended";
        for (status, message, kind) in [
            (401, "Bad credentials", Kind::AppRejected),
            (403, suspended, Kind::Suspended),
            (403, "You have exceeded a secondary rate limit.", Kind::RateLimited),
            (403, "Maximum number of login attempts exceeded", Kind::RateLimited),
            (403, "the `acme` organization has an IP allow list enabled", Kind::Forbidden),
            (404, "Not Found", Kind::NotFound),
            (301, "Moved Permanently", Kind::Moved),
            (400, "Problems parsing JSON", Kind::BadAnswer),
            (422, "The permissions requested are not granted to this installation.", Kind::ScopeRefused),
            (429, "slow down", Kind::RateLimited),
            (500, "", Kind::Unavailable),
            (503, "", Kind::Unavailable),
        ] {
            assert_eq!(classify(&answer(status, message)).kind, kind, "{status} {message}");
        }
    }

    #[test]
    fn a_message_that_echoes_a_token_is_redacted() {
        let failure = classify(&answer(422, "bad ghs_1001_eyJhbGciOi.eyJpc3Mi-x_y.c2ln-_ here"));
        assert!(failure.message.contains("bad [redacted] here"), "{}", failure.message);
    }

    #[test]
    fn a_403_with_retry_after_is_a_limit_whatever_it_says() {
        let limited = Answer { retry_after: Some("30".into()), ..answer(403, "no") };
        let failure = classify(&limited);
        assert_eq!((failure.kind, failure.retry_after), (Kind::RateLimited, Some(Duration::from_secs(30))));
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
