//! Places on the listeners: who is silent, slow or too large costs nobody else theirs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ghtokend::server::UnixSocket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::support::world::{Setup, World, answer, get, send, send_unix, until};

const HEALTHZ: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const KEPT: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// More than the buffers of two sockets hold.
const LARGE: usize = 16 << 20;
const TOKEN: &str =
    "GET /token HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nConnection: close\r\n\r\n";

async fn world_with(places: usize, more: &[(&'static str, String)]) -> World {
    let mut environment = vec![("GHTOKEND_LISTEN__MAX_CONNECTIONS", places.to_string())];
    environment.extend_from_slice(more);
    World::with(Setup { environment, ..Setup::default() }).await
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn silent(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(TcpStream::connect(address).await.unwrap());
    }
    streams
}

/// Less than a silent connection is kept for: whatever waits for that does not come in this time.
async fn at_once<T>(coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(8), coming).await.expect("it had to wait for its neighbours")
}

/// Sends a request and reads the answer on a connection that is kept.
async fn ask(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 1024];
    stream.write_all(KEPT.as_bytes()).await.is_ok()
        && stream.read(&mut answer).await.is_ok_and(|read| answer[..read].starts_with(b"HTTP/1.1 200"))
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    !matches!(at_once(stream.read(&mut [0])).await, Ok(1..))
}

#[tokio::test]
async fn health_answers_beside_silent_connections_to_ops() {
    let ops = free_address();
    let world = world_with(1024, &[("GHTOKEND_LISTEN__OPS", ops.to_string())]).await;
    let _silent = silent(ops, 130).await;
    for _ in 0..3 {
        assert_eq!(at_once(send(ops, HEALTHZ)).await.unwrap().status, 200);
    }
    assert_eq!(world.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn health_answers_beside_deliveries_that_never_end() {
    let (ops, secret) = (free_address(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(secret.path(), "a secret of two parties").unwrap();
    let secret = ("GHTOKEND_WEBHOOK__SECRET_FILE", secret.path().display().to_string());
    let _world = world_with(1024, &[("GHTOKEND_LISTEN__OPS", ops.to_string()), secret]).await;
    let mut deliveries = silent(ops, 100).await;
    for stream in &mut deliveries {
        let head = "POST /webhook HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=00\r\nContent-Length: 9\r\n\r\n";
        let _ = stream.write_all(head.as_bytes()).await;
    }
    // Their bodies have 5 s, and would be waited for one after the other.
    let asked = tokio::time::timeout(Duration::from_secs(3), send(ops, HEALTHZ)).await;
    assert_eq!(asked.expect("it had to wait for bodies").unwrap().status, 200);
}

#[tokio::test]
async fn tokens_are_vended_beside_silent_connections() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.sock");
    let world = world_with(100, &[("GHTOKEND_LISTEN__UNIX", path.display().to_string())]).await;
    let _silent = silent(world.address, 250).await;
    let mut silent_too = Vec::new();
    for _ in 0..250 {
        silent_too.push(UnixStream::connect(&path).await.unwrap());
    }
    for request in [TOKEN, HEALTHZ] {
        assert_eq!(at_once(send(world.address, request)).await.unwrap().status, 200);
        assert_eq!(at_once(send_unix(&path, request)).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn requests_in_hand_are_never_evicted() {
    let world = world_with(4, &[]).await;
    let hold = world.github.hold("POST", "/app/installations");
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(TOKEN.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    hold.reached(1).await;
    // They knock in vain, and so does a request, until there is a place.
    let _silent = silent(world.address, 9).await;
    let late = tokio::spawn(get(world.address, "/token"));
    hold.release();
    for stream in waiting {
        assert_eq!(answer(stream).await.unwrap().status, 200);
    }
    assert_eq!(at_once(late).await.unwrap().status, 200);
    assert_eq!(world.mints(), 1);
}

#[tokio::test]
async fn the_longest_idle_connection_is_evicted_first() {
    let world = world_with(3, &[]).await;
    let mut kept = silent(world.address, 3).await;
    for stream in &mut kept {
        assert!(ask(stream).await);
    }
    assert!(ask(&mut kept[0]).await);
    assert_eq!(at_once(get(world.address, "/healthz")).await.status, 200);
    assert!(is_closed(&mut kept[1]).await);
    assert!(ask(&mut kept[0]).await && ask(&mut kept[2]).await);
}

#[tokio::test]
async fn connections_are_counted_for_each_listener() {
    let ops = free_address();
    let world = world_with(1024, &[("GHTOKEND_LISTEN__OPS", ops.to_string())]).await;
    let silent = silent(world.address, 5).await;
    let metrics = async || {
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        send(ops, request).await.unwrap().text()
    };
    let says = |text: &str, listener: &str, count: usize| {
        let line = format!("ghtokend_connections{{listener=\"{listener}\"}} {count}");
        text.lines().any(|found| found == line)
    };
    until(|| async {
        let text = metrics().await;
        says(&text, "tcp", 5) && says(&text, "ops", 1) && !text.contains("listener=\"unix\"")
    })
    .await;
    drop(silent);
    until(|| async { says(&metrics().await, "tcp", 0) }).await;
}

/// Sends all of `request` before it reads, as most clients do.
async fn send_then_read(
    address: SocketAddr,
    head: &str,
    body: usize,
) -> Option<crate::support::world::Reply> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; body]).await.expect("it was reset before all was sent");
    answer(stream).await
}

#[tokio::test]
async fn a_refusal_before_the_body_is_read_by_its_client() {
    let world = World::start().await;
    let head = "POST /token/reject HTTP/1.1\r\nHost: localhost\r\n";
    let (client, length) = ("Ghtokend-Client: t\r\n", "Content-Length: 16777216\r\n\r\n");
    let chunked = "Transfer-Encoding: chunked\r\n\r\n1000000\r\n";
    let small = "Content-Length: 9\r\n\r\n";
    for (head, body, status) in [
        (format!("{head}{client}{length}"), LARGE, 413),
        (format!("{head}{client}{chunked}"), LARGE, 413),
        (format!("{head}{length}"), LARGE, 403),
        (format!("{head}{small}"), 9, 403),
        (format!("GET /token HTTP/1.1\r\nHost: localhost\r\n{client}{small}"), 9, 400),
        (format!("POST /nope HTTP/1.1\r\nHost: localhost\r\n{client}{small}"), 9, 404),
    ] {
        let reply = at_once(send_then_read(world.address, &head, body)).await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (status, Some("close")), "{head}");
    }
}

#[tokio::test]
async fn a_head_beyond_every_buffer_is_a_431_that_is_read() {
    let world = World::start().await;
    let head = "GET /token HTTP/1.1\r\nHost: localhost\r\nX: ";
    let reply = at_once(send_then_read(world.address, head, 256 * 1024)).await.unwrap();
    assert_eq!(reply.status, 431);
}

#[tokio::test]
async fn a_list_of_500_repositories_fits_into_a_head() {
    let world = World::start().await;
    let names: Vec<String> = (0..500).map(|n| format!("a-repository-name-{n:08}")).collect();
    let reply = world.get(&format!("/token?repositories={}", names.join(","))).await;
    assert_eq!(reply.code(), "scope_not_granted", "{}", reply.text());
}

async fn answers(path: &Path) -> bool {
    UnixStream::connect(path).await.is_ok()
}

#[tokio::test]
async fn a_daemon_that_ends_leaves_the_socket_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.sock");
    let first = UnixSocket::bind(&path, 0o660).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = UnixSocket::bind(&path, 0o660).await.unwrap();
    drop(first);
    assert!(answers(&path).await);
    drop(second);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_starts_on_a_stale_socket_have_one_winner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.sock");
    for _ in 0..50 {
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let mut starters = JoinSet::new();
        for _ in 0..8 {
            let path = path.clone();
            starters.spawn(async move { UnixSocket::bind(&path, 0o660).await });
        }
        let (won, lost): (Vec<_>, Vec<_>) = starters.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 7));
        for error in lost {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("another process is listening there"), "{error}");
        }
        assert!(answers(&path).await);
        drop(won);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
