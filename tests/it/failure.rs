//! What is done when GitHub fails: as few calls as can be, and an honest answer to who waits.

use std::time::Duration;

use ghtokend::fake_github::{Effect, Fault, Options, World as GithubWorld};

use crate::world::{Reply, Setup, World, get, until};

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
    for target in ["/token?installation=3", "/token?installation=4"] {
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
    let replies = [world.get("/token").await, world.get("/token?installation=5").await];
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
    for id in 2..10 {
        world.get(&format!("/token?installation={id}")).await;
        assert_eq!(world.token("/token").await, token);
    }
    assert_eq!(world.mints(), 1 + 5);
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
    world.get("/token?installation=3").await;
    world.advance(seconds(1));
    assert_eq!(world.get("/token?installation=3").await.status, 200);
}

#[tokio::test]
async fn whoever_comes_while_one_call_finds_out_is_served_if_it_succeeds() {
    let world = before(Effect::Html { status: 503 }, None).await;
    world.get("/token").await;
    world.get("/token?installation=2").await;
    world.github.clear_faults();
    world.advance(seconds(10));
    let hold = world.github.hold("POST", "/app/installations");
    let address = world.address;
    let asking: Vec<_> = (1..=3)
        .map(|id| tokio::spawn(async move { get(address, &format!("/token?installation={id}")).await }))
        .collect();
    hold.reached(1).await;
    assert_eq!(world.mints(), 6, "one call at a time");
    hold.release();
    for asked in asking {
        assert_eq!(asked.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_failure_is_remembered_for_its_key_ever_longer_and_a_minute_at_most() {
    let world = before(status(422, &[]), None).await;
    let mut attempts = Vec::new();
    for second in 0..300_u64 {
        let before = world.mints();
        let reply = world.get("/token").await;
        assert_eq!((reply.status, reply.code().as_str()), (422, "scope_not_granted"));
        assert!(reply.message().contains("minting a token answered 422"), "{}", reply.message());
        attempts.extend((before < world.mints()).then_some(second));
        world.advance(seconds(1));
    }
    let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, longest) in pauses.iter().zip([1, 2, 4, 8, 16, 32, 60, 60, 60, 60]) {
        assert!((longest / 2..=longest).contains(pause), "{pauses:?}");
    }
    assert!(pauses.len() >= 8, "{pauses:?}");
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
async fn all_who_ask_while_a_failure_is_remembered_hear_of_it_and_how_long() {
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
async fn callers_mint_no_more_than_the_budget_and_hear_when_there_is_more() {
    let options = Options { world: GithubWorld::with_installations(10), ..Options::default() };
    let environment = vec![("GHTOKEND_GITHUB__MINTS_PER_MINUTE", "3".to_owned())];
    let world = World::with(Setup { options, environment, ..Setup::default() }).await;
    for id in 1..=3 {
        assert_eq!(world.get(&format!("/token?installation={id}")).await.status, 200);
        world.advance(seconds(10));
    }
    for id in 4..=5 {
        let reply = world.get(&format!("/token?installation={id}")).await;
        assert_eq!((reply.status, reply.code().as_str(), wait(&reply)), (429, "rate_limited", 30));
        assert!(reply.message().contains("github.mints_per_minute"), "{}", reply.message());
    }
    assert_eq!(world.get("/token?installation=1").await.status, 200, "what is in hand costs nothing");
    world.advance(seconds(30));
    assert_eq!(world.get("/token?installation=4").await.status, 200);
    assert_eq!(world.get("/token?installation=5").await.code(), "rate_limited");
    assert_eq!(world.mints(), 4);
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
async fn what_was_under_way_makes_a_limit_no_shorter() {
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

#[tokio::test]
async fn what_was_not_asked_is_not_held_against_its_key() {
    let world = before(Effect::Html { status: 503 }, None).await;
    world.get("/token").await;
    world.get("/token?installation=2").await;
    // GitHub is left alone; installation 3 was never asked about, however often it is wanted.
    for _ in 0..50 {
        assert_eq!(world.get("/token?installation=3").await.status, 503);
    }
    world.github.clear_faults();
    world.advance(seconds(wait(&world.get("/token?installation=3").await)));
    assert_eq!(world.get("/token?installation=3").await.status, 200);
}
