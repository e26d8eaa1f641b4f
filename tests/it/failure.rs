//! What is done when GitHub fails: as few calls as can be, and an honest answer to who waits.

use std::time::Duration;

use ghtokend::fake_github::{Effect, Fault};

use crate::world::{Reply, World};

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

fn wait(reply: &Reply) -> u64 {
    reply
        .header("retry-after")
        .unwrap_or_else(|| panic!("no wait is named: {}", reply.text()))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn what_may_pass_is_tried_twice_more() {
    for effect in [
        Effect::Html { status: 500 },
        Effect::Html { status: 502 },
        Effect::Html { status: 503 },
        Effect::Html { status: 504 },
        Effect::ResetBefore,
        Effect::ResetAfter,
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
async fn what_will_not_pass_is_asked_once() {
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
async fn after_five_failures_in_a_row_github_is_left_alone_and_asked_by_one_call_at_a_time() {
    let world = before(Effect::Html { status: 503 }, None).await;
    assert_eq!((world.get("/token").await.status, world.mints()), (503, 3));
    assert_eq!((world.get("/token?installation=2").await.status, world.mints()), (503, 5));
    for target in ["/token", "/token?installation=2", "/token?installation=3"] {
        let reply = world.get(target).await;
        assert_eq!((reply.code().as_str(), world.mints()), ("github_unavailable", 5), "{target}");
        assert!((1..=10).contains(&wait(&reply)), "{}", wait(&reply));
        assert!(
            reply.message().contains("the last time: minting a token answered 503"),
            "{}",
            reply.message()
        );
    }
    // The pause is over: one call finds out that nothing has changed, and the next pause is longer.
    world.advance(seconds(10));
    let replies = [world.get("/token").await, world.get("/token?installation=2").await];
    assert_eq!(world.mints(), 6);
    assert!(wait(&replies[1]) >= 10, "{}", wait(&replies[1]));
    // GitHub is well again: the first call says so, and everybody is served.
    world.github.clear_faults();
    world.advance(seconds(wait(&replies[1])));
    for target in ["/token", "/token?installation=2", "/token?installation=3"] {
        assert_eq!(world.get(target).await.status, 200, "{target}");
    }
    assert_eq!(world.mints(), 9);
}

#[tokio::test]
async fn a_warm_token_is_handed_out_while_github_is_left_alone() {
    let world = World::start().await;
    let token = world.token("/token").await;
    world.github.fault(Fault::new(Effect::Html { status: 503 }));
    for _ in 0..10 {
        world.get("/token?installation=2").await;
        assert_eq!(world.token("/token").await, token);
    }
    assert_eq!(world.mints(), 1 + 5);
}

#[tokio::test]
async fn while_github_limits_the_app_it_is_not_asked_at_all() {
    for (headers, expected) in [(&[("retry-after", "30")][..], 30), (&[], 60)] {
        let world = before(status(429, headers), Some(1)).await;
        assert_eq!(wait(&world.get("/token").await), expected);
        world.advance(seconds(10));
        let asked = world.github.counters().requests;
        for target in ["/token", "/token?installation=2", "/token?owner=acme"] {
            let reply = world.get(target).await;
            assert_eq!((reply.status, reply.code().as_str()), (429, "rate_limited"), "{target}");
            assert_eq!(wait(&reply), expected - 10);
        }
        assert_eq!(world.github.counters().requests, asked);
        world.advance(seconds(expected - 10));
        assert_eq!(world.get("/token").await.status, 200);
    }
}

#[tokio::test]
async fn a_limit_that_goes_on_is_asked_about_ever_more_rarely() {
    let world = before(status(403, &[("x-ratelimit-remaining", "0")]), None).await;
    for (mints, expected) in [(1, 60), (2, 120), (3, 240)] {
        world.get("/token").await;
        let reply = world.get("/token").await;
        assert_eq!((reply.code().as_str(), wait(&reply), world.mints()), ("rate_limited", expected, mints));
        world.advance(seconds(expected));
    }
}

#[tokio::test]
async fn an_app_that_github_does_not_accept_is_tried_ever_more_rarely() {
    let world = before(status(401, &[]), None).await;
    for (mints, pause) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
        for target in ["/token", "/token?installation=2"] {
            let reply = world.get(target).await;
            assert_eq!((reply.code().as_str(), world.mints()), ("app_rejected", mints), "{target}");
        }
        world.advance(seconds(pause));
    }
    world.github.clear_faults();
    world.advance(seconds(8));
    assert_eq!(world.get("/token").await.status, 200);
    // What was accepted since counts, not what was before.
    world.github.fault(Fault::new(status(401, &[])).on("POST", "/app/installations").times(1));
    world.get("/token?installation=2").await;
    world.advance(seconds(1));
    assert_eq!(world.get("/token?installation=2").await.status, 200);
}
