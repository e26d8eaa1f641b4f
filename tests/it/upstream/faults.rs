//! Faults of GitHub and of the way there, each with what callers get and how often GitHub is asked: exactly. PROMISES.md
//! has the table.

use std::process::Stdio;

use ghtokend::clock::{Clock as _, SystemClock};
use ghtokend::fake_github::{Effect, Fault, Options, TokenFormat, World as GithubWorld};
use jiff::{Timestamp, ToSpan as _};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::door::{Door, Instead, Then, behind_a_door};
use crate::support::program::{program, run};
use crate::support::world::{Setup, World, get, seconds, send, until, wait};

const MINT_1: &str = "/app/installations/1/access_tokens";
const TO_MINT_1: &str = "POST /app/installations/1/";

/// A daemon with a door before its GitHub.
async fn world(environment: Vec<(&'static str, String)>) -> (World, Door) {
    let options = Options { world: GithubWorld::with_installations(10), ..Options::default() };
    behind_a_door(options, environment, None).await
}

/// These bytes in the place of each answer to a mint for installation 1.
fn instead(bytes: impl Into<Vec<u8>>, then: Then) -> Option<Instead> {
    Some(Instead { to: TO_MINT_1, bytes: bytes.into(), then })
}

/// An answer to a mint with this `Content-Length`, if any, and this body.
fn minted(length: impl Into<Option<usize>>, body: &str) -> String {
    let length = length.into().map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
    format!("HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n{length}\r\n{body}")
}

/// The body of an answer to a mint, and no real token.
fn forged() -> String {
    json!({"token": "ghs_forged", "expires_at": (SystemClock.wall() + 1.hour()).to_string()}).to_string()
}

/// How many calls to GitHub have failed on the way.
fn failed_calls(world: &World) -> u64 {
    let calls = world.admission().apps.into_values().flat_map(|app| app.requests);
    calls.filter(|((_, outcome), _)| *outcome == "github_unavailable").map(|(_, count)| count).sum()
}

async fn tokens_in_hand(world: &World) -> usize {
    world.get("/status").await.json()["tokens"].as_array().unwrap().len()
}

#[tokio::test]
async fn refused_connection_is_a_503_with_backoff() {
    let (world, mut door) = world(Vec::new()).await;
    let warm = world.token("/token").await;
    door.shut().await;
    for id in [2, 3] {
        let reply = world.get(&format!("/token?installation={id}")).await;
        assert_eq!((reply.status, reply.code().as_str()), (503, "github_unavailable"));
        let says = "could not connect to 127.0.0.1 (Connection refused";
        assert!(reply.message().contains(says), "{}", reply.message());
    }
    // Three times for the first and twice for the second: nobody knocks where somebody would open now.
    assert_eq!(failed_calls(&world), 5);
    door.open();
    let before = door.connections();
    assert!(!world.admission().is_reachable);
    for id in 2..=10 {
        let reply = world.get(&format!("/token?installation={id}")).await;
        assert_eq!((reply.status, reply.code().as_str(), wait(&reply)), (503, "github_unavailable", 1));
        assert_eq!(world.token("/token").await, warm);
    }
    assert_eq!((door.connections(), world.mints()), (before, 1));
    // Nothing is held against the keys.
    world.advance(seconds(1));
    for id in 2..=10 {
        world.token(&format!("/token?installation={id}")).await;
    }
    assert_eq!((door.connections() - before, world.mints()), (9, 10));
}

#[tokio::test]
async fn unreachable_host_is_tried_ever_more_rarely() {
    let (world, mut door) = world(Vec::new()).await;
    door.shut().await;
    let connections = || failed_calls(&world);
    for id in [2, 3] {
        world.get(&format!("/token?installation={id}")).await;
    }
    assert_eq!(connections(), 5);
    let mut attempts = vec![0];
    for second in 1..=300_u64 {
        world.advance(seconds(1));
        let before = connections();
        for id in 4..=6 {
            let reply = world.get(&format!("/token?installation={id}")).await;
            assert_eq!((reply.status, reply.code().as_str()), (503, "github_unavailable"));
            assert!(wait(&reply) <= 30, "{}", wait(&reply));
        }
        attempts.extend((before..connections()).map(|_| second));
    }
    let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, longest) in pauses.iter().zip([1_u64, 2, 4, 8, 16].into_iter().chain([30; 20])) {
        assert!((longest.div_ceil(2)..=longest).contains(pause), "{pauses:?}");
    }
    assert!((12..=23).contains(&pauses.len()), "{pauses:?}");
}

#[tokio::test]
async fn callers_wait_for_the_one_attempt_at_an_unreachable_host() {
    let (world, mut door) = world(Vec::new()).await;
    door.shut().await;
    for id in [2, 3] {
        world.get(&format!("/token?installation={id}")).await;
    }
    door.open();
    world.advance(seconds(1));
    let hold = world.github.hold("POST", "/app/installations");
    let asking: Vec<_> = [4, 5, 6]
        .map(|id| {
            let address = world.address;
            tokio::spawn(async move { get(address, &format!("/token?installation={id}")).await.status })
        })
        .into();
    hold.reached(1).await;
    until(async || world.admission().queued == 2).await;
    assert_eq!(world.mints(), 1, "one call at a time");
    hold.release();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), 200);
    }
    assert_eq!(world.mints(), 3);
}

#[tokio::test]
async fn hanging_connect_is_a_504_after_connect_timeout() {
    let (world, mut door) = world(vec![("GHTOKEND_GITHUB__CONNECT_TIMEOUT", "500ms".to_owned())]).await;
    let warm = world.token("/token").await;
    let _clogged = door.clog().await;
    let reply = world.get("/token?installation=2").await;
    assert_eq!((reply.status, reply.code().as_str(), wait(&reply)), (504, "github_timeout", 1));
    assert!(reply.message().contains("longer than github.connect_timeout"), "{}", reply.message());
    assert_eq!((world.token("/token").await, world.mints()), (warm, 1));
}

#[tokio::test]
async fn retry_after_parses_seconds_or_date_up_to_an_hour() {
    let now = SystemClock.wall();
    let date = |at: Timestamp| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (named, expected) in [
        ("30".to_owned(), 30),
        (date(now + 2.minutes()), 120),
        (date(now - 2.minutes()), 60),
        (date(now + 48.hours()), 3600),
        ("0".to_owned(), 60),
        ("-30".to_owned(), 60),
        ("3601".to_owned(), 3600),
        ("9".repeat(30), 3600),
        ("soon".to_owned(), 60),
        (String::new(), 60),
        ("1e3".to_owned(), 60),
    ] {
        for status in [403, 429] {
            let world = World::start().await;
            let headers = [("retry-after".to_owned(), named.clone()), ("date".to_owned(), date(now))].into();
            let body = "{\"message\":\"no\"}".to_owned();
            let effect = Effect::Status { status, body, headers };
            world.github.fault(Fault::new(effect).on("POST", MINT_1).times(1));
            for (after, left) in [(0, expected), (expected - 1, 1)] {
                world.advance(seconds(after));
                for target in ["/token", "/token?installation=2", "/token?owner=octocat"] {
                    let reply = world.get(target).await;
                    assert_eq!((reply.status, reply.code().as_str()), (429, "rate_limited"), "{named:?}");
                    assert_eq!(wait(&reply), left, "{named:?}");
                }
            }
            assert_eq!(world.mints(), 1, "{named:?}");
            assert_eq!(world.github.count("GET", "/users/octocat/installation"), 0);
            world.advance(seconds(1));
            world.token("/token").await;
            assert_eq!(world.mints(), 2, "{named:?}");
        }
    }
}

/// GitHub begins an answer, goes on as `then` says, and never ends it.
async fn never_ends(beginning: String, then: Then) {
    let (world, door) = world(vec![("GHTOKEND_GITHUB__REQUEST_TIMEOUT", "5s".to_owned())]).await;
    let warm = world.token("/token?permissions=contents:read").await;
    door.answer(instead(beginning, then));
    let hanging = tokio::spawn(get(world.address, "/token"));
    until(async || door.requests() == 1).await;
    for id in 2..=10 {
        world.token(&format!("/token?installation={id}")).await;
    }
    assert_eq!(world.token("/token?permissions=contents:read").await, warm);
    assert!(!hanging.is_finished(), "nobody waited for it");
    let reply = hanging.await.unwrap();
    assert_eq!((reply.status, reply.code().as_str(), wait(&reply)), (504, "github_timeout", 1));
    assert!(reply.message().contains("longer than github.request_timeout"), "{}", reply.message());
    assert_eq!((door.requests(), tokens_in_hand(&world).await), (1, 10), "asked once, and nothing is kept");
    world.token("/token?installation=2&permissions=contents:read").await;
    door.answer(None);
    world.advance(seconds(1));
    assert!(world.is_accepted(&world.token("/token").await).await);
}

#[tokio::test]
async fn endless_response_is_a_504_for_its_key_alone() {
    let half = &minted(300, &forged())[..120];
    tokio::join!(
        never_ends(String::new(), Then::Hangs),
        never_ends("HTTP/1.1 201 Created\r\nContent-Length: 300\r\n\r\n".to_owned(), Then::Hangs),
        never_ends(half.to_owned(), Then::Hangs),
        never_ends(minted(300, &" ".repeat(300)), Then::Drips),
    );
}

#[tokio::test]
async fn hanging_installation_does_not_block_others() {
    let (world, door) = world(vec![("GHTOKEND_GITHUB__REQUEST_TIMEOUT", "1500ms".to_owned())]).await;
    door.answer(instead("", Then::Hangs));
    for calls in 1..=5 {
        world.advance(seconds(60));
        assert_eq!(world.get("/token").await.code(), "github_timeout");
        assert_eq!(world.get("/token").await.code(), "github_timeout", "as is remembered");
        assert_eq!(door.requests(), calls);
    }
    world.token("/token?installation=2").await;
    assert_eq!((door.requests(), world.mints()), (5, 1));
}

/// GitHub answers in this way: what the caller gets, and how many calls it is, of which nothing is kept.
async fn damaged(bytes: &str, then: Then, status: u16, code: &str, calls: usize) {
    let (world, door) = world(Vec::new()).await;
    door.answer(instead(bytes, then));
    let reply = world.get("/token").await;
    let shown = &bytes[..bytes.len().min(150)];
    assert_eq!((reply.status, reply.code().as_str()), (status, code), "{shown}: {}", reply.text());
    assert!(!reply.text().contains("forged"), "{}", reply.text());
    assert_eq!((door.requests(), tokens_in_hand(&world).await), (calls, 0), "{shown}");
    // Nor is what was left of it taken for the next answer.
    door.answer(None);
    let other = world.token("/token?installation=2").await;
    world.advance(seconds(1));
    let token = world.token("/token").await;
    assert!(world.is_accepted(&token).await && world.is_accepted(&other).await, "{shown}");
    assert_eq!((door.requests(), world.mints()), (calls, 2), "{shown}");
}

#[tokio::test]
async fn an_answer_of_another_length_than_it_says_is_not_believed() {
    let body = forged();
    let long = body.len() + 10;
    for then in [Then::Closes, Then::Hangs] {
        damaged(&minted(body.len() - 10, &body), then, 502, "bad_upstream_response", 1).await;
    }
    let (short, next) = ("{}", minted(body.len(), &body));
    damaged(&minted(2, &format!("{short}{next}")), Then::Hangs, 502, "bad_upstream_response", 1).await;
    damaged(&minted(long, &body), Then::Closes, 503, "github_unavailable", 3).await;
    damaged(&minted(None, &body[..40]), Then::Closes, 502, "bad_upstream_response", 1).await;
    let chunked = "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("{chunked}{:x}\r\n{body}\r\n", body.len());
    damaged(&chunk, Then::Closes, 503, "github_unavailable", 3).await;
    damaged("SSH-2.0-OpenSSH_9.2\r\n", Then::Closes, 503, "github_unavailable", 3).await;
    damaged("", Then::Closes, 503, "github_unavailable", 3).await;
}

#[tokio::test]
async fn a_body_that_is_no_answer_to_a_mint_is_a_502_after_one_call() {
    let nested = "[".repeat(100_000);
    let around = |member: &str| format!("{{\"token\":{member},\"expires_at\":\"2036-01-01T00:00:00Z\"}}");
    for body in [
        "<!DOCTYPE html><p>Sign in to the hotel's network".to_owned(),
        "{\"token\":\"ghs_forged\",".to_owned(),
        "\u{0}\u{1}\u{2}".to_owned(),
        "null".to_owned(),
        String::new(),
        nested.clone(),
        format!("{nested}{}", "]".repeat(100_000)),
        format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)),
        around(&format!("{nested}{}", "]".repeat(100_000))),
    ] {
        damaged(&minted(body.len(), &body), Then::Closes, 502, "bad_upstream_response", 1).await;
    }
    let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    damaged(html, Then::Closes, 502, "bad_upstream_response", 1).await;
}

#[tokio::test]
async fn a_member_nested_a_hundred_thousand_deep_harms_nobody() {
    let (world, door) = world(Vec::new()).await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = forged().replacen('{', &format!("{{\"new\":{deep},"), 1);
    door.answer(instead(minted(body.len(), &body), Then::Closes));
    let reply = world.get("/token").await;
    assert_eq!(
        (reply.status, door.requests()),
        (200, 1),
        "what is not known is not looked into: {}",
        reply.text()
    );
}

#[tokio::test]
async fn endless_body_is_read_up_to_8_mib() {
    let (world, door) = world(Vec::new()).await;
    for (calls, head) in (1..).zip([
        "HTTP/1.1 201 Created\r\nContent-Length: 1073741824\r\n\r\n",
        "HTTP/1.1 201 Created\r\n\r\n",
        "HTTP/1.1 503 Service Unavailable\r\n\r\n",
    ]) {
        door.answer(instead(head, Then::Floods));
        let before = door.written();
        let reply = world.get("/token").await;
        assert_eq!((reply.status, reply.code().as_str()), (502, "bad_upstream_response"), "{head}");
        assert!(reply.message().contains("more than 8 MiB"), "{}", reply.message());
        assert_eq!((door.requests(), tokens_in_hand(&world).await), (calls, 0), "{head}");
        let taken = door.written() - before;
        // What lies in the sockets' buffers was taken from GitHub, too.
        assert!((8 << 20..64 << 20).contains(&taken), "{taken} bytes");
        world.advance(seconds(60));
    }
}

#[tokio::test]
async fn an_expiry_that_cannot_be_is_a_502_after_one_call() {
    let at = |hours: i64| (SystemClock.wall() + hours.hours()).to_string();
    for expiry in [
        None,
        Some(at(-1)),
        Some(at(25)),
        Some(at(10 * 365 * 24)),
        Some("9999-12-31T23:59:59Z".to_owned()),
        Some("-009999-01-01T00:00:00Z".to_owned()),
        Some("1970-01-01T00:00:00Z".to_owned()),
        Some(at(1).replace('Z', "")),
        Some("1795341600".to_owned()),
        Some("soon".to_owned()),
        Some(String::new()),
    ] {
        let world = World::start().await;
        let effect = Effect::ExpiresAt { value: expiry.clone() };
        world.github.fault(Fault::new(effect).on("POST", MINT_1).times(1));
        for _ in 0..2 {
            let reply = world.get("/token").await;
            assert_eq!((reply.status, reply.code().as_str()), (502, "bad_upstream_response"), "{expiry:?}");
        }
        assert_eq!((world.mints(), tokens_in_hand(&world).await), (1, 0), "{expiry:?}");
        world.advance(seconds(1));
        world.token("/token").await;
        assert_eq!(world.mints(), 2, "{expiry:?}");
    }
}

#[tokio::test]
async fn expires_at_format_is_vended_unchanged() {
    let end = SystemClock.wall() + 30.minutes();
    let at = |format: &str, hours: i64| (end + hours.hours()).strftime(format).to_string();
    for expiry in [
        at("%Y-%m-%dT%H:%M:%SZ", 0),
        at("%Y-%m-%dT%H:%M:%S+02:00", 2),
        at("%Y-%m-%dT%H:%M:%S-11:00", -11),
        at("%Y-%m-%dT%H:%M:%S.999Z", 0),
        at("%Y-%m-%dT%H:%M:%S.000000001+00:00", 0),
    ] {
        let world = World::start().await;
        world.github.fault(Fault::new(Effect::ExpiresAt { value: Some(expiry.clone()) }));
        let reply = world.get("/token").await;
        assert_eq!((reply.status, &reply.json()["expires_at"]), (200, &json!(expiry)), "{}", reply.text());
        assert_eq!(reply.header("ghtokend-token-expires-at"), Some(expiry.as_str()));
        let left = world.get("/status").await.json()["tokens"][0]["remaining_seconds"].as_u64().unwrap();
        assert!((1700..=1800).contains(&left), "{expiry}: {left} s");
        assert_eq!(world.mints(), 1, "{expiry}");
    }
}

#[tokio::test]
async fn tokens_of_8000_bytes_pass_every_endpoint() {
    for length in [None, Some(8000)] {
        let options =
            Options { token_format: TokenFormat::Stateless, token_length: length, ..Options::default() };
        let world = World::with(Setup { options, ..Setup::default() }).await;
        let token = world.token("/token").await;
        assert!(token.len() >= length.unwrap_or(521) && world.is_accepted(&token).await, "{}", token.len());
        assert_eq!(world.get("/token?format=text").await.text(), format!("{token}\n"));

        let lines = format!("{}\n\n", world.github.api_url().replace("://", "\nhost="));
        let lines = format!("protocol={lines}");
        let head =
            "POST /git-credential/get HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nConnection: close";
        let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{lines}", lines.len());
        let url = format!("http://{}", world.address);
        let mut helper = program(&["git-credential", "get", "--url", &url], &[]);
        let mut helper = helper.stdin(Stdio::piped()).spawn().unwrap();
        helper.stdin.take().unwrap().write_all(lines.as_bytes()).await.unwrap();
        let by_command = helper.wait_with_output().await.unwrap().stdout;
        for credential in [send(world.address, &request).await.unwrap().body, by_command] {
            let credential = String::from_utf8(credential).unwrap();
            assert!(credential.contains(&format!("\npassword={token}\n")), "{credential}");
        }
        let (_, printed, _) = run(&["token", "--url", &url], &[]).await;
        assert_eq!((printed, world.mints()), (format!("{token}\n"), 1));
    }
}
