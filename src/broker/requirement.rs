//! What a caller requires of a token's life.

use std::time::Duration;

/// What a caller requires of a token, beyond that it has to be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// As old as may be: its caller asks again for every use.
    Any,
    /// Minted within the last minute, or a sixtieth of a shorter life: its caller keeps it without a look at its
    /// expiry, as Octokit does for 59 minutes.
    RecentlyMinted,
    /// Young enough to live at least this long: its caller has a long job to do with it.
    MinTtl(Duration),
}
