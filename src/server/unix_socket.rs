//! The unix socket and its file.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};

use super::listen::{BACKLOG, BindError};

/// A bound unix socket, which takes its file with it when it is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    file: FileId,
}

/// Tells a file from another one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl UnixSocket {
    /// Binds `path` with `mode`. A socket that a dead process left behind is replaced, anything else is not touched.
    pub async fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        let failed = |source| BindError::Unix { path: path.to_owned(), source };
        // Until this is dropped no other daemon looks at, removes or binds the path, so that a socket that is found
        // stale is still that one when it is removed. The system releases the lock of a process that dies.
        let _lock = lock_directory(path).await.map_err(failed)?;
        remove_stale(path)?;
        let listener = bind_unix(path, mode).map_err(failed)?;
        let file = FileId::of(path).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), file })
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for UnixSocket {
    /// Another daemon's socket in its place stays. The listener is still open here, so that its inode is not in use for
    /// another file, and no daemon takes the path for stale between look and removal.
    fn drop(&mut self) {
        if FileId::of(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }
}

/// Locks the directory itself, so that no lock file is left behind. One that this user may write to and not read cannot
/// be locked: there, daemons that start at the same moment are on their own.
async fn lock_directory(path: &Path) -> io::Result<Option<File>> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = match File::open(directory.unwrap_or(Path::new("."))) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        opened => opened?,
    };
    let locked = async {
        while let Err(error) = flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            if error != Errno::WOULDBLOCK && error != Errno::INTR {
                return Err(io::Error::from(error));
            }
            // flock has no asynchronous wait; the holder keeps it for as long as binding takes.
            tokio::time::sleep(LOCK_RETRY_INTERVAL).await;
        }
        Ok(())
    };
    let busy = |_| io::Error::new(io::ErrorKind::TimedOut, "another process keeps its directory locked");
    tokio::time::timeout(LOCK_TIMEOUT, locked).await.map_err(busy)??;
    Ok(Some(directory))
}

/// Nobody can connect before `listen`, so the mode is in force before the first connection.
fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let socket = socket()?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let listen = || -> io::Result<()> {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        Ok(net::listen(&socket, BACKLOG.cast_signed())?)
    };
    listen().inspect_err(|_| drop(std::fs::remove_file(path)))?;
    UnixListener::from_std(socket.into())
}

fn socket() -> rustix::io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let occupied = |what| BindError::Occupied { path: path.to_owned(), what };
    let failed = |source| BindError::Unix { path: path.to_owned(), source };
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(occupied("there is something that is no socket: move it away or choose another path"));
    }
    let connect = || net::connect(&socket()?, &SocketAddrUnix::new(path)?);
    match connect() {
        // Its backlog is full.
        Ok(()) | Err(Errno::AGAIN) => {
            Err(occupied("another process is listening there: stop it or choose another path"))
        }
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path).map_err(failed),
        Err(error) => Err(failed(error.into())),
    }
}

/// Other daemons hold the lock for as long as a bind takes.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// `flock` that waits would block the runtime, and has no deadline.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(5);
