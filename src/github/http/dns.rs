//! DNS resolver: the system's, which cannot be interrupted. While no name server answers, every question keeps a thread
//! until the system's own timeout, however soon nobody waits for it any more.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio_util::task::TaskTracker;

use crate::model::Priority;
use crate::single_flight::{Requester, SingleFlight};

/// Resolves each name once at a time: concurrent look-ups share one.
pub(super) struct Resolver {
    look_ups: Arc<SingleFlight<String, LookedUp>>,
    timeout: Duration,
}

type LookedUp = Result<Vec<SocketAddr>, (ErrorKind, String)>;

impl Resolver {
    /// A question that is not answered within `timeout` is given up, and asked anew by the next who comes.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { look_ups: Arc::new(SingleFlight::new(TaskTracker::new())), timeout }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (look_ups, timeout) = (Arc::clone(&self.look_ups), self.timeout);
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let looked_up = look_ups.run(&name, DAEMON, |_| look_up(name.clone(), timeout)).await.0;
            let looked_up =
                looked_up.unwrap_or_else(|_| Err((ErrorKind::Other, "the look-up panicked".into())));
            let addresses = looked_up.map_err(|(kind, why)| Error::new(kind, why))?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Connections are anybody's.
const DAEMON: Requester = Requester::background(Priority::New, None);

async fn look_up(name: String, timeout: Duration) -> LookedUp {
    let addresses = tokio::time::timeout(timeout, tokio::net::lookup_host((name.as_str(), 0))).await;
    let addresses = addresses.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    addresses.map(Iterator::collect).map_err(|error| (error.kind(), error.to_string()))
}
