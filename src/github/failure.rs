//! What went wrong between us and GitHub, told by what a caller can do about it.

use std::time::Duration;

use super::answer::Answer;
use crate::model::{ErrorCode, redact};

/// A call to GitHub that brought nothing usable. The message is one plain sentence for the caller of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What can be done about it.
    pub kind: Kind,
    /// One plain sentence: what happened and what to do. Never holds a secret.
    pub message: String,
    /// How long to wait before the next attempt, as GitHub or admission says.
    pub retry_after: Option<Duration>,
    /// Who says so.
    pub origin: Origin,
}

/// Where a failure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// GitHub, or the way to it: a call was made.
    Upstream,
    /// Admission: no call was made. It refused this one, or remembers how GitHub answered before.
    Local,
}

/// What else would fail in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every call: there is no connection.
    Host,
    /// Every call of the app.
    App,
    /// Every token of the installation.
    Installation,
    /// The same question, and nothing else.
    Question,
    /// Nothing: it was refused here.
    Nothing,
}

/// The classes of failure. Each stands for something else that a caller, or the broker, does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// GitHub accepts neither the key, nor the app's id, nor the clock; or it has blocked the app.
    AppRejected,
    /// It accepts the app, and yet refuses this: by an IP allow list, or because the app is blocked there.
    Forbidden,
    /// An owner of the account has suspended the installation.
    Suspended,
    /// GitHub knows no such thing, or not for this app.
    NotFound,
    /// GitHub has no such installation, and has confirmed it.
    Gone,
    /// It has another name now.
    Moved,
    /// The installation cannot grant what was asked.
    ScopeRefused,
    /// The user is not one on whose behalf this installation may act.
    UserRefused,
    /// The dialect has no words for what was asked. GitHub was not asked.
    Unsupported,
    /// The dialect has no tokens on behalf of users. GitHub was not asked.
    UserTokensUnsupported,
    /// GitHub wants fewer calls.
    RateLimited,
    /// An answer that is not trusted: malformed, too long, or wider than what was asked.
    BadAnswer,
    /// A 5xx, or a connection that broke.
    Unavailable,
    /// No answer in time.
    TimedOut,
    /// No connection: name, address, TLS, or a proxy's refusal.
    Unreachable,
    /// No connection in time.
    ConnectTimedOut,
    /// This process has no file descriptor or port left for a connection.
    NoResources,
    /// Our own budget for calls is spent.
    BudgetSpent,
    /// The caller's fair share is spent.
    CallerLimited,
    /// Too many calls are under way or waiting.
    Overloaded,
    /// Nobody waited for it any more, so it was not sent.
    Abandoned,
}

impl Kind {
    /// Its name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AppRejected => "app_rejected",
            Self::Forbidden => "forbidden",
            Self::Suspended => "suspended",
            Self::NotFound => "not_found",
            Self::Gone => "gone",
            Self::Moved => "moved",
            Self::ScopeRefused => "scope_refused",
            Self::UserRefused => "user_refused",
            Self::Unsupported => "unsupported",
            Self::UserTokensUnsupported => "user_tokens_unsupported",
            Self::RateLimited => "rate_limited",
            Self::BadAnswer => "bad_answer",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::ConnectTimedOut => "connect_timed_out",
            Self::NoResources => "no_resources",
            Self::BudgetSpent => "budget_spent",
            Self::CallerLimited => "caller_limited",
            Self::Overloaded => "overloaded",
            Self::Abandoned => "abandoned",
        }
    }

    /// The `code` of the error that a caller hears.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::AppRejected | Self::Forbidden => ErrorCode::AppRejected,
            Self::Suspended => ErrorCode::InstallationSuspended,
            Self::NotFound | Self::Gone => ErrorCode::UnknownInstallation,
            Self::Moved | Self::BadAnswer => ErrorCode::BadUpstreamResponse,
            Self::ScopeRefused => ErrorCode::ScopeNotGranted,
            Self::UserRefused => ErrorCode::UserNotAuthorized,
            Self::Unsupported => ErrorCode::UnsupportedUpstream,
            Self::UserTokensUnsupported => ErrorCode::UserTokensUnsupported,
            Self::RateLimited | Self::BudgetSpent => ErrorCode::RateLimited,
            Self::CallerLimited => ErrorCode::CallerLimited,
            Self::Unavailable | Self::Unreachable => ErrorCode::GithubUnavailable,
            Self::TimedOut | Self::ConnectTimedOut => ErrorCode::GithubTimeout,
            Self::NoResources | Self::Overloaded | Self::Abandoned => ErrorCode::Overloaded,
        }
    }

    /// Whether the question was left open: the key, a limit or the way to GitHub stood before it.
    pub const fn is_inconclusive(self) -> bool {
        !matches!(
            self,
            Self::Suspended
                | Self::NotFound
                | Self::Gone
                | Self::Moved
                | Self::ScopeRefused
                | Self::UserRefused
                | Self::Unsupported
                | Self::UserTokensUnsupported
        )
    }

    /// Whether GitHub has said so, and will say the same until something changes or a limit ends.
    pub(crate) const fn is_definite(self) -> bool {
        !self.is_inconclusive() || matches!(self, Self::RateLimited)
    }

    /// Whether it says something of what was asked, and not only of the way there or of the app.
    pub const fn speaks_for_the_key(self) -> bool {
        matches!(self.scope(), Scope::Question | Scope::Installation)
    }

    /// For how much this answer speaks.
    pub(crate) const fn scope(self) -> Scope {
        match self {
            Self::Unreachable | Self::ConnectTimedOut => Scope::Host,
            Self::RateLimited | Self::AppRejected => Scope::App,
            Self::Suspended | Self::Gone => Scope::Installation,
            Self::NoResources
            | Self::BudgetSpent
            | Self::CallerLimited
            | Self::Overloaded
            | Self::Abandoned => Scope::Nothing,
            Self::Unsupported | Self::UserTokensUnsupported => Scope::Nothing,
            Self::Forbidden
            | Self::NotFound
            | Self::Moved
            | Self::ScopeRefused
            | Self::UserRefused
            | Self::BadAnswer
            | Self::Unavailable
            | Self::TimedOut => Scope::Question,
        }
    }
}

impl Failure {
    /// A failure with nothing but its class and sentence.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, origin: Origin::Upstream }
    }

    /// A refusal of our own: no call was made.
    pub(crate) fn local(kind: Kind, wait: Duration, message: impl Into<String>) -> Self {
        Self { retry_after: Some(wait), origin: Origin::Local, ..Self::new(kind, message) }
    }

    /// An answer that came but is not trusted: `what` says why.
    pub(crate) fn bad_answer(answer: &Answer, what: &str) -> Self {
        let message = format!("{} answered {}, but {what}{}", answer.what, answer.status, trace(answer));
        Self::new(Kind::BadAnswer, message)
    }
}

/// Reads an answer that is not the success it should be.
///
/// Statuses come first, texts decide only where GitHub uses one status for several things:
/// <https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api>.
pub(crate) fn classify(answer: &Answer) -> Failure {
    as_kind(kind_of(answer, &answer.message()), answer)
}

/// The failure of a class that a caller has found out by what it asked for.
pub(crate) fn as_kind(kind: Kind, answer: &Answer) -> Failure {
    let said = answer.message();
    let advice = match kind {
        Kind::AppRejected => "check app.id, the private key and the machine's clock with `ghtokend check`",
        Kind::Forbidden => {
            "GitHub refuses the app from here: see what it says, and ask an owner of the account"
        }
        Kind::Suspended => "an owner of the account must unsuspend the app in its settings",
        Kind::NotFound | Kind::Gone => "check that the app is installed there, with `ghtokend check`",
        Kind::Moved => {
            "redirects are not followed, since they could carry the app JWT away: check github.api_url"
        }
        Kind::ScopeRefused if said.contains("repositor") => {
            "check the names; it often means that another installation is the right one, which repo=OWNER/NAME finds"
        }
        Kind::ScopeRefused => "ask for less, or have an owner accept more permissions for the app",
        Kind::RateLimited => "wait as long as Retry-After says",
        Kind::BadAnswer => "check github.api_url and github.api_version",
        Kind::UserRefused => "check the number of the user, and that the user belongs to the account",
        Kind::Unsupported | Kind::UserTokensUnsupported => "ask for what this GitHub can do",
        _ => "it is likely to pass: try again",
    };
    let message = format!("{} answered {}{said}: {advice}{}", answer.what, answer.status, trace(answer));
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

fn kind_of(answer: &Answer, said: &str) -> Kind {
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
        let message = format!("{what} took longer than {limit}: GitHub or the way to it is slow, try again");
        return Failure::new(kind, message);
    }
    if error.is_connect() && lacks_resources(cause) {
        let message = format!(
            "{what} found no file descriptor or port left in this process ({message}): raise the limit on open files, or \
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
        ("was cut off by", "try again")
    };
    let kind = if error.is_connect() { Kind::Unreachable } else { Kind::Unavailable };
    Failure::new(kind, format!("{what} {step} {host} ({}): {advice}", redact(&cause)))
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
}
