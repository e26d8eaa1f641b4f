//! Every error that a caller can meet, provoked through the real socket: status, code, and a message that says what
//! to do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ghtokend::broker::freshness::Windows;
use ghtokend::broker::{self, Broker};
use ghtokend::clock::{Clock, GithubClock, SystemClock};
use ghtokend::fake_github::{Effect, Fault, Options, World as GithubWorld};
use ghtokend::github::{Github, Reply as GithubReply};
use ghtokend::model::{AppName, Grant, InstallationToken, Minted, Secret, SecretBytes, TokenKey};
use ghtokend::server::{self, Guard, Listeners, Server, bind_tcp, render};
use ghtokend::telemetry::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::stub::{Answers, Stub};
use crate::support::world::{Reply, Setup, World, answer, get, send, until};

const MINT_1: &str = "/app/installations/1/access_tokens";
const IMPATIENT: Duration = Duration::from_millis(200);

/// The daemon's answer to `target` while GitHub has `effect` on mints.
async fn with_fault(effect: Effect, target: &str) -> Reply {
    let world = World::start().await;
    world.github.fault(Fault::new(effect).on("POST", MINT_1));
    world.get(target).await
}

fn check(reply: &Reply, status: u16, code: &str, says: &str) {
    let body = reply.json();
    assert_eq!((reply.status, body["code"].as_str()), (status, Some(code)), "{body}");
    assert_eq!(body["status"], status.to_string());
    assert!(reply.message().contains(says), "{says:?} is not in {:?}", reply.message());
    assert!(
        body["documentation_url"]
            .as_str()
            .is_some_and(|url| url.ends_with("/src/guide/operations.md#errors")),
        "{body}"
    );
    assert_eq!(body["request_id"].as_str(), reply.header("x-request-id"));
    assert!(body["retryable"].is_boolean());
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    if [429, 503, 504].contains(&status) {
        assert!(
            reply
                .header("retry-after")
                .is_some_and(|after| after.parse::<u64>().is_ok_and(|after| after > 0))
        );
        assert_eq!(body["retryable"], true);
    }
}

fn answered(status: u16, message: &str) -> Effect {
    let body = serde_json::json!({"message": message, "documentation_url": "https://docs.github.com/rest"})
        .to_string();
    Effect::Status { status, body, headers: BTreeMap::new() }
}

#[tokio::test]
async fn a_400_names_the_parameter() {
    let world = World::start().await;
    for (target, says) in [
        (
            "/token?ownr=acme",
            "unknown parameter \"ownr\" (did you mean \"owner\"?); expected one of installation, owner",
        ),
        ("/token?owner=a%2Fb", "parameter owner: \"a/b\" is not a GitHub login"),
        ("/token?repositories=a,,b", "parameter repositories: an item is empty"),
        ("/token?owner=acme&owner=acme", "parameter owner is duplicated"),
    ] {
        check(&world.get(target).await, 400, "invalid_request", says);
    }
    assert_eq!(world.mints(), 0, "a malformed request costs GitHub nothing");
    let body = "GET /token HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    check(&send(world.address, body).await.unwrap(), 400, "invalid_request", "has no body");
    let none = "GET /token HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(send(world.address, none).await.unwrap().status, 200);
    let chunked = body.replace("Content-Length: 2", "Transfer-Encoding: chunked");
    check(&send(world.address, &chunked).await.unwrap(), 400, "invalid_request", "has no body");
}

#[tokio::test]
async fn a_400_lists_how_to_choose_an_installation() {
    let world = World::with(Setup { without_default_installation: true, ..Setup::default() }).await;
    let reply = world.get("/token").await;
    check(&reply, 400, "invalid_request", "several installations (acme, octocat, acme-enterprise)");
    assert!(reply.message().contains("owner=LOGIN, repo=OWNER/NAME, enterprise=SLUG or installation=ID"));
    let options = Options { world: GithubWorld::with_installations(250), ..Options::default() };
    let world = World::with(Setup { options, without_default_installation: true, ..Setup::default() }).await;
    check(
        &world.get("/token").await,
        400,
        "invalid_request",
        "(org-0001, org-0002, org-0003, org-0004, org-0005, …)",
    );
    assert_eq!(world.github.count("GET", "/app/installations"), 1, "one page tells that there are several");
}

#[tokio::test]
async fn a_403_shows_the_header_to_add() {
    let world = World::start().await;
    let reply = send(world.address, "GET /token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    check(&reply, 403, "caller_forbidden", "curl -H 'Ghtokend-Client: me'");
    let text = "GET /token?format=text HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let reply = send(world.address, text).await.unwrap();
    assert!(reply.text().starts_with("caller_forbidden: missing Ghtokend-Client header"), "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(world.mints(), 0);
}

#[tokio::test]
async fn a_suspension_is_an_error_of_its_own() {
    let world = World::start().await;
    world.github.suspend(1);
    let says = "\"This installation has been suspended\" when minting a token: an owner of the account must unsuspend";
    check(&world.get("/token").await, 403, "installation_suspended", says);
    check(&world.get("/token?repo=acme/widgets").await, 403, "installation_suspended", says);
}

#[tokio::test]
async fn unknown_installation_404_names_the_account() {
    let world = World::start().await;
    for (target, says) in [
        ("/token?owner=nobody", "no installation for owner nobody: check the spelling"),
        ("/token?repo=acme/nothing", "no installation for repository acme/nothing"),
        ("/token?enterprise=nobody", "no installation for enterprise nobody"),
        ("/token?installation=999", "check that the app is installed there"),
    ] {
        check(&world.get(target).await, 404, "unknown_installation", says);
    }
    assert_eq!(world.mints(), 1, "only the number is asked for without a look-up");
}

#[tokio::test]
async fn a_renamed_repository_says_so() {
    let world = World::start().await;
    assert!(world.github.rename_repository("acme", "widgets", "gizmos"));
    let reply = world.get("/token?repo=acme/widgets").await;
    check(&reply, 404, "unknown_installation", "has been renamed or moved");
    assert_eq!(world.get("/token?repo=acme/gizmos").await.status, 200);
}

#[tokio::test]
async fn an_app_that_is_installed_nowhere_says_so() {
    let options = Options { world: GithubWorld::with_installations(0), ..Options::default() };
    let world = World::with(Setup { options, without_default_installation: true, ..Setup::default() }).await;
    check(&world.get("/token").await, 404, "unknown_installation", "not installed anywhere: install it");
}

#[tokio::test]
async fn unknown_app_or_path_lists_the_alternatives() {
    let world = World::start().await;
    check(
        &world.get("/token?app=other").await,
        404,
        "unknown_app",
        "no app other is configured: there are default",
    );
    check(&world.get("/tokens").await, 404, "not_found", "there are /token, /token/reject");
}

#[tokio::test]
async fn another_method_is_a_405_with_allow() {
    let world = World::start().await;
    for method in ["POST", "OPTIONS", "DELETE", "PUT"] {
        let request = format!(
            "{method} /token HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nConnection: close\r\n\r\n"
        );
        let reply = send(world.address, &request).await.unwrap();
        check(
            &reply,
            405,
            "method_not_allowed",
            &format!("method {method} is not allowed for /token: use GET"),
        );
        assert_eq!(reply.header("allow"), Some("GET, HEAD"));
    }
}

#[tokio::test]
async fn too_much_is_a_413_or_a_431() {
    let world = World::start().await;
    let head = "GET /token HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nConnection: close\r\n";
    let announced = format!("{head}Content-Length: 65537\r\n\r\n");
    check(&send(world.address, &announced).await.unwrap(), 413, "too_large", "over 64 KiB");
    let many: String = (0..110).map(|n| format!("X-{n}: y\r\n")).collect();
    check(&send(world.address, &format!("{head}{many}\r\n")).await.unwrap(), 431, "too_large", "100 headers");
    let long = format!("{head}X: {}\r\n\r\n", "y".repeat(20_000));
    check(&send(world.address, &long).await.unwrap(), 431, "too_large", "16 KiB or 100 headers");
    assert_eq!(world.mints(), 0);
}

#[tokio::test]
async fn ungranted_scope_is_a_422() {
    let world = World::start().await;
    for (target, says) in [
        (
            "/token?permissions=administration:write",
            "\"The permissions requested are not granted to this installation.\"",
        ),
        ("/token?permissions=metadata:write", "The level of access for permissions requested"),
        ("/token?repositories=nothing", "another installation is the right one, which repo=OWNER/NAME finds"),
        ("/token?permissions=administration:write", "have an owner accept more permissions"),
    ] {
        check(&world.get(target).await, 422, "scope_not_granted", says);
    }
    check(&world.get("/token?user=42").await, 422, "user_tokens_unsupported", "leave the user out");
}

#[tokio::test]
async fn a_limit_at_github_is_a_429_with_its_wait() {
    for (effect, wait) in [
        (Effect::SecondaryLimit { status: 403, retry_after: Some(30) }, "30"),
        (Effect::SecondaryLimit { status: 429, retry_after: None }, "60"),
        (Effect::PrimaryLimit { status: 403, reset_seconds: 40 }, "40"),
        (Effect::LoginLockout, "60"),
    ] {
        let reply = with_fault(effect, "/token").await;
        check(&reply, 429, "rate_limited", "wait as long as Retry-After says");
        assert_eq!(reply.header("retry-after"), Some(wait));
    }
}

#[tokio::test]
async fn a_key_id_or_app_that_github_does_not_accept_is_a_502() {
    let wrong_id = Setup { environment: vec![("GITHUB_APP_ID", "4242".to_owned())], ..Setup::default() };
    let reply = World::with(wrong_id).await.get("/token").await;
    check(
        &reply,
        502,
        "app_rejected",
        "\"Integration not found\" when minting a token: check app.id, the private key and the machine's clock",
    );
    let world = World::start().await;
    let fingerprint = world.github.app("demo").unwrap().keys[0].fingerprint.clone();
    assert!(world.github.remove_key("demo", &fingerprint));
    check(&world.get("/token").await, 502, "app_rejected", "`ghtokend check`");
    let reply =
        with_fault(answered(403, "the `acme` organization has an IP allow list enabled"), "/token").await;
    check(
        &reply,
        502,
        "app_rejected",
        "IP allow list enabled\" when minting a token: GitHub refuses the app from here",
    );
}

#[tokio::test]
async fn an_answer_that_is_not_trusted_is_a_502() {
    for (effect, says) in [
        (Effect::TruncatedBody, "the body is not JSON"),
        (Effect::Status { status: 201, body: "<html>".into(), headers: [].into() }, "the body is not JSON"),
        (
            Effect::Status { status: 201, body: "{\"token\":1}".into(), headers: [].into() },
            "unexpected JSON structure",
        ),
        (Effect::Status { status: 200, body: "{}".into(), headers: [].into() }, "where 201 is documented"),
        (Effect::ExpiresAt { value: None }, "unexpected JSON structure"),
        (Effect::ExpiresAt { value: Some("soon".into()) }, "its expires_at is not a date"),
        (Effect::ExpiresAt { value: Some("2036-01-01T00:00:00Z".into()) }, "only 2 s to 24 h are believed"),
        (Effect::Lifetime { seconds: -5 }, "only 2 s to 24 h are believed"),
        (Effect::Lifetime { seconds: 1 }, "only 2 s to 24 h are believed"),
        (Effect::Token { value: String::new() }, "its token is empty, over 8 KiB, or not plain ASCII"),
        (Effect::Token { value: "with space".into() }, "not plain ASCII"),
        (Effect::Token { value: "x".repeat(8193) }, "over 8 KiB"),
        (Effect::HugeBody { bytes: 9_000_000 }, "more than 8 MiB"),
        (
            Effect::Redirect { status: 302, location: "https://evil.example/".into() },
            "redirects are not followed",
        ),
        (answered(400, "The version you specified is not supported"), "github.api_version"),
        (answered(410, "gone"), "github.api_version"),
    ] {
        let seen = format!("{effect:?}");
        let reply = with_fault(effect, "/token").await;
        assert_eq!(reply.status, 502, "{seen}: {}", reply.text());
        check(&reply, 502, "bad_upstream_response", says);
    }
    let fits = with_fault(Effect::Token { value: "x".repeat(8192) }, "/token").await;
    assert_eq!(fits.json()["token"].as_str().map(str::len), Some(8192));
}

#[tokio::test]
async fn a_next_page_elsewhere_is_not_followed() {
    let world = World::with(Setup { without_default_installation: true, ..Setup::default() }).await;
    let link =
        ("link".to_owned(), "<https://evil.example/app/installations?page=2>; rel=\"next\"".to_owned());
    let effect = Effect::Status { status: 200, body: "[]".into(), headers: [link].into() };
    world.github.fault(Fault::new(effect).on("GET", "/app/installations"));
    check(&world.get("/token").await, 502, "bad_upstream_response", "not on the host of github.api_url");
}

#[tokio::test]
async fn a_github_that_is_down_is_a_503() {
    for effect in
        [Effect::Html { status: 500 }, Effect::Html { status: 502 }, Effect::ResetBefore, Effect::CutBody]
    {
        check(&with_fault(effect, "/token").await, 503, "github_unavailable", "try again");
    }
    // A port where nobody listens.
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let environment = vec![("GITHUB_API_URL", format!("http://{nobody}"))];
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    let reply = world.get("/token").await;
    check(&reply, 503, "github_unavailable", "could not connect");
    assert!(
        reply.message().contains("could not connect to 127.0.0.1 (Connection refused"),
        "{}",
        reply.message()
    );
    assert!(reply.message().contains("check github.api_url, github.proxy and the network"));
}

#[tokio::test]
async fn a_github_that_does_not_answer_in_time_is_a_504() {
    let environment = vec![("GHTOKEND_GITHUB__REQUEST_TIMEOUT", "200ms".to_owned())];
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    world.github.fault(Fault::new(Effect::Stall).on("POST", MINT_1));
    check(&world.get("/token").await, 504, "github_timeout", "longer than github.request_timeout");
}

#[tokio::test]
async fn token_expired_on_arrival_is_a_504() {
    let world = World::start().await;
    let hold = world.github.hold("POST", MINT_1);
    let waiting = tokio::spawn(get(world.address, "/token"));
    hold.reached(1).await;
    // The machine sleeps, and GitHub's answer is an hour old when it is read.
    world.clock.advance(Duration::from_secs(3600));
    hold.release();
    check(&waiting.await.unwrap(), 504, "github_timeout", "took longer than the token lives");
    assert_eq!(world.get("/token").await.header("ghtokend-token-state"), Some("fresh"));
}

#[tokio::test]
async fn draining_daemon_vends_only_cached_tokens() {
    let environment = vec![("GHTOKEND_SHUTDOWN__DELAY", "1m".to_owned())];
    let mut world = World::with(Setup { environment, ..Setup::default() }).await;
    let token = world.token("/token").await;
    world.begin_to_stop();
    // The daemon hears of it between two requests at the latest.
    let mut reply = world.get("/token?owner=octocat&permissions=contents:read").await;
    for _ in 0..50 {
        if reply.status == 503 {
            break;
        }
        reply = world.get("/token?owner=octocat&permissions=metadata:read").await;
    }
    check(&reply, 503, "shutting_down", "is shutting down");
    assert_eq!(world.token("/token").await, token);
}

/// A daemon's endpoint before a GitHub that is none, which works on a request for no longer than `patience`.
async fn before(github: Arc<dyn Github>, patience: Duration) -> SocketAddr {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let windows = Windows {
        renew_before: Duration::from_secs(600),
        min_validity: Duration::from_secs(300),
        grace: Duration::from_secs(30),
    };
    let rules = broker::BrokerConfig {
        apps: [(AppName::default(), None)].into(),
        default_app: Some(AppName::default()),
        windows,
        settle: Duration::from_secs(5),
        idle_after: Duration::from_secs(1800),
        prefetch: Vec::new(),
        max_entries: 10,
        max_bytes: 1 << 20,
        render,
    };
    let metrics = Arc::new(Metrics::default());
    let broker = Broker::new(github, Arc::clone(&clock), Arc::clone(&metrics), rules);
    let rules = server::ServerConfig {
        webhook: None,
        guard: Guard { allowed_hosts: Vec::new(), require_client_header: true },
        hop_limit_1: true,
        max_connections: 10,
        max_ops_connections: 10,
        api_url: "https://api.github.com".parse().unwrap(),
        web_url: "https://github.com".parse().unwrap(),
        head_timeout: patience / 2,
        idle_timeout: patience / 2,
        connection_age: patience * 3 / 2,
        request_timeout: patience,
    };
    let server = Server::new(broker, metrics, GithubClock::new(clock), Vec::new(), rules);
    let tcp = bind_tcp("listen.tcp", ([127, 0, 0, 1], 0).into()).unwrap();
    let address = tcp.local_addr().unwrap();
    let listeners = Listeners { tcp: Some(tcp), ..Listeners::default() };
    tokio::spawn(server.serve(listeners, CancellationToken::new(), Duration::ZERO));
    address
}

#[tokio::test]
async fn a_request_is_not_worked_on_for_ever() {
    let address = before(Arc::new(Stub(Arc::new(NeverAnswers))), IMPATIENT).await;
    check(
        &get(address, "/token?owner=acme").await,
        504,
        "github_timeout",
        "deadline exceeded while waiting for GitHub: the request continues in the background, try again",
    );
}

#[tokio::test]
async fn a_connection_that_is_kept_busy_for_ever_comes_to_its_end() {
    let address = before(Arc::new(Stub(Arc::new(NeverAnswers))), IMPATIENT).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = [0; 4096];
    for _ in 0..10_000 {
        // Written to after its end, it fails; read from, it has nothing more.
        if stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.is_err() {
            return;
        }
        if !matches!(stream.read(&mut answer).await, Ok(1..)) {
            return;
        }
        tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await.unwrap_err();
    }
    panic!("the connection outlives its age");
}

#[tokio::test]
async fn a_retry_after_of_an_outage_is_passed_on() {
    let headers = [("retry-after".to_owned(), "120".to_owned())].into();
    let reply = with_fault(Effect::Status { status: 503, body: String::new(), headers }, "/token").await;
    check(&reply, 503, "github_unavailable", "try again");
    assert_eq!(reply.header("retry-after"), Some("120"));
}

#[tokio::test]
async fn half_a_request_is_not_waited_for() {
    let address = before(Arc::new(Stub(Arc::new(NeverAnswers))), IMPATIENT).await;
    assert!(send(address, "GET /token HTTP/1.1\r\nHost: loc").await.is_none_or(|reply| reply.status == 408));
    assert!(send(address, "").await.is_none());
    // Nor is one whose bytes drip in.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /token HTTP/1.1\r\nX: ").await.unwrap();
    while stream.write_all(b"x").await.is_ok() {
        let pause = tokio::time::timeout(Duration::from_millis(10), stream.read(&mut [0])).await;
        assert!(!matches!(pause, Ok(Ok(1..))), "it was answered");
    }
}

#[tokio::test]
async fn panicked_mint_is_a_500_once() {
    let github = Arc::new(PanicsOnce::default());
    let address = before(Arc::new(Stub(Arc::clone(&github))), Duration::from_secs(30)).await;
    let mut waiting = Vec::new();
    // There are ten places, and one more asks below.
    for _ in 0..9 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = "GET /token?installation=1 HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    // Who comes later is heard later.
    assert_eq!(get(address, "/healthz").await.status, 200);
    until(async || github.mints.load(Ordering::SeqCst) == 1).await;
    github.panics.notify_one();
    for mut stream in waiting {
        let reply = answer(&mut stream).await.unwrap();
        check(&reply, 500, "internal", "the next request tries again");
        assert_eq!(reply.json()["retryable"], true);
    }
    assert_eq!(get(address, "/token?installation=1").await.status, 200);
    assert_eq!(github.mints.load(Ordering::SeqCst), 2);
}

/// A GitHub whose first mint panics here once it is told to, as a defect of ours would.
#[derive(Default)]
struct PanicsOnce {
    mints: AtomicUsize,
    panics: Notify,
}

impl Answers for PanicsOnce {
    fn mint<'a>(&'a self, _: &'a TokenKey) -> GithubReply<'a, Minted> {
        Box::pin(async {
            if self.mints.fetch_add(1, Ordering::SeqCst) == 0 {
                self.panics.notified().await;
                panic!("a defect");
            }
            let (now, hour) = (SystemClock.boot(), Duration::from_secs(3600));
            let token = InstallationToken {
                secret: Secret::from("ghs_after_the_panic".to_owned()),
                expires_at: "2036-01-01T00:00:00Z".to_owned(),
                grant: Grant::default(),
                on_behalf_of: None,
                json: SecretBytes::from(bytes::Bytes::new()),
            };
            Ok(Minted { token, sent: now, landed: now, lifetime: hour })
        })
    }
}

/// A GitHub that takes every question and answers none.
struct NeverAnswers;

impl Answers for NeverAnswers {}
