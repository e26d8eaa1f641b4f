//! Rate limits: how much each caller has used, and whether that was too much.

use std::collections::HashMap;

use crate::fake_github::clock::{Clock, Millis, SECOND};

/// The caller that a request is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    Anonymous,
    Installation(u64),
}

/// The primary limit of a caller, and how much of it is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    pub(crate) limit: u64,
    pub(crate) used: u64,
    /// When the window ends, in seconds since 1970 by the skewed clock.
    pub(crate) reset: i64,
}

/// What a request exceeded, beside the primary limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// Too many points for one route, or too many requests at once.
    Secondary,
    /// Too many refused credentials.
    FailedLogins,
}

/// The usage of every caller and route.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    primary: HashMap<Caller, Window>,
    /// By route, for the secondary limit.
    points: HashMap<&'static str, Window>,
    failed_logins: Window,
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
    /// Charges one request to `caller`. `limit` is that of an installation.
    pub(crate) fn charge(&mut self, caller: Caller, limit: u64, clock: &Clock) -> Quota {
        self.primary.entry(caller).or_default().add(1, HOUR, clock.now());
        self.quota(caller, limit, clock)
    }

    /// The quota of `caller`, free of charge. `limit` is that of an installation.
    pub(crate) fn quota(&mut self, caller: Caller, limit: u64, clock: &Clock) -> Quota {
        let now = clock.now();
        let window = self.primary.entry(caller).or_default();
        window.add(0, HOUR, now);
        let limit = match caller {
            Caller::Anonymous => ANONYMOUS_LIMIT,
            Caller::Installation(_) => limit,
        };
        Quota { limit, used: window.used, reset: clock.skewed_second() + (window.ends - now) / SECOND }
    }

    /// Charges the secondary limits with a request for `route`. The limit that it exceeds, if any.
    pub(crate) fn charge_secondary(
        &mut self,
        method: &str,
        route: &'static str,
        in_flight: usize,
        now: Millis,
    ) -> Option<Exceeded> {
        if self.failed_logins.add(0, LOCKOUT, now) >= MAX_FAILED_LOGINS {
            return Some(Exceeded::FailedLogins);
        }
        let points = if matches!(method, "GET" | "HEAD" | "OPTIONS") { 1 } else { 5 };
        let window = self.points.entry(route).or_default();
        let too_fast = window.add(points, MINUTE, now) > MAX_POINTS_PER_MINUTE;
        (too_fast || in_flight > MAX_CONCURRENT_REQUESTS).then_some(Exceeded::Secondary)
    }

    /// Counts a request whose credential was refused.
    pub(crate) fn record_failed_login(&mut self, now: Millis) {
        self.failed_logins.add(1, LOCKOUT, now);
    }
}

#[derive(Debug, Default)]
struct Window {
    ends: Millis,
    used: u64,
}

impl Window {
    /// Adds `amount` to a window that is `length` long from its first use. The usage with it.
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
const MAX_POINTS_PER_MINUTE: u64 = 900;
/// GitHub's documented secondary limit for requests at the same time.
const MAX_CONCURRENT_REQUESTS: usize = 100;
/// GitHub does not document how many refused credentials are too many, nor for how long.
const MAX_FAILED_LOGINS: u64 = 20;
const LOCKOUT: Millis = 5 * MINUTE;
