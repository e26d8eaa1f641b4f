//! GitHub's clock: the machine's, with an offset that tests advance, and a skew.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// Milliseconds since 1970, so that arithmetic on them cannot fail.
pub(crate) type Millis = i64;

/// One clock for everything the emulator does.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    offset: AtomicI64,
    skew: AtomicI64,
}

impl Clock {
    /// The time without the skew. Tokens and rate limit windows expire by it.
    pub(crate) fn now(&self) -> Millis {
        wall().saturating_add(self.offset.load(Ordering::SeqCst))
    }

    /// The time with the skew, in seconds: what `Date` says and JWTs are compared with.
    pub(crate) fn skewed_second(&self) -> i64 {
        self.now().saturating_add(self.skew.load(Ordering::SeqCst).saturating_mul(SECOND)).div_euclid(SECOND)
    }

    pub(crate) fn advance(&self, by: Duration) {
        let by = Millis::try_from(by.as_millis()).unwrap_or(Millis::MAX);
        let _ = self
            .offset
            .try_update(Ordering::SeqCst, Ordering::SeqCst, |offset| Some(offset.saturating_add(by)));
    }

    pub(crate) fn skew(&self, seconds: i64) {
        self.skew.store(seconds, Ordering::SeqCst);
    }

    pub(crate) fn reset(&self) {
        self.offset.store(0, Ordering::SeqCst);
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
