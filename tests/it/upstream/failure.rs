//! What is done when GitHub fails: as few calls as can be, and an honest answer to who waits.

use std::time::Duration;

use ghtokend::fake_github::{Effect, Fault, Options, World as GithubWorld};

use crate::support::world::{Reply, Setup, World, get, until};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn status(status: u16, headers: &[(&str, &str)]) -> Effect {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Effect::Status { status, body: "{\"message\":\"no\"}".into(), headers }
}

async fn before(effect: Effect, times: Option<u32>) -> World {
    let world = World::start().await;
    let fault = Fault::new(effect).on("POST", "/app/installations");
    world.github.fault(times.into_iter().fold(fault, Fault::times));
    world
}

/// A world with ten installations.
async fn of_many(environment: Vec<(&'static str, String)>) -> World {
    let options = Options { world: GithubWorld::with_installations(10), ..Options::default() };
    World::with(Setup { options, environment, ..Setup::default() }).await
}

/// Between attempts in 300 seconds lie 1, 2, 4 … 60 seconds, less up to half.
fn check_pauses(attempts: &[u64]) {
    let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (at, pause) in pauses.iter().enumerate() {
        let longest = (1_u64 << at.min(6)).min(60);
        assert!((longest.div_ceil(2)..=longest).contains(pause), "{pauses:?}");
    }
    assert!((10..=15).contains(&attempts.len()), "{attempts:?}");
}

fn wait(reply: &Reply) -> u64 {
    reply
        .header("retry-after")
        .unwrap_or_else(|| panic!("no wait is named: {}", reply.text()))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn transient_error_retried_twice() {
    for effect in [
        Effect::Html { status: 500 },
        Effect::Html { status: 502 },
        Effect::Html { status: 503 },
        Effect::Html { status: 504 },
        Effect::ResetBefore,
        Effect::ResetAfter,
        Effect::CutBody,
    ] {
        let world = before(effect.clone(), Some(2)).await;
        assert_eq!((world.get("/token").await.status, world.mints()), (200, 3), "{effect:?}");
        let world = before(effect.clone(), None).await;
        let reply = world.get("/token").await;
        assert_eq!((reply.status, reply.code().as_str()), (503, "github_unavailable"), "{effect:?}");
        assert!(wait(&reply) >= 1);
        assert_eq!(world.mints(), 3, "{effect:?}");
    }
}

#[tokio::test]
async fn permanent_error_not_retried() {
    for (effect, expected) in [
        (status(400, &[]), 502),
        (status(401, &[]), 502),
        (status(403, &[]), 502),
        (status(404, &[]), 404),
        (status(422, &[]), 422),
        (status(429, &[]), 429),
        (status(501, &[]), 503),
        // GitHub names the wait: a second call at once would be one too many.
        (status(503, &[("retry-after", "20")]), 503),
        (status(302, &[("location", "/x")]), 502),
        (Effect::TruncatedBody, 502),
        (Effect::HugeBody { bytes: 9 * 1024 * 1024 }, 502),
    ] {
        let world = before(effect.clone(), None).await;
        let reply = world.get("/token").await;
        assert_eq!((reply.status, world.mints()), (expected, 1), "{effect:?}: {}", reply.text());
    }
}

#[tokio::test]
async fn failing_keys_stop_no_other_key() {
    let world = of_many(Vec::new()).await;
    for id in 1..=5 {
        let failing = format!("/app/installations/{id}/access_tokens");
        world.github.fault(Fault::new(Effect::Html { status: 503 }).on("POST", &failing));
    }
    for id in 1..=5 {
        let reply = world.get(&format!("/token?installation={id}")).await;
        assert_eq!((reply.code().as_str(), wait(&reply)), ("github_unavailable", 1));
    }
    assert_eq!(world.mints(), 5 * 3);
    world.tokens(6..=10).await;
    assert_eq!(world.mints(), 5 * 3 + 5);
}

#[tokio::test]
async fn warm_token_is_served_while_every_mint_fails() {
    let world = of_many(Vec::new()).await;
    until(|| async { world.get("/readyz").await.status == 200 }).await;
    let token = world.token("/token").await;
    world.github.fault(Fault::new(Effect::Html { status: 503 }).on("POST", "/app/installations"));
    for id in 2..10 {
        world.get(&format!("/token?installation={id}")).await;
        assert_eq!(world.token("/token").await, token);
    }
    // Ten retries at once, and one for ten calls: 5 keys are tried three times, one twice, two once.
    assert_eq!(world.mints(), 1 + 5 * 3 + 2 + 2);
}

#[tokio::test]
async fn while_github_limits_the_app_it_is_not_asked_at_all() {
    for (limit, headers, expected) in
        [(403, &[("retry-after", "30")][..], 30), (429, &[("retry-after", "30")], 30), (429, &[], 60)]
    {
        let world = World::start().await;
        until(|| async { world.get("/readyz").await.status == 200 }).await;
        let warm = world.token("/token?permissions=contents:read").await;
        world.github.fault(Fault::new(status(limit, headers)).on("POST", "/app/installations").times(1));
        assert_eq!(wait(&world.get("/token").await), expected);
        let asked = world.github.counters().requests;
        for left in (1..expected).rev() {
            world.advance(seconds(1));
            for target in ["/token", "/token?installation=2", "/token?owner=acme"] {
                let reply = world.get(target).await;
                assert_eq!((reply.status, reply.code().as_str()), (429, "rate_limited"), "{target}");
                assert_eq!(wait(&reply), left);
            }
            assert_eq!(world.token("/token?permissions=contents:read").await, warm);
        }
        assert_eq!(world.github.counters().requests, asked);
        world.advance(seconds(1));
        assert_eq!(world.get("/token").await.status, 200);
        assert_eq!(world.github.counters().requests, asked + 1);
    }
}

#[tokio::test]
async fn a_limit_that_goes_on_is_asked_about_ever_more_rarely() {
    let world = before(status(403, &[("x-ratelimit-remaining", "0")]), None).await;
    for (mints, expected) in [(1, 60), (2, 120), (3, 240)] {
        for target in ["/token", "/token?installation=2"] {
            let reply = world.get(target).await;
            assert_eq!(
                (reply.code().as_str(), wait(&reply), world.mints()),
                ("rate_limited", expected, mints)
            );
        }
        world.advance(seconds(expected));
    }
}

#[tokio::test]
async fn refused_app_is_asked_ever_more_rarely() {
    let world = before(status(401, &[]), None).await;
    let mut attempts = Vec::new();
    for second in 0..300_u64 {
        let before = world.mints();
        for target in ["/token", "/token?installation=2"] {
            assert_eq!(world.get(target).await.code(), "app_rejected", "{target}");
        }
        assert!(world.mints() <= before + 1, "one attempt at a time");
        attempts.extend((before < world.mints()).then_some(second));
        world.advance(seconds(1));
    }
    check_pauses(&attempts);
    world.github.clear_faults();
    world.advance(seconds(60));
    assert_eq!(world.get("/token").await.status, 200);
    // What was accepted since counts, not what was before.
    world.github.fault(Fault::new(status(401, &[])).on("POST", "/app/installations").times(1));
    world.get("/token?installation=3").await;
    world.advance(seconds(1));
    assert_eq!(world.get("/token?installation=3").await.status, 200);
}

#[tokio::test]
async fn callers_wait_for_the_one_attempt_of_a_refused_app() {
    let world = before(status(401, &[]), Some(1)).await;
    assert_eq!(world.get("/token").await.code(), "app_rejected");
    world.advance(seconds(1));
    let hold = world.github.hold("POST", "/app/installations");
    let address = world.address;
    let asking: Vec<_> = (1..=3)
        .map(|id| tokio::spawn(async move { get(address, &format!("/token?installation={id}")).await }))
        .collect();
    hold.reached(1).await;
    until(|| async { world.admission().queued == 2 }).await;
    assert_eq!(world.mints(), 2, "one call at a time");
    hold.release();
    for asked in asking {
        assert_eq!(asked.await.unwrap().status, 200);
    }
    assert_eq!(world.mints(), 1 + 3);
}

#[tokio::test]
async fn failed_key_is_asked_ever_more_rarely() {
    let world = before(status(422, &[]), None).await;
    let mut attempts = Vec::new();
    for second in 0..300_u64 {
        let before = world.mints();
        let reply = world.get("/token").await;
        assert_eq!((reply.status, reply.code().as_str()), (422, "scope_not_granted"));
        assert!(reply.message().contains("GitHub returned 422"), "{}", reply.message());
        attempts.extend((before < world.mints()).then_some(second));
        world.advance(seconds(1));
    }
    check_pauses(&attempts);
    // Another key has its own.
    let before = world.mints();
    assert_eq!(world.get("/token?installation=2").await.status, 422);
    assert_eq!(world.mints(), before + 1);
    // A success ends it.
    world.github.clear_faults();
    world.advance(seconds(60));
    assert_eq!(world.get("/token").await.status, 200);
}

#[tokio::test]
async fn failed_look_up_is_asked_ever_more_rarely() {
    let world = World::start().await;
    world.github.fault(Fault::new(status(501, &[])).on("GET", "/users"));
    let mut attempts = Vec::new();
    for second in 0..300_u64 {
        let before = world.github.count("GET", "/users/acme/installation");
        let reply = world.get("/token?owner=acme").await;
        assert_eq!((reply.status, reply.code().as_str()), (503, "github_unavailable"));
        assert!(wait(&reply) <= 60, "{}", wait(&reply));
        let asked = world.github.count("GET", "/users/acme/installation") - before;
        attempts.extend((0..asked).map(|_| second));
        world.advance(seconds(1));
    }
    check_pauses(&attempts);
}

#[tokio::test]
async fn cached_failure_tells_the_remaining_wait() {
    let world = before(Effect::Html { status: 503 }, None).await;
    let first = world.get("/token").await;
    for _ in 0..50 {
        let reply = world.get("/token").await;
        assert_eq!((reply.status, wait(&reply)), (503, 1));
        assert_eq!(reply.json()["message"], first.json()["message"]);
    }
    assert_eq!(world.mints(), 3);
}

#[tokio::test]
async fn spent_budget_is_a_429_with_the_true_wait() {
    // A third of 3 at once, and one more each 30 s.
    let world = of_many(vec![("GHTOKEND_GITHUB__MINTS_PER_MINUTE", "3".to_owned())]).await;
    assert_eq!(world.get("/token?installation=1").await.status, 200);
    for (after, left) in [(0, 30), (10, 20), (9, 11)] {
        world.advance(seconds(after));
        for id in 2..=3 {
            let reply = world.get(&format!("/token?installation={id}")).await;
            assert_eq!((reply.status, reply.code().as_str(), wait(&reply)), (429, "rate_limited", left));
            assert!(reply.message().contains("github.mints_per_minute"), "{}", reply.message());
        }
    }
    assert_eq!(world.get("/token?installation=1").await.status, 200, "a cached token costs nothing");
    assert_eq!(world.mints(), 1);
    world.advance(seconds(11));
    assert_eq!(world.get("/token?installation=2").await.status, 200);
    assert_eq!(world.get("/token?installation=3").await.code(), "rate_limited");
    assert_eq!(world.mints(), 2);
}

/// A mint for installation 2 is under way when a limit of ten minutes is named to one for installation 1.
async fn limited_meanwhile(late: Option<Effect>) -> (World, u16) {
    let world = World::start().await;
    let (one, two) = ("/app/installations/1/access_tokens", "/app/installations/2/access_tokens");
    if let Some(late) = late {
        world.github.fault(Fault::new(late).on("POST", two).times(1));
    }
    let hold = world.github.hold("POST", two);
    let address = world.address;
    let under_way = tokio::spawn(async move { get(address, "/token?installation=2").await.status });
    hold.reached(1).await;
    world.github.fault(Fault::new(status(429, &[("retry-after", "600")])).on("POST", one).times(1));
    assert_eq!(world.get("/token?installation=1").await.status, 429);
    hold.release();
    let late = under_way.await.unwrap();
    (world, late)
}

#[tokio::test]
async fn in_flight_response_does_not_shorten_rate_limit() {
    for (effect, expected) in [(None, 200), (Some(status(401, &[])), 502), (Some(status(422, &[])), 422)] {
        let (world, late) = limited_meanwhile(effect).await;
        assert_eq!(late, expected);
        world.advance(seconds(2));
        assert_eq!(world.get("/token?installation=3").await.status, 429, "{expected}");
        assert_eq!(world.mints(), 2);
    }
}

#[tokio::test]
async fn a_wait_of_nothing_that_github_names_is_a_minute() {
    let world = before(status(429, &[("retry-after", "0")]), None).await;
    for id in 1..=20 {
        assert_eq!(world.get(&format!("/token?installation={id}")).await.status, 429);
    }
    assert_eq!(world.mints(), 1);
}
