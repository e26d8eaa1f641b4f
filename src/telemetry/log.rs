//! The log: lines on stderr, text on a terminal and JSON elsewhere. Everything written passes the redaction, and then
//! waits for its reader in a backlog, so that a reader who stops, as a full pipe or Ctrl-S on a terminal, stops nobody.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::{Mutex, OnceLock};
use std::thread;

use tracing::Level;
use tracing::field::display;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

use super::audit;
use super::non_blocking_writer::NonBlockingWriter;
use crate::model::{cut_before_redaction, redact};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For people at a terminal.
    Colour,
    /// For machines.
    Json,
}

/// Starts the log of this process: at `level` to stderr, the audit trail to `audit_file` if there is one. Dependencies
/// are heard from `WARN` on only: what they say below that may hold headers.
pub fn start(format: Format, level: Level, audit_file: Option<audit::AuditFile>) -> io::Result<Started> {
    // Which hand-outs are on record does not depend on how much else is logged.
    let audit_in_log = if audit_file.is_some() { LevelFilter::OFF } else { LevelFilter::INFO };
    let others = Targets::new().with_default(LevelFilter::WARN).with_target(audit::TARGET, audit_in_log);
    let (filter, handle) = reload::Layer::new(others.clone().with_target(OURS, level));
    let stderr = Redacted(|| &WRITER);
    let audit = audit_file.map(|file| {
        let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_target(false);
        // Not by way of the backlog: no token is handed out whose line has not reached the system. On a volume that
        // hangs, that makes requests wait.
        lines
            .with_writer(Redacted(Mutex::new(file)))
            .with_filter(Targets::new().with_target(audit::TARGET, Level::INFO))
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let lines = match format {
        Format::Text | Format::Colour => lines.with_ansi(format == Format::Colour).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter)).with(audit);
    // A second start in one process, as in tests, leaves the first in place.
    if subscriber.try_init().is_ok() {
        thread::Builder::new().name("log".into()).spawn(|| WRITER.write_to(&mut io::stderr(), gap))?;
        let _ = IN_FORCE.set((handle, others));
        panic::set_hook(Box::new(tell_of_panic));
    }
    Ok(Started(()))
}

/// A panic takes the way of everything else: its message may hold what must not be seen, and its thread must not wait for
/// a reader who does not read.
fn tell_of_panic(panic: &PanicHookInfo<'_>) {
    let at = panic.location().map(display);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| display(&backtrace));
    let said = panic.payload_as_str();
    tracing::error!(at, said, backtrace, "a defect: please report it");
}

fn gap(lines: u64) {
    tracing::warn!(lines, "the log has a gap: its reader was too slow for so many lines");
}

/// The log runs. Dropping this, at the end of the process, [flushes](flush).
#[derive(Debug)]
#[must_use]
pub struct Started(());

impl Drop for Started {
    fn drop(&mut self) {
        flush();
    }
}

/// Waits until what was logged is written, but not for a reader who does not read.
pub fn flush() {
    WRITER.flush();
}

/// Says why the process ends: after all that was logged, if the log runs.
pub fn last_words(words: &str) {
    match IN_FORCE.get() {
        Some(_) => {
            let _ = (&WRITER).write_all(format!("{}\n", redact(words)).as_bytes());
            flush();
        }
        None => eprintln!("{words}"),
    }
}

/// Lines that nobody will read, because the reader was too slow or has gone.
pub fn dropped_lines() -> u64 {
    WRITER.dropped()
}

/// From now on, writes what is at `level` or more important. Does nothing if the log has not been started.
pub fn set_level(level: Level) {
    if let Some((handle, others)) = IN_FORCE.get() {
        // Fails only if the log is gone, and then nothing is written at any level.
        let _ = handle.reload(others.clone().with_target(OURS, level));
    }
}

/// The filter of the log, of which a process has one, and what it lets through that is not ours.
static IN_FORCE: OnceLock<(reload::Handle<Targets, Registry>, Targets)> = OnceLock::new();
static WRITER: NonBlockingWriter = NonBlockingWriter::new();
const OURS: &str = "ghtokend";

/// Hands out writers that redact. The last line of defence: nothing should reach it that needs it.
struct Redacted<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Redacted<M> {
    type Writer = RedactingWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        RedactingWriter(self.0.make_writer())
    }
}

/// Redacts what is written to it. A line comes as one write.
struct RedactingWriter<W>(W);

impl<W: Write> Write for RedactingWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(redacted_line(line).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Cut first, so that the time for a line has a bound whatever is in it.
fn redacted_line(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    if text.len() <= MAX_LINE_BYTES {
        return redact(&text).into_owned();
    }
    format!("{}{CUT}", redact(cut_before_redaction(&text, MAX_LINE_BYTES - CUT.len())))
}

/// Twice what a request's head of 16 KiB comes to with each byte escaped as `\u0000`: only a defect writes more, and a
/// reader of JSON misses that line.
const MAX_LINE_BYTES: usize = 256 * 1024;
const CUT: &str = "…\n";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_token_in_a_line_does_not_reach_the_writer() {
        let mut writer = RedactingWriter(Vec::new());
        writer.write_all(b"minted ghs_1001_abc.d-e_f0123456789 today\n").unwrap();
        assert_eq!(String::from_utf8(writer.0).unwrap(), "minted [redacted] today\n");
    }

    #[test]
    fn a_line_without_bound_is_cut_before_redaction() {
        let mut writer = RedactingWriter(Vec::new());
        let token = "ghs_0123456789abcdef0123456789abcdef0123";
        let line = "x ".repeat(MAX_LINE_BYTES / 2 - 10) + token + &" y".repeat(1 << 20);
        writer.write_all(line.as_bytes()).unwrap();
        let written = String::from_utf8(writer.0).unwrap();
        assert!(written.len() <= MAX_LINE_BYTES && written.ends_with("x …\n"), "{}", written.len());
    }

    #[test]
    fn a_panic_is_a_redacted_line_of_the_log() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Written(Arc::clone(&written));
        let lines = tracing_subscriber::fmt::layer().json().flatten_event(true);
        let subscriber =
            tracing_subscriber::registry().with(lines.with_writer(Redacted(move || writer.clone())));
        let before = panic::take_hook();
        panic::set_hook(Box::new(tell_of_panic));
        tracing::subscriber::with_default(subscriber, || {
            let _ = panic::catch_unwind(|| panic!("no room for ghs_1001_abc.d-e_f0123456789 here"));
        });
        panic::set_hook(before);
        let line: serde_json::Value = serde_json::from_slice(&written.lock().unwrap()).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["said"], "no room for [redacted] here");
        assert!(line["at"].as_str().unwrap().starts_with("src/telemetry/log.rs:"), "{line}");
    }

    #[derive(Clone)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
