//! The endpoint as its callers, its enemies and its operators meet it: guards, sockets, health, metrics, stopping.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::Duration;

use ghtokend::app;
use ghtokend::fake_github::{Effect, Fault};
use ghtokend::server::UnixSocket;
use ghtokend::settings::{Environment, Settings, Sources};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::world::{Setup, World, answer, get, send, send_unix, until};

/// `GET /token` with these lines for headers. `None`: closed without an answer.
async fn with_headers(world: &World, lines: &[&str]) -> Option<u16> {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!("GET /token HTTP/1.1\r\n{lines}Connection: close\r\n\r\n");
    send(world.address, &request).await.map(|reply| reply.status)
}

#[tokio::test]
async fn the_guards_hold_on_the_wire() {
    let world = World::start().await;
    let client = "Ghtokend-Client: t";
    for (lines, status) in [
        (&["Host: localhost", client][..], Some(200)),
        (&["Host: LOCALHOST:9", client], Some(200)),
        (&["Host: [::1]:7171", client], Some(200)),
        (&["Host: localhost", "Authorization: bearer x"], Some(200)),
        (&["Host: localhost", "Authorization: Basic eDp5"], Some(403)),
        (&["Host: localhost"], Some(403)),
        (&["Host: localhost", "Ghtokend-Client:"], Some(403)),
        (&[client], Some(400)),
        (&["Host: localhost", "Host: localhost", client], Some(400)),
        (&["Host: evil.example", client], Some(403)),
        (&["Host: 127.0.0.1.evil.example", client], Some(403)),
        (&["Host: localhost.", client], Some(403)),
        (&["Host: 0.0.0.0:7171", client], Some(403)),
        (&["Host: x@localhost", client], Some(403)),
        (&["Host: localhost", client, "Origin: http://localhost"], Some(403)),
        (&["Host: localhost", client, "ORIGIN: null"], Some(403)),
        (&["Host: localhost", client, "Referer: http://evil.example/"], Some(403)),
        (&["Host: localhost", client, "Cookie: a=b"], Some(403)),
        (&["Host: localhost", client, "Sec-Fetch-Site: same-origin"], Some(403)),
        (&["Host: localhost", client, "Sec-Fetch-Mode: cors"], Some(200)),
        (&["Host: localhost", client, "Sec-Fetch-Mode: no-cors"], Some(403)),
        (&["Host: localhost", client, "X-Forwarded-For:"], Some(403)),
        (&["Host: localhost", client, "X-Forwarded-Port: 1"], Some(403)),
        (&["Host: localhost", client, "X-Real-IP: 1.2.3.4"], Some(403)),
        (&["Host: localhost", client, "Forwarded: for=x"], Some(403)),
        (&["Host: localhost", client, "Via: 1.1 x"], Some(403)),
        (&["Host: localhost", client, "Proxy-Connection: close"], Some(403)),
        (&["Host: localhost", client, "Content-Length: 0", "Transfer-Encoding: chunked"], Some(400)),
        (&["Host: localhost", client, "Content-Length: 1", "Content-Length: 2"], Some(400)),
        (&["Host: localhost", client, "Content-Length: +5"], Some(400)),
        (&["Host: localhost", client, "Transfer-Encoding: xchunked"], Some(400)),
        (&["Host : localhost", client], Some(400)),
        (&["Host: localhost", client, " folded"], Some(400)),
    ] {
        assert_eq!(with_headers(&world, lines).await, status, "{lines:?}");
    }
}

#[tokio::test]
async fn odd_request_lines_get_no_token() {
    let world = World::start().await;
    let head = "Host: localhost\r\nGhtokend-Client: t\r\nConnection: close\r\n\r\n";
    for (line, status) in [
        ("GET http://localhost/token HTTP/1.1", Some(400)),
        ("GET http://evil.example/token HTTP/1.1", Some(400)),
        ("GET //token HTTP/1.1", Some(404)),
        ("GET /token/ HTTP/1.1", Some(404)),
        ("GET /a/../token HTTP/1.1", Some(404)),
        ("GET /%74oken HTTP/1.1", Some(404)),
        ("GET /TOKEN HTTP/1.1", Some(404)),
        ("CONNECT localhost:80 HTTP/1.1", Some(405)),
        ("OPTIONS * HTTP/1.1", Some(400)),
        ("TRACE /token HTTP/1.1", Some(405)),
        ("GET /token HTTP/1.0", Some(200)),
        ("GET /token HTTP/3.0", Some(400)),
        ("PRI * HTTP/2.0", Some(400)),
        ("GET /to ken HTTP/1.1", Some(400)),
        ("nonsense", Some(400)),
    ] {
        let reply = send(world.address, &format!("{line}\r\n{head}")).await;
        assert_eq!(reply.map(|reply| reply.status).filter(|status| *status != 505), status, "{line}");
    }
}

#[tokio::test]
async fn head_response_has_no_body() {
    let world = World::start().await;
    let request =
        "HEAD /token HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nConnection: close\r\n\r\n";
    let reply = send(world.address, request).await.unwrap();
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert!(reply.header("ghtokend-token-expires-at").is_some());
}

#[tokio::test]
async fn keep_alive_requests_have_distinct_ids() {
    let world = World::start().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        ids.insert(answer.lines().find(|line| line.starts_with("x-request-id")).unwrap().to_owned());
    }
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn guards_follow_the_listen_configuration() {
    let environment = vec![
        ("GHTOKEND_LISTEN__REQUIRE_CLIENT_HEADER", "false".to_owned()),
        ("GHTOKEND_LISTEN__ALLOWED_HOSTS", "tokens.internal".to_owned()),
    ];
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    assert_eq!(with_headers(&world, &["Host: tokens.internal:7171"]).await, Some(200));
    assert_eq!(with_headers(&world, &["Host: other.internal"]).await, Some(403));
    assert_eq!(with_headers(&world, &["Host: localhost", "Origin: http://x"]).await, Some(403));
}

#[tokio::test]
async fn more_requests_than_places_wait_for_their_turn() {
    let environment = vec![("GHTOKEND_LISTEN__MAX_CONNECTIONS", "1".to_owned())];
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    let hold = world.github.hold("POST", "/app/installations");
    let first = tokio::spawn(get(world.address, "/token"));
    hold.reached(1).await;
    let mut second = TcpStream::connect(world.address).await.unwrap();
    second.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), second.read(&mut [0])).await;
    assert!(early.is_err(), "the second was served beside the first");
    hold.release();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(answer(second).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_idle_listener_takes_no_place_from_a_busy_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.sock");
    let environment = vec![
        ("GHTOKEND_LISTEN__MAX_CONNECTIONS", "1".to_owned()),
        ("GHTOKEND_LISTEN__UNIX", path.display().to_string()),
    ];
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    for _ in 0..3 {
        assert_eq!(world.get("/healthz").await.status, 200);
        assert_eq!(send_unix(&path, "GET /healthz HTTP/1.0\r\n\r\n").await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn the_guards_hold_for_paths_that_there_are_not() {
    let world = World::start().await;
    let ask = |host: &str| format!("GET /nope HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert_eq!(send(world.address, &ask("evil.example")).await.unwrap().code(), "caller_forbidden");
    assert_eq!(send(world.address, &ask("localhost")).await.unwrap().code(), "not_found");
}

#[tokio::test]
async fn unix_socket_has_mode_without_guards() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.sock");
    let environment = vec![
        ("GHTOKEND_LISTEN__UNIX", path.display().to_string()),
        ("GHTOKEND_LISTEN__UNIX_MODE", "0600".to_owned()),
    ];
    let mut world = World::with(Setup { environment, ..Setup::default() }).await;
    let found = std::fs::metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let reply = send_unix(&path, "GET /token HTTP/1.0\r\n\r\n").await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let forwarded = send_unix(&path, "GET /token HTTP/1.0\r\nX-Forwarded-For: x\r\n\r\n").await.unwrap();
    assert_eq!(forwarded.status, 403);
    world.stopped().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn only_a_stale_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let live = UnixSocket::bind(&path, 0o660).await.unwrap();
    let second = UnixSocket::bind(&path, 0o660).await.unwrap_err().to_string();
    assert!(
        second.ends_with("another process is listening there: stop it or choose another path"),
        "{second}"
    );
    drop(live);
    std::fs::write(&path, "precious").unwrap();
    let file = UnixSocket::bind(&path, 0o660).await.unwrap_err().to_string();
    assert!(file.ends_with("is no socket: move it away or choose another path"), "{file}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn ops_listener_serves_any_host_without_tokens() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let environment = vec![("GHTOKEND_LISTEN__OPS", free.to_string())];
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    world.token("/token").await;
    let ask = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: 10.0.0.7:9171\r\nVia: x\r\nConnection: close\r\n\r\n")
    };
    for (path, status) in [("/healthz", 200), ("/metrics", 200), ("/token", 404), ("/status", 404)] {
        assert_eq!(send(free, &ask(path)).await.unwrap().status, status, "{path}");
    }
}

#[tokio::test]
async fn readiness_survives_an_outage_after_first_success() {
    let world = World::with(Setup { environment: Vec::new(), ..Setup::default() }).await;
    assert_eq!(world.get("/healthz").await.text(), "ok\n");
    until(|| async { world.get("/readyz").await.status == 200 }).await;
    world.github.fault(Fault::new(Effect::Html { status: 503 }));
    assert_eq!(world.get("/token").await.status, 503);
    assert_eq!(world.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn readiness_reason_clears_with_a_mint() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let environment = vec![("GITHUB_API_URL", format!("http://{nobody}"))];
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    until(|| async { !world.get("/readyz").await.text().contains("has not been reached yet") }).await;
    let reply = world.get("/readyz").await;
    assert_eq!(reply.status, 503);
    assert!(reply.text().starts_with("app default: could not connect to 127.0.0.1"), "{}", reply.text());
    // Who the app is cannot be asked here, but a mint shows that GitHub accepts it.
    let world = World::start().await;
    world.github.fault(Fault::new(Effect::Stall).on("GET", "/app"));
    world.token("/token").await;
    assert_eq!(world.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn metrics_count_requests_by_outcome() {
    let world = World::start().await;
    world.token("/token").await;
    world.token("/token").await;
    world.get("/token?owner=nobody").await;
    let text = world.get("/metrics").await;
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "ghtokend_vends_total{app=\"default\",outcome=\"minted\"} 1",
        "ghtokend_vends_total{app=\"default\",outcome=\"cached\"} 1",
        "ghtokend_vends_total{app=\"default\",outcome=\"unknown_installation\"} 1",
        "ghtokend_mints_total{app=\"default\",outcome=\"ok\",priority=\"foreground\"} 1",
        "ghtokend_mint_duration_seconds_count{app=\"default\"} 1",
        "ghtokend_cached_tokens 1",
        "ghtokend_http_requests_total{endpoint=\"token\",status=\"200\"} 2",
    ] {
        assert!(text.text().lines().any(|found| found == line), "{line} is not in\n{}", text.text());
    }
    let open = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text; version=1.0.0\r\nConnection: close\r\n\r\n";
    let open = send(world.address, open).await.unwrap();
    assert!(open.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(open.text().ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_status_shows_every_token_but_its_secret() {
    let world = World::start().await;
    let token = world.token("/token?repo=acme/widgets&permissions=contents:read").await;
    let status = world.get("/status").await;
    assert!(!status.text().contains(&token) && !status.text().contains("ghs_"));
    let held = &status.json()["tokens"][0];
    assert_eq!(held["scope"], "repositories=widgets permissions=contents:read");
    assert_eq!((&held["account"], &held["state"]), (&"acme".into(), &"fresh".into()));
    assert_eq!(held["hashed_token"].as_str().map(str::len), Some(44));
    assert!(status.json()["apps"][0]["key_fingerprint"].as_str().unwrap().starts_with("SHA256:"));
    assert!(status.json()["clock_offset_seconds"].is_number());
}

#[tokio::test]
async fn status_is_bounded_by_soonest_expiry() {
    let world = World::start().await;
    for target in ["/token?owner=acme", "/token?owner=octocat", "/token?repo=acme/widgets"] {
        world.token(target).await;
        world.advance(Duration::from_secs(60));
    }
    for (query, accounts, omitted) in [
        ("", &["acme", "octocat", "acme"][..], 0),
        ("?limit=1000", &["acme", "octocat", "acme"], 0),
        ("?limit=2", &["acme", "octocat"], 1),
        ("?limit=1", &["acme"], 2),
    ] {
        let status = world.get(&format!("/status{query}")).await.json();
        let shown: Vec<_> =
            status["tokens"].as_array().unwrap().iter().map(|token| &token["account"]).collect();
        assert_eq!(shown, accounts, "{query}");
        assert_eq!((&status["tokens_total"], &status["tokens_omitted"]), (&3.into(), &omitted.into()));
    }
    for query in ["limit=0", "limit=1001", "limit=", "limit=x", "limit=-1", "limit=1&limit=2", "top=3"] {
        let reply = world.get(&format!("/status?{query}")).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_request"), "{query}");
        assert!(reply.message().contains("limit"), "{}", reply.message());
    }
    let refused = world.get("/status?limit=0").await;
    assert!(refused.message().contains("numbers from 1 to 1000"), "{}", refused.message());
}

#[tokio::test]
async fn requests_in_hand_are_finished_before_the_daemon_ends() {
    let mut world = World::start().await;
    let hold = world.github.hold("POST", "/app/installations");
    let waiting = tokio::spawn(get(world.address, "/token"));
    hold.reached(1).await;
    world.begin_to_stop();
    hold.release();
    assert_eq!(waiting.await.unwrap().status, 200);
    world.stopped().await;
    assert!(TcpStream::connect(world.address).await.is_err());
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let environment = Environment::from_iter([("GHTOKEND_LISTEN__TCP", address.to_string())]);
    let settings = Settings::load(&Sources { environment, ..Sources::default() }).unwrap();
    let error = app::bind(&settings.listen).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("listen.tcp = {address}: ")), "{error}");
    assert!(error.ends_with("is another ghtokend running? Stop it, or choose another address"), "{error}");
}
