//! Numbers clients, for fair shares of the calls to GitHub.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use parking_lot::Mutex;

use super::evidence::Share;
use crate::clock::BootTime;
use crate::model::ClientId;

/// The clients seen recently. A client can take any number of names, so only some have a share of their own, and the rest have
/// one together.
#[derive(Debug, Default)]
pub(super) struct FairShares {
    hasher: RandomState,
    seen: Mutex<HashMap<u64, BootTime>>,
}

impl FairShares {
    /// The client that calls at `now`. Those of whom nothing is known are one.
    pub(super) fn client(&self, share: Option<Share<'_>>, now: BootTime) -> ClientId {
        self.recent(self.hasher.hash_one(share).max(FIRST), now)
    }

    fn recent(&self, number: u64, now: BootTime) -> ClientId {
        let mut seen = self.seen.lock();
        if let Some(last) = seen.get_mut(&number) {
            *last = now;
            return ClientId::new(number);
        }
        if seen.len() >= MAX_CLIENTS {
            seen.retain(|_, last| now.since(*last) < FORGOTTEN_AFTER);
        }
        if seen.len() >= MAX_CLIENTS {
            return OTHERS;
        }
        seen.insert(number, now);
        ClientId::new(number)
    }
}

const MAX_CLIENTS: usize = 64;
/// A call waits for its turn for less.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
const OTHERS: ClientId = ClientId::new(1);
/// The numbers before it are the daemon itself, and all other clients.
const FIRST: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    #[test]
    fn clients_beyond_64_share_one_share() {
        let shares = FairShares::default();
        for number in 100..164 {
            assert_eq!(shares.recent(number, at(0)), ClientId::new(number));
        }
        assert_eq!(shares.recent(200, at(59)), OTHERS);
        assert_eq!(shares.recent(100, at(59)), ClientId::new(100));
        assert_eq!(
            shares.recent(200, at(60)),
            ClientId::new(200),
            "the others have not been seen for a minute"
        );
        assert_eq!(shares.recent(100, at(60)), ClientId::new(100));
    }
}
