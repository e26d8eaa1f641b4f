//! Tells clients apart, for fair shares of what GitHub is asked.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use hyper::header::{HeaderMap, USER_AGENT};
use parking_lot::Mutex;

use crate::clock::BootTime;
use crate::model::ClientId;
use crate::telemetry::audit::RequestContext;

/// The clients of late. Names cost nothing, so only some of them have a share of their own, and the rest have one
/// together.
#[derive(Debug, Default)]
pub(super) struct Clients {
    hasher: RandomState,
    seen: Mutex<HashMap<u64, BootTime>>,
}

impl Clients {
    /// The client that asks at `now`: by the uid of the peer, else by what it calls itself.
    pub(super) fn id(&self, asker: RequestContext<'_>, headers: &HeaderMap, now: BootTime) -> ClientId {
        let name = || asker.client.or_else(|| headers.get(USER_AGENT)?.to_str().ok());
        let number = match asker.uid {
            Some(uid) => self.hasher.hash_one(uid),
            None => self.hasher.hash_one(name()),
        };
        self.of_late(number.max(FIRST), now)
    }

    fn of_late(&self, number: u64, now: BootTime) -> ClientId {
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
/// Whoever waits for its turn does so for less.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
const OTHERS: ClientId = ClientId::new(1);
/// Those before it are the daemon itself, and all others.
const FIRST: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    #[test]
    fn more_than_64_clients_share_one_share() {
        let clients = Clients::default();
        for number in 100..164 {
            assert_eq!(clients.of_late(number, at(0)), ClientId::new(number));
        }
        assert_eq!(clients.of_late(200, at(59)), OTHERS);
        assert_eq!(clients.of_late(100, at(59)), ClientId::new(100));
        assert_eq!(
            clients.of_late(200, at(60)),
            ClientId::new(200),
            "the others have not been seen for a minute"
        );
        assert_eq!(clients.of_late(100, at(60)), ClientId::new(100));
    }
}
