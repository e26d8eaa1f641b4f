//! The audit trail: one line for every token vended and every request refused.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Scope, Selector, TokenKey, UserId};

/// The `target` of audit lines, by which the filter of the log selects them.
pub const TARGET: &str = "audit";

/// The request, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
    /// The id of the request, as in the answer's `X-Request-Id`.
    pub request_id: &'a str,
    /// The `Ghtokend-Client` header.
    pub client: Option<&'a str>,
    /// The uid of the peer, on the unix socket.
    pub uid: Option<u32>,
}

/// A token was vended. `hashed_token` is the base64 SHA-256 by which GitHub's own audit log knows it:
/// <https://docs.github.com/en/enterprise-cloud@latest/organizations/keeping-your-organization-secure/managing-security-settings-for-your-organization/identifying-audit-log-events-performed-by-an-access-token>.
pub fn vended(
    context: RequestContext<'_>,
    key: &TokenKey,
    cache: &'static str,
    hashed_token: &impl std::fmt::Display,
) {
    let RequestContext { request_id, client, uid } = context;
    tracing::info!(
        target: TARGET,
        request_id,
        client,
        uid,
        app = %key.app,
        installation = key.installation.get(),
        user = key.user.map(|user| user.get()),
        scope = %key.scope,
        cache,
        %hashed_token,
        "vended"
    );
    report_missing_line(request_id);
}

/// A caller revoked a token: it stops working for all callers that share it.
pub fn revoked(context: RequestContext<'_>, hashed_token: &impl std::fmt::Display) {
    let RequestContext { request_id, client, uid } = context;
    tracing::info!(target: TARGET, request_id, client, uid, %hashed_token, "revoked");
    report_missing_line(request_id);
}

/// The parameters of a request, as far as they could be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// Which installation.
    pub selector: Selector,
    /// The requested narrowing; `None` for a request that is not for a token.
    pub scope: Option<Arc<Scope>>,
    /// On whose behalf.
    pub user: Option<UserId>,
    /// Least remaining life.
    pub min_ttl: Option<Duration>,
}

/// A request was refused or failed, with `code` as in the answer.
pub fn refused(context: RequestContext<'_>, requested: Option<&Requested>, status: u16, code: &'static str) {
    let RequestContext { request_id, client, uid } = context;
    tracing::info!(
        target: TARGET,
        request_id,
        client,
        uid,
        selector = requested.map(|requested| requested.selector.to_string()),
        scope = requested.and_then(|requested| Some(requested.scope.as_ref()?.to_string())),
        user = requested.and_then(|requested| Some(requested.user?.get())),
        min_ttl_seconds = requested.and_then(|requested| Some(requested.min_ttl?.as_secs())),
        status,
        code,
        "refused"
    );
    report_missing_line(request_id);
}

/// The file of the audit trail. A full disk does not stop the vending.
#[derive(Debug)]
pub struct AuditFile<W = File> {
    file: W,
    /// Whether it may end in half a line.
    is_broken: bool,
}

impl AuditFile {
    /// The file at `path`, to be appended to. A pipe is none: requests would wait for its reader.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Without NONBLOCK, opening a named pipe would wait for that reader, too.
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o640).custom_flags(nonblock).open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_fifo() || kind.is_socket() {
            let message = "it is a pipe, and requests would wait for its reader: leave audit.file empty, and the audit \
                           goes into the log";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(Self::new(file))
    }
}

impl<W> AuditFile<W> {
    fn new(file: W) -> Self {
        Self { file, is_broken: false }
    }
}

impl<W: Write> Write for AuditFile<W> {
    /// A line comes as one write.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = match self.is_broken {
            true => self.file.write_all(&[b"\n", line].concat()),
            false => self.file.write_all(line),
        };
        self.is_broken = written.is_err();
        FAILURE.set(written.err());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

thread_local! {
    /// Why the last line of this thread is missing in the file. It cannot be logged while that line is being written.
    static FAILURE: Cell<Option<io::Error>> = const { Cell::new(None) };
}

/// Logs that the line about this request could not be written.
fn report_missing_line(request_id: &str) {
    if let Some(error) = FAILURE.take() {
        tracing::error!(%error, request_id, "audit line could not be written to audit.file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, and then no more.
    struct Disk {
        room: usize,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room);
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= fits;
            self.written.extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn half_a_line_spoils_no_other() {
        let mut trail = AuditFile::new(Disk { room: 9, written: Vec::new() });
        for line in ["first\n", "second\n", "third\n"] {
            trail.write_all(line.as_bytes()).unwrap();
            assert_eq!(FAILURE.take().is_some(), line != "first\n", "{line}");
        }
        trail.file.room = 100;
        for line in ["fourth\n", "fifth\n"] {
            trail.write_all(line.as_bytes()).unwrap();
            assert!(FAILURE.take().is_none());
        }
        assert_eq!(trail.file.written, b"first\nsec\nfourth\nfifth\n");
    }
}
