//! Rate limits: how much each caller has used, and what is said when it was too much.

use std::collections::HashMap;

use serde_json::json;

use crate::fake_github::clock::{Millis, SECOND};
use crate::fake_github::options::{Options, RateLimits};
use crate::fake_github::state::Shared;
use crate::fake_github::wire::response::Answer;

/// Who a request is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    Anonymous,
    Installation(u64),
}

/// Where a caller stands with the primary limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    pub(crate) limit: u64,
    pub(crate) used: u64,
    /// When the window ends, in seconds since 1970 by the clock GitHub shows.
    pub(crate) reset: i64,
}

/// What was used so far.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    primary: HashMap<Caller, Window>,
    /// By route, for the secondary limit.
    points: HashMap<&'static str, Window>,
    refused_logins: Window,
}

impl Quota {
    pub(crate) fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    pub(crate) fn headers(&self) -> [(&'static str, String); 5] {
        [
            ("X-RateLimit-Limit", self.limit.to_string()),
            ("X-RateLimit-Remaining", self.remaining().to_string()),
            ("X-RateLimit-Reset", self.reset.to_string()),
            ("X-RateLimit-Used", self.used.to_string()),
            ("X-RateLimit-Resource", "core".to_owned()),
        ]
    }
}

impl Limits {
    /// Charges one request to `caller`.
    pub(crate) fn charge(&mut self, caller: Caller, shared: &Shared) -> Quota {
        self.primary.entry(caller).or_default().add(1, HOUR, shared.clock.now());
        self.quota(caller, shared)
    }

    /// Where `caller` stands, free of charge.
    pub(crate) fn quota(&mut self, caller: Caller, shared: &Shared) -> Quota {
        let now = shared.clock.now();
        let window = self.primary.entry(caller).or_default();
        window.add(0, HOUR, now);
        let limit = match caller {
            Caller::Anonymous => ANONYMOUS_LIMIT,
            Caller::Installation(_) => shared.options.installation_rate_limit,
        };
        Quota { limit, used: window.used, reset: shared.clock.shown_second() + (window.ends - now) / SECOND }
    }

    /// What is said instead of an answer, because of the secondary limits or refused logins, if they are enforced.
    pub(crate) fn objection(
        &mut self,
        shared: &Shared,
        method: &str,
        route: &'static str,
        in_flight: usize,
    ) -> Option<Answer> {
        if shared.options.rate_limits == RateLimits::Reported {
            return None;
        }
        let now = shared.clock.now();
        if self.refused_logins.add(0, LOCKOUT, now) >= LOGIN_ATTEMPTS {
            return Some(login_lockout(&shared.options));
        }
        let points = if matches!(method, "GET" | "HEAD" | "OPTIONS") { 1 } else { 5 };
        let window = self.points.entry(route).or_default();
        let too_fast = window.add(points, MINUTE, now) > POINTS_PER_MINUTE;
        (too_fast || in_flight > CONCURRENT_REQUESTS)
            .then(|| secondary_limit(403).with_header("Retry-After", "60"))
    }

    /// A credential was refused.
    pub(crate) fn refused_login(&mut self, now: Millis) {
        self.refused_logins.add(1, LOCKOUT, now);
    }
}

/// The answer over the primary limit.
pub(crate) fn primary_limit(status: u16, caller: Caller, quota: Quota) -> Answer {
    let whom = match caller {
        Caller::Anonymous => "127.0.0.1".to_owned(),
        Caller::Installation(id) => format!("installation ID {id}"),
    };
    let answer = Answer::json(
        status,
        json!({
            "message": format!("API rate limit exceeded for {whom}."),
            "documentation_url": "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api",
            "status": status.to_string(),
        }),
    );
    quota.headers().into_iter().fold(answer, |answer, (name, value)| answer.with_header(name, value))
}

/// The answer over a secondary limit. GitHub gives no `status` in it.
pub(crate) fn secondary_limit(status: u16) -> Answer {
    Answer::json(
        status,
        json!({
            "documentation_url": "https://docs.github.com/free-pro-team@latest/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits",
            "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
        }),
    )
}

/// The answer to everybody after too many refused logins.
pub(crate) fn login_lockout(options: &Options) -> Answer {
    Answer::json(
        403,
        json!({
            "message": options.wording.login_lockout,
            "documentation_url": "https://docs.github.com/rest",
            "status": "403",
        }),
    )
}

#[derive(Debug, Default)]
struct Window {
    ends: Millis,
    used: u64,
}

impl Window {
    /// Adds `amount` to a window that is `length` long from its first use. What is used of it now.
    fn add(&mut self, amount: u64, length: Millis, now: Millis) -> u64 {
        if now >= self.ends {
            *self = Self { ends: now.saturating_add(length), used: 0 };
        }
        self.used += amount;
        self.used
    }
}

const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;
const ANONYMOUS_LIMIT: u64 = 60;
/// GitHub's documented secondary limit for one endpoint.
const POINTS_PER_MINUTE: u64 = 900;
/// GitHub's documented secondary limit for requests at the same time.
const CONCURRENT_REQUESTS: usize = 100;
/// GitHub does not say how many refused logins are too many, nor for how long.
const LOGIN_ATTEMPTS: u64 = 20;
const LOCKOUT: Millis = 5 * MINUTE;
