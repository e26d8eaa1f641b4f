//! Reports on stdout.

use std::io::{self, ErrorKind, Write as _};

/// Prints a report. A reader such as `head` may close the pipe early.
pub(super) fn print(report: &[u8]) -> io::Result<()> {
    io::stdout().write_all(report).or_else(|error| match error.kind() {
        ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}
