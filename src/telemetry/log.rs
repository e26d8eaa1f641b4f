//! The log: lines on stderr, text on a terminal and JSON elsewhere. Every line is redacted and then queued for a writer
//! thread, so that a reader that stops (a full pipe, Ctrl-S on a terminal) blocks no request.

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
/// are logged from `WARN` on only: below that their lines may contain headers.
pub fn start(format: Format, level: Level, audit_file: Option<audit::AuditFile>) -> io::Result<Started> {
    // The audit trail is complete at any log level.
    let audit_in_log = if audit_file.is_some() { LevelFilter::OFF } else { LevelFilter::INFO };
    let others = Targets::new().with_default(LevelFilter::WARN).with_target(audit::TARGET, audit_in_log);
    let (filter, handle) = reload::Layer::new(others.clone().with_target(OURS, level));
    let stderr = Redacted(|| &WRITER);
    let audit = audit_file.map(|file| {
        let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_target(false);
        // Not by way of the backlog: no token is vended before its line is written. On a volume that hangs, requests
        // wait.
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
        thread::Builder::new()
            .name("log".into())
            .spawn(|| WRITER.write_to(&mut io::stderr(), warn_dropped))?;
        let _ = FILTER.set((handle, others));
        panic::set_hook(Box::new(log_panic));
    }
    Ok(Started(()))
}

/// Logs a panic by way of the redaction and the backlog: its message may contain a secret, and its thread must not wait
/// for a reader that does not read.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(display);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| display(&backtrace));
    let message = panic.payload_as_str();
    // The event's own text is a field called `message`, which would stand twice in JSON.
    tracing::error!(location, panic_message = message, backtrace, "panic");
}

fn warn_dropped(lines: u64) {
    tracing::warn!(lines, "log lines dropped: the reader is too slow");
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

/// Waits until what was logged is written, but not for a reader that does not read.
pub fn flush() {
    WRITER.flush();
}

/// Writes why the process ends: after all logged lines, if the log runs.
pub fn exit_message(message: &str) {
    match FILTER.get() {
        Some(_) => {
            let _ = (&WRITER).write_all(format!("{}\n", redact(message)).as_bytes());
            flush();
        }
        None => eprintln!("{message}"),
    }
}

/// Lines dropped because the reader is too slow or has gone.
pub fn dropped_lines() -> u64 {
    WRITER.dropped()
}

/// From now on, writes what is at `level` or more important. Does nothing if the log has not been started.
pub fn set_level(level: Level) {
    if let Some((handle, others)) = FILTER.get() {
        // Fails only if the log is gone, and then nothing is written at any level.
        let _ = handle.reload(others.clone().with_target(OURS, level));
    }
}

/// The filter of the log, of which a process has one, and what it lets through that is not ours.
static FILTER: OnceLock<(reload::Handle<Targets, Registry>, Targets)> = OnceLock::new();
static WRITER: NonBlockingWriter = NonBlockingWriter::new();
const OURS: &str = "ghtokend";

/// Makes writers that redact: the last line of defence.
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
    fn token_in_a_line_is_redacted() {
        let mut writer = RedactingWriter(Vec::new());
        writer.write_all(b"minted ghs_1001_abc.d-e_f0123456789 today\n").unwrap();
        assert_eq!(String::from_utf8(writer.0).unwrap(), "minted [redacted] today\n");
    }

    #[test]
    fn oversized_line_is_cut_before_redaction() {
        let mut writer = RedactingWriter(Vec::new());
        let token = "ghs_0123456789abcdef0123456789abcdef0123";
        let line = "x ".repeat(MAX_LINE_BYTES / 2 - 10) + token + &" y".repeat(1 << 20);
        writer.write_all(line.as_bytes()).unwrap();
        let written = String::from_utf8(writer.0).unwrap();
        assert!(written.len() <= MAX_LINE_BYTES && written.ends_with("x …\n"), "{}", written.len());
    }

    #[test]
    fn panic_is_logged_with_redacted_message() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Written(Arc::clone(&written));
        let lines = tracing_subscriber::fmt::layer().json().flatten_event(true);
        let subscriber =
            tracing_subscriber::registry().with(lines.with_writer(Redacted(move || writer.clone())));
        let before = panic::take_hook();
        panic::set_hook(Box::new(log_panic));
        tracing::subscriber::with_default(subscriber, || {
            let _ = panic::catch_unwind(|| panic!("no room for ghs_1001_abc.d-e_f0123456789 here"));
        });
        panic::set_hook(before);
        let line: serde_json::Value = serde_json::from_slice(&written.lock().unwrap()).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["panic_message"], "no room for [redacted] here");
        assert!(line["location"].as_str().unwrap().starts_with("src/telemetry/log.rs:"), "{line}");
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
