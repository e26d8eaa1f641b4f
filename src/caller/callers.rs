//! Every caller proof, the strongest first, and what they show together.

use hyper::header::HeaderMap;

use super::evidence::{Evidence, Peer};
use super::fair_shares::FairShares;
use super::{client_header, peer_uid, user_agent};
use crate::clock::BootTime;
use crate::model::ClientId;

/// The sender of a request, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller<'a> {
    /// Its name, for log and audit.
    pub(crate) name: Option<&'a str>,
    /// The user that its process runs as.
    pub(crate) uid: Option<u32>,
    /// Whose share of the calls to GitHub it uses.
    pub(crate) client: ClientId,
}

/// Tells callers apart.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    shares: FairShares,
}

impl Callers {
    /// The caller whose request with these headers came from `peer` at `now`.
    pub(crate) fn identify<'a>(&self, headers: &'a HeaderMap, peer: Peer, now: BootTime) -> Caller<'a> {
        // The strongest first.
        let proofs = [peer_uid::prove(peer), client_header::prove(headers), user_agent::prove(headers)];
        let Evidence { name, uid, share } = proofs.into_iter().fold(Evidence::default(), Evidence::or);
        Caller { name, uid, client: self.shares.client(share, now) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let entry = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        list.iter().map(entry).collect()
    }

    #[test]
    fn stronger_proof_decides_the_fair_share() {
        let callers = Callers::default();
        let client = |list: &[(&'static str, &'static str)], peer| {
            callers.identify(&headers(list), peer, BootTime::new(Duration::ZERO)).client
        };
        let (name, program) = ((CLIENT, "bot"), ("user-agent", "curl"));
        let by_uid = client(&[], Peer::Unix { uid: Some(7) });
        assert_eq!(client(&[name, program], Peer::Unix { uid: Some(7) }), by_uid);
        let by_name = client(&[name], Peer::Tcp);
        assert_eq!(client(&[name, program], Peer::Tcp), by_name);
        assert_eq!(client(&[name], Peer::Unix { uid: None }), by_name);
        let by_program = client(&[program], Peer::Tcp);
        let unknown = client(&[], Peer::Tcp);
        for (one, other) in [(by_uid, by_name), (by_name, by_program), (by_program, unknown)] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn client_name_or_uid_identifies_a_client() {
        let headers = headers(&[(CLIENT, "bot"), ("user-agent", "curl")]);
        let caller =
            Callers::default().identify(&headers, Peer::Unix { uid: Some(7) }, BootTime::new(Duration::ZERO));
        assert_eq!((caller.name, caller.uid), (Some("bot"), Some(7)));
    }

    const CLIENT: &str = super::client_header::CLIENT_HEADER;
}
