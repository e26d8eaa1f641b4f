//! The places of a listener, shared by its accept loop and its connections: [`ConnectionTable`] decides, this waits and
//! wakes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connections::{ConnectionId, ConnectionTable, MIN_NEW_AGE};
use crate::clock::{Clock, SystemClock};
use crate::telemetry::metrics::Connections;

/// The places of one listener.
pub(super) struct Slots {
    table: Mutex<ConnectionTable<Arc<Notify>>>,
    /// A place may have become free, or a connection that can give way.
    changed: Notify,
    open: Connections,
}

/// The place of one connection, given back when dropped.
pub(super) struct Slot {
    slots: Arc<Slots>,
    id: ConnectionId,
    evicted: Arc<Notify>,
    is_active: AtomicBool,
    is_answered: AtomicBool,
    leaves_bytes_unread: AtomicBool,
}

impl Slots {
    pub(super) fn new(max: usize, open: Connections) -> Arc<Self> {
        open.set(0);
        Arc::new(Self { table: Mutex::new(ConnectionTable::new(max)), changed: Notify::new(), open })
    }

    /// A place for a connection that was accepted. Where all are taken, an idle connection gives way.
    pub(super) async fn acquire(self: &Arc<Self>) -> Slot {
        let evicted = Arc::new(Notify::new());
        loop {
            if let Some(id) = self.open_or_evict(&evicted) {
                let slots = Arc::clone(self);
                let [is_active, is_answered, leaves_bytes_unread] = Default::default();
                return Slot { slots, id, evicted, is_active, is_answered, leaves_bytes_unread };
            }
            // By then, a connection that is spared because it is new is old enough.
            let _ = tokio::time::timeout(MIN_NEW_AGE, self.changed.notified()).await;
        }
    }

    fn open_or_evict(&self, evicted: &Arc<Notify>) -> Option<ConnectionId> {
        let now = SystemClock.boot();
        let mut table = self.table.lock();
        let opened = table.open(Arc::clone(evicted), now);
        self.open.set(table.len());
        if opened.is_none()
            && let Some(connection) = table.evict(now)
        {
            connection.notify_one();
        }
        opened
    }
}

impl Slot {
    /// A whole head has come.
    pub(super) fn begin_request(&self) {
        self.is_answered.store(false, Ordering::Relaxed);
        self.is_active.store(true, Ordering::Relaxed);
        self.slots.table.lock().set_active(self.id);
        self.slots.changed.notify_one();
    }

    /// The answer is made; it is still to be written.
    pub(super) fn answer(&self) {
        self.is_answered.store(true, Ordering::Relaxed);
    }

    /// All that was to be written has gone to the system. Returns whether that was the end of a request.
    pub(super) fn finish_request(&self) -> bool {
        if !self.is_answered.swap(false, Ordering::Relaxed) {
            return false;
        }
        self.is_active.store(false, Ordering::Relaxed);
        self.slots.table.lock().set_idle(self.id);
        self.slots.changed.notify_one();
        true
    }

    /// Whether a request is in flight: from its whole head to the last byte of its answer.
    pub(super) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// The answer is given before all of the request was read: the client may still be sending it.
    pub(super) fn leave_bytes_unread(&self) {
        self.leaves_bytes_unread.store(true, Ordering::Relaxed);
    }

    /// Whether the client may still be sending bytes that are not read.
    pub(super) fn leaves_bytes_unread(&self) -> bool {
        self.leaves_bytes_unread.load(Ordering::Relaxed)
    }

    /// Comes back when this connection has to close to make room.
    pub(super) async fn evicted(&self) {
        loop {
            self.evicted.notified().await;
            // Lets the runtime look at the sockets once more: a request that has come by now is served.
            tokio::task::yield_now().await;
            if self.slots.table.lock().is_evicted(self.id) {
                return;
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.slots.table.lock();
        table.close(self.id);
        self.slots.open.set(table.len());
        self.slots.changed.notify_one();
    }
}
