//! Which connections of a listener are open, and which one gives way when there are too many. Pure.
//!
//! Opening, changing state, evicting and closing each take time in the logarithm of the open connections at most, so
//! that a full listener costs no more than an empty one.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::clock::BootTime;

/// The open connections of one listener, each with a handle of type `H` that notifies it to close.
#[derive(Debug)]
pub(super) struct ConnectionTable<H> {
    max: usize,
    /// Counts changes of state, so that it orders them.
    sequence: u64,
    open: HashMap<ConnectionId, Connection<H>>,
    /// Those that never sent a request, the oldest first.
    new: BTreeMap<u64, ConnectionId>,
    /// Those between two requests, the one idle for longest first.
    idle: BTreeMap<u64, ConnectionId>,
    /// The one that was notified to close and is still open. One at a time: it makes room for one.
    evicted: Option<ConnectionId>,
}

/// Names an open connection of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ConnectionId(u64);

#[derive(Debug)]
struct Connection<H> {
    handle: H,
    opened: BootTime,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It never sent a request. With its place among those.
    New(u64),
    /// It has a request in flight, or was notified to close.
    Active,
    /// It waits for its next request. With its place among those.
    Idle(u64),
}

impl<H> ConnectionTable<H> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            sequence: 0,
            open: HashMap::new(),
            new: BTreeMap::new(),
            idle: BTreeMap::new(),
            evicted: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// A place for a connection; `None` if all are taken.
    pub(super) fn open(&mut self, handle: H, now: BootTime) -> Option<ConnectionId> {
        if self.len() >= self.max {
            return None;
        }
        let sequence = self.next();
        let id = ConnectionId(sequence);
        self.open.insert(id, Connection { handle, opened: now, state: State::New(sequence) });
        self.new.insert(sequence, id);
        Some(id)
    }

    /// Has a connection give way: one that never sent a request, else the one that has been idle for longest. Returns
    /// its handle, or `None` if all have a request in flight, or one is closing already.
    ///
    /// A crowd of callers at once has connections whose first request is still on its way. They are spared for
    /// [`MIN_NEW_AGE`], unless half of all places are taken by connections that never sent anything.
    pub(super) fn evict(&mut self, now: BootTime) -> Option<&H> {
        if self.evicted.is_some() {
            return None;
        }
        let id = self.oldest_new(now).or_else(|| self.idle.values().next().copied())?;
        self.set_state(id, State::Active);
        self.evicted = Some(id);
        self.open.get(&id).map(|connection| &connection.handle)
    }

    fn oldest_new(&self, now: BootTime) -> Option<ConnectionId> {
        let id = *self.new.values().next()?;
        let is_old = now.since(self.open.get(&id)?.opened) >= MIN_NEW_AGE;
        (is_old || self.new.len() * 2 >= self.max).then_some(id)
    }

    /// Whether this connection was notified to close, and has sent no request since.
    pub(super) fn is_evicted(&self, id: ConnectionId) -> bool {
        self.evicted == Some(id)
    }

    /// A request has come. A connection that was notified to close stays: its request was on the way.
    pub(super) fn set_active(&mut self, id: ConnectionId) {
        self.evicted.take_if(|evicted| *evicted == id);
        self.set_state(id, State::Active);
    }

    /// The answer has gone.
    pub(super) fn set_idle(&mut self, id: ConnectionId) {
        let sequence = self.next();
        self.set_state(id, State::Idle(sequence));
    }

    /// The connection is closed.
    pub(super) fn close(&mut self, id: ConnectionId) {
        self.set_active(id);
        self.open.remove(&id);
    }

    fn set_state(&mut self, id: ConnectionId, state: State) {
        let Some(connection) = self.open.get_mut(&id) else { return };
        match std::mem::replace(&mut connection.state, state) {
            State::New(sequence) => drop(self.new.remove(&sequence)),
            State::Idle(sequence) => drop(self.idle.remove(&sequence)),
            State::Active => {}
        }
        match state {
            State::New(sequence) => drop(self.new.insert(sequence, id)),
            State::Idle(sequence) => drop(self.idle.insert(sequence, id)),
            State::Active => {}
        }
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

/// Longer than a client on a busy machine takes from its connection to its request.
pub(super) const MIN_NEW_AGE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootTime = BootTime::new(Duration::from_secs(100));
    const LATER: BootTime = NOW.plus(MIN_NEW_AGE);

    /// A full table of `max` connections, whose handles are 0, 1, 2, …
    fn full(max: usize) -> (ConnectionTable<usize>, Vec<ConnectionId>) {
        let mut table = ConnectionTable::new(max);
        let ids = (0..max).map(|handle| table.open(handle, NOW).unwrap()).collect();
        assert!(table.open(max, NOW).is_none());
        (table, ids)
    }

    #[test]
    fn new_connections_give_way_oldest_first() {
        let (mut table, ids) = full(4);
        table.set_active(ids[0]);
        table.set_idle(ids[0]);
        for expected in [1, 2, 3] {
            assert_eq!(table.evict(LATER), Some(&expected));
            table.close(ids[expected]);
        }
        assert_eq!(table.evict(LATER), Some(&0));
    }

    #[test]
    fn the_longest_idle_connection_gives_way_next() {
        let (mut table, ids) = full(3);
        for id in [2, 0, 1] {
            table.set_active(ids[id]);
        }
        for id in [1, 2, 0] {
            table.set_idle(ids[id]);
        }
        table.set_active(ids[1]);
        assert_eq!(table.evict(NOW), Some(&2));
    }

    #[test]
    fn active_connection_never_gives_way() {
        let (mut table, ids) = full(3);
        ids.iter().for_each(|id| table.set_active(*id));
        assert_eq!(table.evict(LATER), None);
        table.set_idle(ids[1]);
        assert_eq!(table.evict(LATER), Some(&1));
    }

    #[test]
    fn request_after_eviction_saves_its_connection() {
        let (mut table, ids) = full(2);
        assert_eq!(table.evict(NOW), Some(&0));
        assert!(table.is_evicted(ids[0]));
        table.set_active(ids[0]);
        assert!(!table.is_evicted(ids[0]));
        assert_eq!(table.evict(NOW), Some(&1));
    }

    #[test]
    fn one_connection_gives_way_for_one() {
        let (mut table, ids) = full(4);
        assert_eq!(table.evict(LATER), Some(&0));
        assert_eq!(table.evict(LATER), None);
        table.close(ids[0]);
        assert!(table.open(4, LATER).is_some());
        assert_eq!(table.evict(LATER), Some(&1));
    }

    #[test]
    fn new_connection_is_spared_among_busy_ones() {
        let (mut table, ids) = full(4);
        ids[..3].iter().for_each(|id| table.set_active(*id));
        assert_eq!(table.evict(NOW), None);
        assert_eq!(table.evict(LATER), Some(&3));
    }

    #[test]
    fn new_connection_gives_way_in_a_flood() {
        let (mut table, ids) = full(4);
        ids[2..].iter().for_each(|id| table.set_active(*id));
        assert_eq!(table.evict(NOW), Some(&0));
    }

    #[test]
    fn closed_connections_leave_nothing_behind() {
        let (mut table, ids) = full(3);
        table.set_active(ids[0]);
        table.set_active(ids[1]);
        table.set_idle(ids[1]);
        table.evict(NOW);
        ids.iter().for_each(|id| table.close(*id));
        assert_eq!((table.len(), table.new.len(), table.idle.len(), table.evicted), (0, 0, 0, None));
    }
}
