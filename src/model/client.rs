//! Whose fair share a call to GitHub uses, and how urgent it is.

/// A client with a fair share of the calls to GitHub: a number, made from its strongest proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId(u64);

impl ClientId {
    /// The daemon itself: refreshes, prefetches and probes.
    pub const BACKGROUND: Self = Self(0);

    /// The client of this number; 0 is the daemon itself.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// How urgent a call to GitHub is, the least urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Nobody waits for it: a refresh ahead of time, a prefetch.
    Ahead,
    /// A caller waits for a key that was not minted before.
    New,
    /// A key that is in use and has little life left, whether or not a caller waits.
    InUse,
    /// The daemon has to know before it can go on: whether GitHub accepts an app, or an installation is gone.
    Probe,
}
