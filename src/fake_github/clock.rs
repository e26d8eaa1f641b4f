//! GitHub's clock: the machine's, as far ahead as it was told to be, and wrong by as much as it was told to be.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// Milliseconds since 1970, so that arithmetic on them cannot fail.
pub(crate) type Millis = i64;

/// One clock for everything the emulator does.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    ahead: AtomicI64,
    skew: AtomicI64,
}

impl Clock {
    /// The time by which tokens live and windows end.
    pub(crate) fn now(&self) -> Millis {
        wall().saturating_add(self.ahead.load(Ordering::SeqCst))
    }

    /// The second GitHub believes it is: what it writes into `Date` and compares JWTs with.
    pub(crate) fn skewed_second(&self) -> i64 {
        self.now().saturating_add(self.skew.load(Ordering::SeqCst).saturating_mul(SECOND)).div_euclid(SECOND)
    }

    pub(crate) fn advance(&self, by: Duration) {
        let by = Millis::try_from(by.as_millis()).unwrap_or(Millis::MAX);
        let _ =
            self.ahead.try_update(Ordering::SeqCst, Ordering::SeqCst, |ahead| Some(ahead.saturating_add(by)));
    }

    pub(crate) fn skew(&self, seconds: i64) {
        self.skew.store(seconds, Ordering::SeqCst);
    }

    pub(crate) fn reset(&self) {
        self.ahead.store(0, Ordering::SeqCst);
        self.skew.store(0, Ordering::SeqCst);
    }
}

/// `2016-07-11T22:14:10Z`, as in bodies.
pub(crate) fn iso(second: i64) -> String {
    instant(second).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `Mon, 19 Jun 2023 07:14:58 GMT`, as in headers.
pub(crate) fn http_date(second: i64) -> String {
    instant(second).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// One second in [`Millis`].
pub(crate) const SECOND: Millis = 1000;

fn instant(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(if second < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[expect(clippy::disallowed_methods, reason = "the one place where the emulator reads the clock")]
fn wall() -> Millis {
    Timestamp::now().as_millisecond()
}
