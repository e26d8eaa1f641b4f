//! What GitHub is asked when callers ask for too much, or for what is not there: the promises of admission, counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ghtokend::fake_github::{Effect, Fault, Options, World as GithubWorld};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::world::{Reply, Setup, World, seconds, send, until, wait};

const MINTS: (&str, &str) = ("GHTOKEND_GITHUB__MINTS_PER_MINUTE", "3");
/// In which a budget of 3 mints a minute pays for another one, after the first.
const MINT_INTERVAL: Duration = seconds(30);

/// A daemon that GitHub has accepted, before so many installations.
async fn world(count: u64, variables: &[(&'static str, &str)], file: &str) -> World {
    let options = Options { world: GithubWorld::with_installations(count), ..Options::default() };
    let environment = variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let setup = Setup { options, environment, file: file.to_owned(), ..Setup::default() };
    let world = World::with(setup).await;
    until(|| async { world.get("/readyz").await.status == 200 }).await;
    world
}

/// What a client of this name gets for a token of this installation.
pub fn ask(address: SocketAddr, client: &str, installation: u64) -> JoinHandle<Reply> {
    let request = format!(
        "GET /token?installation={installation} HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: {client}\r\n\
         Connection: close\r\n\r\n"
    );
    tokio::spawn(async move { send(address, &request).await.unwrap() })
}

fn mints_of(world: &World, installation: u64) -> usize {
    world.github.count("POST", &format!("/app/installations/{installation}/access_tokens"))
}

async fn check_look_ups(target: &str, path: &str) {
    let world = World::start().await;
    for (after, look_ups) in [(0, 1), (29, 1), (1, 2)] {
        world.advance(seconds(after));
        for _ in 0..100 {
            let reply = world.get(target).await;
            assert_eq!((reply.status, reply.code().as_str()), (404, "unknown_installation"), "{target}");
        }
        assert_eq!(world.github.count("GET", path), look_ups, "{target}");
    }
    assert_eq!(world.mints(), 0);
}

#[tokio::test]
async fn missing_names_are_looked_up_once_in_30_s() {
    check_look_ups("/token?repo=acme/nothing", "/repos/acme/nothing/installation").await;
    check_look_ups("/token?owner=acmee", "/users/acmee/installation").await;
    check_look_ups("/token?enterprise=acmee", "/enterprises/acmee/installation").await;
}

#[tokio::test]
async fn missing_names_of_the_preview_read_its_list_once_in_30_s() {
    let world = world(250, &[("GHTOKEND_GITHUB__DIALECT", "integrations")], "").await;
    let pages = |world: &World| {
        let by_route = world.github.counters().by_route;
        by_route.get("GET /integration/installations").copied().unwrap_or_default()
    };
    let accepted = pages(&world);
    for (after, reads) in [(0, 1), (29, 1), (1, 2)] {
        world.advance(seconds(after));
        for number in 0..100 {
            let reply = world.get(&format!("/token?owner=nobody-{}", number % 7)).await;
            assert_eq!((reply.status, reply.code().as_str()), (404, "unknown_installation"));
        }
        assert_eq!(pages(&world) - accepted, reads * 3);
    }
}

#[tokio::test]
async fn app_is_read_once_a_minute() {
    let world = world(1, &[], "").await;
    let before = world.github.count("GET", "/app");
    for (after, reads) in [(0, 1), (59, 1), (1, 2)] {
        world.advance(seconds(after));
        for _ in 0..100 {
            assert_eq!(world.get("/app").await.status, 200);
        }
        assert_eq!(world.github.count("GET", "/app") - before, reads);
    }
}

/// Gives a token back that no daemon has minted.
async fn revoke(address: SocketAddr, number: usize) -> Reply {
    let request = format!(
        "DELETE /installation/token HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: test\r\nConnection: close\r\n\
         Authorization: Bearer ghs_madeup{number:028}\r\n\r\n"
    );
    send(address, &request).await.unwrap()
}

#[tokio::test]
async fn foreign_revocations_are_ten_a_minute() {
    let world = world(1, &[], "").await;
    let revoked = || world.github.count("DELETE", "/installation/token");
    // Three at once, and one each nine seconds: the last of ten in the sixtieth second.
    let (mut by_code, mut shortest) = (BTreeMap::new(), 0);
    for (tens, sent) in (0..).zip([4, 5, 6, 7, 8, 10]) {
        let refusals = world.refusals();
        let mut asking = JoinSet::new();
        (0..100).for_each(|number| drop(asking.spawn(revoke(world.address, tens * 100 + number))));
        let at_once = if tens == 0 { 3 } else { 0 };
        world.queued(64, (refusals, 100 - 64 - at_once)).await;
        world.advance(seconds(10));
        let replies = asking.join_all().await;
        let (revoked_ones, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 204);
        *by_code.entry("ok".to_owned()).or_insert(0) += revoked_ones.len();
        for reply in &refused {
            *by_code.entry(reply.code()).or_insert(0) += 1;
        }
        shortest = refused.iter().map(|reply| wait(reply)).min().unwrap();
        assert_eq!(revoked(), sent);
    }
    assert_eq!(by_code, [("ok".to_owned(), 10), ("caller_limited".to_owned(), 590)].into());
    // The next one goes when it was said to.
    assert_eq!(shortest, 9);
    world.advance(seconds(shortest));
    assert_eq!((revoke(world.address, 0).await.status, revoked()), (204, 11));
}

#[tokio::test]
async fn named_limit_lasts_as_long_as_github_says() {
    let world = world(3, &[], "").await;
    let limit = Effect::SecondaryLimit { status: 429, retry_after: Some(10) };
    world.github.fault(Fault::new(limit).on("POST", "/app/installations").times(1));
    for left in (1..=10).rev() {
        for id in 1..=3 {
            let reply = world.get(&format!("/token?installation={id}")).await;
            assert_eq!((reply.status, reply.code().as_str(), wait(&reply)), (429, "rate_limited", left));
            assert!(reply.message().contains("GitHub returned 429"), "{}", reply.message());
        }
        assert_eq!(world.mints(), 1);
        let status = world.get("/status").await.json();
        assert_eq!(status["apps"][0]["limits"][0]["reason"], "rate_limit");
        world.advance(seconds(1));
    }
    let status = world.get("/status").await.json();
    assert_eq!(status["apps"][0]["limits"], serde_json::json!([]));
    world.tokens(1..=3).await;
    let metrics = world.get("/metrics").await.text();
    let mints: Vec<_> = metrics.lines().filter(|line| line.starts_with("ghtokend_mints_total{")).collect();
    let counted = |outcome: &str, count: usize| {
        let line = format!(
            "ghtokend_mints_total{{app=\"default\",outcome=\"{outcome}\",priority=\"foreground\"}} {count}"
        );
        assert!(mints.contains(&&*line), "{line} is not in {mints:?}");
    };
    counted("rate_limited", 1);
    counted("ok", 3);
    assert_eq!(world.mints(), 1 + 3);
}

#[tokio::test]
async fn call_that_nobody_waits_for_is_not_sent() {
    let world = world(3, &[MINTS], "").await;
    world.tokens(1..=1).await;
    world.advance(seconds(21));
    let leaving = ask(world.address, "test", 2);
    until(|| async { world.admission().queued == 1 }).await;
    leaving.abort();
    until(|| async { world.admission().queued == 0 }).await;
    world.advance(seconds(9));
    // The budget pays for one mint, and the caller that has left does not get it.
    assert_eq!(world.get("/token?installation=3").await.status, 200);
    assert_eq!((mints_of(&world, 2), world.mints()), (0, 2));
}

#[tokio::test]
async fn waiting_caller_hears_429_after_10_s() {
    let world = world(3, &[MINTS], "").await;
    world.tokens(1..=1).await;
    world.advance(seconds(25));
    let served = ask(world.address, "test", 2);
    until(|| async { world.admission().queued == 1 }).await;
    let refused = ask(world.address, "other", 3);
    until(|| async { world.admission().queued == 2 }).await;
    world.advance(seconds(5));
    assert_eq!(served.await.unwrap().status, 200);
    world.advance(seconds(5));
    let refused = refused.await.unwrap();
    assert_eq!((refused.status, refused.code().as_str(), wait(&refused)), (429, "rate_limited", 25));
    world.advance(seconds(25));
    assert_eq!(world.get("/token?installation=3").await.status, 200);
    assert_eq!(world.mints(), 3);
}

#[tokio::test]
async fn caller_raises_the_priority_of_a_waiting_prefetch() {
    let file: String = (1..=3).map(|id| format!("[[prefetch]]\ninstallation = {id}\n")).collect();
    let world = world(3, &[MINTS], &file).await;
    assert_eq!(world.tick(), 3);
    until(|| async { world.mints() == 1 && world.admission().queued == 2 }).await;
    world.advance(seconds(21));
    let asking = ask(world.address, "test", 3);
    // The caller has joined the mint by the time that others, who came after it, are answered.
    for _ in 0..3 {
        world.get("/healthz").await;
    }
    world.advance(seconds(9));
    assert_eq!(asking.await.unwrap().status, 200);
    assert_eq!((mints_of(&world, 2), mints_of(&world, 3)), (0, 1));
    world.advance(MINT_INTERVAL);
    until(|| async { mints_of(&world, 2) == 1 }).await;
    assert_eq!(world.mints(), 3);
}

#[tokio::test]
async fn client_with_64_calls_waiting_hears_429_alone() {
    let world = world(200, &[], "").await;
    world.tokens(1..=50).await;
    let greedy: Vec<_> = (51..=120).map(|id| ask(world.address, "greedy", id)).collect();
    world.queued(64, (0, 6)).await;
    let modest = ask(world.address, "modest", 200);
    until(|| async { world.admission().queued == 65 }).await;
    // Two mints are paid for: one for each client.
    world.advance(Duration::from_millis(1200));
    assert_eq!(modest.await.unwrap().status, 200);
    assert_eq!((world.mints(), world.admission().queued), (52, 63));
    world.advance(seconds(10));
    let mut outcomes = BTreeMap::new();
    for asked in greedy {
        let reply = asked.await.unwrap();
        let code = if reply.status == 200 { "ok".to_owned() } else { reply.code() };
        *outcomes.entry((reply.status, code)).or_insert(0) += 1;
    }
    // 11.2 seconds pay for 18, of which the other client has had one.
    let (served, refused) = (17, 70 - 17);
    assert_eq!(
        outcomes,
        [((200, "ok".to_owned()), served), ((429, "caller_limited".to_owned()), refused)].into()
    );
}

#[tokio::test]
async fn more_than_1024_waiting_callers_are_a_503() {
    let room = ("GHTOKEND_LISTEN__MAX_CONNECTIONS", "2000");
    let world = world(1200, &[room], "").await;
    world.tokens(1..=50).await;
    let mut asking = JoinSet::new();
    for id in 51..=1100 {
        let asked = ask(world.address, &format!("client-{}", id % 40), id);
        asking.spawn(async move { asked.await.unwrap() });
    }
    world.queued(1024, (0, 1050 - 1024)).await;
    world.advance(seconds(10));
    let mut outcomes = BTreeMap::new();
    for reply in asking.join_all().await {
        let code = if reply.status == 200 { "ok".to_owned() } else { reply.code() };
        *outcomes.entry((reply.status, code)).or_insert(0) += 1;
    }
    assert_eq!(outcomes[&(503, "overloaded".to_owned())], 1050 - 1024);
    assert_eq!(outcomes[&(200, "ok".to_owned())], 16);
}

#[tokio::test]
async fn spent_budget_leaves_sdks_a_token_of_50_minutes() {
    let world = world(5, &[MINTS], "").await;
    let mint = async || {
        let request = "POST /app/installations/1/access_tokens HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: sdk\r\n\
                       Content-Length: 0\r\nConnection: close\r\n\r\n";
        send(world.address, request).await.unwrap()
    };
    let first = mint().await;
    assert_eq!((first.status, world.mints()), (201, 1));
    for (after, spends, expected) in [(120, 2, 201), (420, 3, 201), (60, 4, 429)] {
        world.advance(seconds(after));
        assert_eq!(ask(world.address, "other", spends).await.unwrap().status, 200);
        let reply = mint().await;
        assert_eq!(reply.status, expected, "{}", reply.text());
        if expected == 201 {
            assert_eq!(reply.json()["token"], first.json()["token"]);
        }
    }
    assert_eq!(mints_of(&world, 1), 1);
}
