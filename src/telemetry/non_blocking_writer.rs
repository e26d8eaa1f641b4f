//! Non-blocking writer of the log: a thread writes the lines, so that no request waits for a slow reader.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Queue of lines that are not written yet. A line that exceeds its capacity is dropped and counted.
///
/// In place of a crate such as tracing-appender, because it is bounded in bytes, and because nothing here ever waits
/// for the streams of this process, not even at its end.
#[derive(Debug)]
pub(super) struct NonBlockingWriter {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    /// Of these lines and the one that is being written.
    bytes: usize,
}

impl NonBlockingWriter {
    pub(super) const fn new() -> Self {
        let waiting = Waiting { lines: VecDeque::new(), bytes: 0 };
        Self { waiting: Mutex::new(waiting), changed: Condvar::new(), dropped: AtomicU64::new(0) }
    }

    /// Lines dropped: the queue was full, or they could not be written.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, but not for a reader that does not read.
    pub(super) fn flush(&self) {
        let is_waiting = |waiting: &mut Waiting| waiting.bytes > 0;
        self.changed.wait_while_for(&mut self.waiting.lock(), is_waiting, FLUSH_TIMEOUT);
    }

    /// Writes line after line to `output`, for ever. Once it has caught up after a gap, calls `on_catch_up` with the
    /// number of lines dropped.
    pub(super) fn write_to(&self, output: &mut impl Write, on_catch_up: impl Fn(u64)) -> ! {
        let mut reported = self.dropped();
        loop {
            let line = self.next();
            let written = output.write_all(&line);
            if written.is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            let dropped = self.dropped();
            if self.done(&line) && written.is_ok() && dropped > reported {
                on_catch_up(dropped - reported);
                reported = dropped;
            }
        }
    }

    fn add(&self, line: &[u8]) {
        let mut waiting = self.waiting.lock();
        if waiting.bytes + line.len() > CAPACITY {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.to_vec());
        self.changed.notify_all();
    }

    fn next(&self) -> Vec<u8> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                return line;
            }
            self.changed.wait(&mut waiting);
        }
    }

    /// Whether that was the last line.
    fn done(&self, line: &[u8]) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.bytes -= line.len();
        self.changed.notify_all();
        waiting.bytes == 0
    }
}

impl Write for &NonBlockingWriter {
    /// A line comes as one write.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A few thousand lines.
const CAPACITY: usize = 1 << 20;
/// At the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
