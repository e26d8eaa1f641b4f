//! Wrong clocks, clocks that jump, and machines that sleep: no life is shortened, none is lengthened, and GitHub is
//! asked no more than with good ones.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use ghtokend::clock::Clock;
use ghtokend::fake_github::World as GithubWorld;
use ghtokend::fake_github::{Effect, FakeGithub, Fault, Options};
use jiff::Timestamp;
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::support::program::{Daemon, borrowed, variables_for};
use crate::support::world::{Reply, Setup, World, get, until};
use crate::tokens::renewal::sweep_for;

const MINT_1: &str = "/app/installations/1/access_tokens";
const SECOND: Duration = Duration::from_secs(1);

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

async fn started(github_ahead: i64) -> World {
    World::with(Setup { github_ahead, ..Setup::default() }).await
}

async fn ready(github_ahead: i64) -> World {
    let world = started(github_ahead).await;
    until(|| async { world.get("/readyz").await.status == 200 }).await;
    world
}

/// What GitHub answered to requests for a token of the default installation.
fn answers(world: &World) -> Vec<u16> {
    let journal = world.github.journal();
    journal.iter().filter(|entry| entry.path == MINT_1).filter_map(|entry| entry.status).collect()
}

/// Seconds by which the daemon takes GitHub's clock to be ahead of its own.
async fn offset(world: &World) -> f64 {
    let offset = world.get("/status").await.json()["clock_offset_seconds"].as_f64().unwrap();
    let metrics = world.get("/metrics").await.text();
    let metric = metrics.lines().find_map(|line| line.strip_prefix("ghtokend_github_clock_offset_seconds "));
    assert_eq!(metric.unwrap().parse::<f64>().unwrap(), offset);
    offset
}

async fn remaining(world: &World) -> u64 {
    world.get("/status").await.json()["tokens"][0]["remaining_seconds"].as_u64().unwrap()
}

/// What the daemon believes is so: GitHub's time, and that `token`, just minted, is good for an hour. Handed out until
/// 30 s before its end, then no more.
async fn check_time_and_life(world: &World, token: &str) {
    let at_github: Timestamp = world.github.journal().last().unwrap().at.parse().unwrap();
    let truth = at_github.duration_since(world.clock.wall()).as_secs_f64();
    let believed = offset(world).await;
    assert!((believed - truth).abs() <= 2.0, "{believed} s, and it is {truth} s");
    let left = remaining(world).await;
    assert!((3598..=3600).contains(&left), "{left}");
    check_end(world, token, left).await;
}

/// With `left` seconds to live, `token` is handed out until 30 s before its end, and then no more.
async fn check_end(world: &World, token: &str, left: u64) {
    world.github.fault(Fault::new(Effect::TruncatedBody).on("POST", MINT_1));
    world.advance(Duration::from_secs(left - 30));
    let last = world.get("/token").await;
    assert_eq!(last.header("ghtokend-token-state"), Some("stale"));
    assert_eq!(last.json()["token"], token);
    assert!(world.is_accepted(token).await);
    world.advance(SECOND);
    assert_eq!(world.get("/token").await.code(), "bad_upstream_response");
    world.github.clear_faults();
    world.advance(minutes(1));
    let next = world.token("/token").await;
    assert!(next != token && world.is_accepted(&next).await);
}

#[tokio::test]
async fn clock_wrong_at_start_costs_one_refused_mint() {
    for ahead in [600, -600, 86_400, -86_400] {
        let world = started(ahead).await;
        // The daemon asks who it is, and is to learn nothing from that.
        world.github.fault(Fault::new(Effect::Stall).on("GET", "/app"));
        let token = world.token("/token").await;
        assert_eq!(answers(&world), [401, 201], "{ahead}");
        check_time_and_life(&world, &token).await;
    }
}

#[tokio::test]
async fn clock_offset_is_shared_between_calls() {
    for ahead in [600, -600] {
        let world = ready(ahead).await;
        assert_eq!(world.github.count("GET", "/app"), 2);
        let token = world.token("/token").await;
        assert_eq!(answers(&world), [201], "{ahead}");
        check_time_and_life(&world, &token).await;
    }
}

#[tokio::test]
async fn clock_jump_costs_one_refused_mint() {
    for ahead in [600, -600, 86_400] {
        // As that of a virtual machine that was frozen, and does not know.
        let world = ready(0).await;
        world.github.skew(ahead);
        let token = world.token("/token").await;
        assert_eq!(answers(&world), [401, 201], "{ahead}");
        check_time_and_life(&world, &token).await;
    }
}

#[tokio::test]
async fn wall_clock_jump_changes_only_the_offset() {
    for jump in [86_400, -86_400] {
        let world = ready(0).await;
        let token = world.token("/token").await;
        let (before, left) = (offset(&world).await, remaining(&world).await);
        world.clock.set_wall_back(-jump * 1000);
        assert_eq!((world.token("/token").await, world.tick()), (token.clone(), 0));
        let moved = before - offset(&world).await;
        assert!((moved - jump as f64).abs() < 0.1, "{moved}");
        assert_eq!((remaining(&world).await, world.mints(), world.is_idle()), (left, 1, true));
        // The next mints, one by the app JWT in hand and one by a new one, go through at once.
        world.token("/token?owner=octocat").await;
        world.advance(minutes(30));
        world.token("/token?owner=octocat&permissions=contents:read").await;
        assert_eq!((world.mints(), world.github.counters().distinct_jwts), (3, 2));
        assert!(world.github.journal().iter().all(|entry| entry.status != Some(401)));
        check_end(&world, &token, left - 30 * 60).await;
    }
}

#[tokio::test]
async fn without_a_date_header_the_last_known_time_of_github_serves() {
    let world = started(120).await;
    world.get("/token?owner=octocat").await;
    world.github.fault(Fault::new(Effect::MissingDate).on("POST", MINT_1));
    let token = world.token("/token").await;
    let left = remaining(&world).await;
    assert!((3597..=3600).contains(&left), "{left}");
    world.github.clear_faults();
    check_end(&world, &token, left).await;
}

/// A world with so many installations, and the cached tokens of all of them.
async fn with_tokens(installations: u64) -> (World, BTreeSet<String>) {
    let options = Options { world: GithubWorld::with_installations(installations), ..Options::default() };
    let world = World::with(Setup { options, ..Setup::default() }).await;
    let tokens: BTreeSet<_> = world.tokens(1..=installations).await.into_iter().collect();
    assert_eq!((world.mints(), tokens.len()), (installations as usize, installations as usize));
    (world, tokens)
}

/// Asks for a token of each of these installations, all at once.
async fn ask_together(address: SocketAddr, installations: std::ops::RangeInclusive<u64>) -> Vec<Reply> {
    let ask = |id| async move { get(address, &format!("/token?installation={id}")).await };
    installations.map(ask).collect::<JoinSet<_>>().join_all().await
}

#[tokio::test]
async fn suspended_machine_hands_out_no_expired_token() {
    let (world, expired) = with_tokens(200).await;
    let minted = world.mints();
    // Nothing runs meanwhile, and both clocks go on.
    world.advance(minutes(120));
    assert_eq!(world.tick(), 0, "what nobody has asked for in two hours is not renewed");
    let hold = world.github.hold("POST", MINT_1);
    let waiting: Vec<_> =
        (0..100).map(|_| tokio::spawn(get(world.address, "/token?installation=1"))).collect();
    hold.reached(1).await;
    hold.release();
    let mut tokens = BTreeSet::new();
    for reply in waiting {
        tokens.insert(reply.await.unwrap().json()["token"].as_str().unwrap().to_owned());
    }
    assert_eq!((tokens.len(), world.mints() - minted), (1, 1));
    // The others come as fast as the budget allows: 49 at once, and 16 in the 10 s for which callers wait.
    tokens.extend(world.tokens(2..=50).await);
    assert_eq!(world.mints() - minted, 50);
    let refusals = world.refusals();
    let asking = tokio::spawn(ask_together(world.address, 51..=200));
    world.queued(64, (refusals, 150 - 64)).await;
    world.advance(Duration::from_secs(10));
    let (served, refused): (Vec<_>, Vec<_>) =
        asking.await.unwrap().into_iter().partition(|reply| reply.status == 200);
    assert_eq!((served.len(), refused.len(), world.mints() - minted), (16, 150 - 16, 66));
    assert!(refused.iter().all(|reply| reply.code() == "caller_limited"));
    tokens.extend(served.iter().map(|reply| reply.json()["token"].as_str().unwrap().to_owned()));
    tokens.extend(world.tokens(1..=200).await);
    assert_eq!(world.mints() - minted, 200);
    assert_eq!((tokens.len(), tokens.intersection(&expired).count()), (200, 0));
    for token in &tokens {
        assert!(world.is_accepted(token).await);
    }
}

#[tokio::test]
async fn suspended_machine_renews_within_its_budget() {
    let (world, _) = with_tokens(150).await;
    let all_are_served =
        async || ask_together(world.address, 1..=150).await.iter().all(|reply| reply.status == 200);
    world.advance(minutes(29));
    assert!(all_are_served().await);
    world.advance(minutes(28));
    let step = Duration::from_secs(5);
    let renewals = sweep_for(&world, Duration::from_secs(65), step).await;
    assert_eq!((renewals[0], renewals.iter().sum::<usize>()), (50, 150), "{renewals:?}");
    assert!(renewals[1..].iter().all(|renewed| *renewed <= 9), "a hundred a minute: {renewals:?}");
    assert!(all_are_served().await);
    assert_eq!(world.mints(), 300);
}

#[tokio::test]
async fn wrong_clock_is_warned_of_once() {
    let github = FakeGithub::start(Options { seed: Some(1), ..Options::default() }).await.unwrap();
    let daemon = Daemon::serve(&[], &borrowed(&variables_for(&github))).await;
    let address = daemon.url.trim_start_matches("http://").parse().unwrap();
    let asked = std::cell::Cell::new(0);
    let believed = async |ahead| {
        github.skew(ahead);
        // A token of another scope each time, so that GitHub is asked.
        asked.set(asked.get() + 1);
        let target = format!("/token?installation=1&repository_ids={}", asked.get());
        get(address, &target).await;
        get(address, "/status").await.json()["clock_offset_seconds"].as_f64().unwrap()
    };
    for wobble in [0, 1, -1, 1, 0, -1, -1, 1, 1] {
        let offset = believed(wobble).await;
        assert!(offset.abs() <= 2.0, "{offset}");
    }
    for ahead in [28, 33, 120, 0, 1] {
        let offset = believed(ahead).await;
        assert!((offset - ahead as f64).abs() <= 2.0, "{offset} for {ahead}");
    }
    daemon.signal(Signal::TERM);
    let (_, log) = daemon.ended().await;
    let said: Vec<_> = log.lines().filter(|line| line.contains("local clock ")).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    let wrong: serde_json::Value = serde_json::from_str(said[0]).unwrap();
    assert!(said[0].contains("differs from GitHub's: synchronise it by NTP"), "{said:?}");
    assert!((31..=34).contains(&wrong["offset_seconds"].as_i64().unwrap()), "{said:?}");
    assert!(said[1].contains("agrees with GitHub's again"), "{said:?}");
}
