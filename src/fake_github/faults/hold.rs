//! Answers held back until a test lets them go.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::fake_github::wire::request::Request;

/// Holds back the answers to matching requests: they are carried out and their answers wait. Dropping it lets
/// them go.
#[derive(Debug)]
pub struct Hold {
    gate: Arc<Gate>,
    gates: Holds,
}

impl Hold {
    /// Waits until `n` requests have been held, all told.
    pub async fn reached(&self, n: usize) {
        // The sender is in `self.gate`, so that the channel cannot be closed while this waits.
        let _ = self.gate.reached.subscribe().wait_for(|reached| *reached >= n).await;
    }

    /// Lets the answers go, those to come included.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.gates.release(self.gate.id);
    }
}

/// All holds in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holds(Arc<Mutex<Gates>>);

impl Holds {
    /// Holds from now on what matches.
    pub(crate) fn hold(&self, method: Option<&str>, path: Option<&str>) -> Hold {
        let mut gates = self.0.lock();
        gates.last_id += 1;
        let gate = Arc::new(Gate {
            id: gates.last_id,
            method: method.map(Into::into),
            path: path.map(Into::into),
            reached: watch::Sender::new(0),
            released: watch::Sender::new(false),
        });
        gates.closed.push(gate.clone());
        Hold { gate, gates: self.clone() }
    }

    /// A hold that lasts until it is released by its id.
    pub(crate) fn hold_by_id(&self, method: Option<&str>, path: Option<&str>) -> u64 {
        let hold = self.hold(method, path);
        let id = hold.gate.id;
        self.0.lock().kept.push(hold);
        id
    }

    /// Whether there was such a hold.
    pub(crate) fn release(&self, id: u64) -> bool {
        let mut gates = self.0.lock();
        let Some(at) = gates.closed.iter().position(|gate| gate.id == id) else { return false };
        gates.closed.remove(at).released.send_replace(true);
        let kept = gates.kept.iter().position(|hold| hold.gate.id == id).map(|at| gates.kept.remove(at));
        // Dropping it comes back here, so the lock must be free by then.
        drop(gates);
        drop(kept);
        true
    }

    pub(crate) fn release_all(&self) {
        let ids: Vec<u64> = self.0.lock().closed.iter().map(|gate| gate.id).collect();
        for id in ids {
            self.release(id);
        }
    }

    /// Ids, and how many requests each has held.
    pub(crate) fn list(&self) -> Vec<(u64, usize)> {
        self.0.lock().closed.iter().map(|gate| (gate.id, *gate.reached.borrow())).collect()
    }

    /// Waits while a hold matches `request`.
    pub(crate) async fn pass(&self, request: &Request) {
        let gate = self.0.lock().closed.iter().find(|gate| gate.matches(request)).cloned();
        if let Some(gate) = gate {
            gate.reached.send_modify(|reached| *reached += 1);
            let _ = gate.released.subscribe().wait_for(|released| *released).await;
        }
    }
}

#[derive(Debug, Default)]
struct Gates {
    last_id: u64,
    closed: Vec<Arc<Gate>>,
    /// Holds made over the control endpoint, which nobody else keeps alive.
    kept: Vec<Hold>,
}

#[derive(Debug)]
struct Gate {
    id: u64,
    method: Option<String>,
    path: Option<String>,
    reached: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

impl Gate {
    fn matches(&self, request: &Request) -> bool {
        request.matches(self.method.as_deref(), self.path.as_deref())
    }
}
