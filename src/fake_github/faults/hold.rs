//! Holds: barriers that keep responses back until a test releases them.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::fake_github::wire::request::Request;

/// Holds back the responses to matching requests, which are carried out first. Dropping it releases them.
#[derive(Debug)]
pub struct Hold {
    barrier: Arc<Barrier>,
    holds: Holds,
}

impl Hold {
    /// Waits until `n` requests have been held in total.
    pub async fn reached(&self, n: usize) {
        // The sender is in `self.barrier`, so that the channel cannot be closed while this waits.
        let _ = self.barrier.reached.subscribe().wait_for(|reached| *reached >= n).await;
    }

    /// Releases the responses, those to come included.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.release(self.barrier.id);
    }
}

/// All holds in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holds(Arc<Mutex<Barriers>>);

impl Holds {
    /// Holds back what matches from now on.
    pub(crate) fn hold(&self, method: Option<&str>, path: Option<&str>) -> Hold {
        let mut barriers = self.0.lock();
        barriers.last_id += 1;
        let barrier = Arc::new(Barrier {
            id: barriers.last_id,
            method: method.map(Into::into),
            path: path.map(Into::into),
            reached: watch::Sender::new(0),
            released: watch::Sender::new(false),
        });
        barriers.raised.push(barrier.clone());
        Hold { barrier, holds: self.clone() }
    }

    /// A hold that lasts until it is released by its id.
    pub(crate) fn hold_by_id(&self, method: Option<&str>, path: Option<&str>) -> u64 {
        let hold = self.hold(method, path);
        let id = hold.barrier.id;
        self.0.lock().by_id.push(hold);
        id
    }

    /// Whether there was such a hold.
    pub(crate) fn release(&self, id: u64) -> bool {
        let mut barriers = self.0.lock();
        let Some(at) = barriers.raised.iter().position(|barrier| barrier.id == id) else { return false };
        barriers.raised.remove(at).released.send_replace(true);
        let by_id =
            barriers.by_id.iter().position(|hold| hold.barrier.id == id).map(|at| barriers.by_id.remove(at));
        // Dropping it comes back here, so the lock must be free by then.
        drop(barriers);
        drop(by_id);
        true
    }

    pub(crate) fn release_all(&self) {
        let ids: Vec<u64> = self.0.lock().raised.iter().map(|barrier| barrier.id).collect();
        for id in ids {
            self.release(id);
        }
    }

    /// Ids, and how many requests each has held.
    pub(crate) fn list(&self) -> Vec<(u64, usize)> {
        self.0.lock().raised.iter().map(|barrier| (barrier.id, *barrier.reached.borrow())).collect()
    }

    /// Waits at the barrier that matches `request`, if any, until it is released.
    pub(crate) async fn wait(&self, request: &Request) {
        let barrier = self.0.lock().raised.iter().find(|barrier| barrier.matches(request)).cloned();
        if let Some(barrier) = barrier {
            barrier.reached.send_modify(|reached| *reached += 1);
            let _ = barrier.released.subscribe().wait_for(|released| *released).await;
        }
    }
}

#[derive(Debug, Default)]
struct Barriers {
    last_id: u64,
    raised: Vec<Arc<Barrier>>,
    /// Holds made over the control endpoint, which nobody else keeps alive.
    by_id: Vec<Hold>,
}

#[derive(Debug)]
struct Barrier {
    id: u64,
    method: Option<String>,
    path: Option<String>,
    reached: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

impl Barrier {
    fn matches(&self, request: &Request) -> bool {
        request.matches(self.method.as_deref(), self.path.as_deref())
    }
}
