//! Binding of TCP addresses, and why an address cannot be bound.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::{TcpListener, TcpSocket};

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP address cannot be bound.
    #[error("{key} = {address}: {source}{hint}", hint = hint(source))]
    Tcp {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A unix socket cannot be bound.
    #[error("listen.unix = {path}: {source}{hint}", path = path.display(), hint = hint(source))]
    Unix {
        /// The socket's path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something else is in the place of the unix socket.
    #[error("listen.unix = {path}: {what}", path = path.display())]
    Occupied {
        /// The socket's path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; is another ghtokend running? Stop it, or choose another address",
        io::ErrorKind::PermissionDenied => "; choose a place that this user may use",
        _ => "",
    }
}

/// Binds a TCP address, within a runtime. `key` is the one that configured it.
pub fn bind_tcp(key: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart does not wait for connections of the previous process in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| BindError::Tcp { key, address, source })
}

/// Connections that wait to be accepted, as far as the system allows (`net.core.somaxconn`). With the usual 128, a burst
/// of callers waits for a second or is refused.
pub(super) const BACKLOG: u32 = 4096;
