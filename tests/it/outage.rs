//! A GitHub that is down, or that refuses the app.

use std::time::Duration;

use ghtokend::fake_github::{Effect, Fault};

use crate::world::{World, get, until};

const MINT_1: &str = "/app/installations/1/access_tokens";

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

fn down() -> Fault {
    Fault::new(Effect::Html { status: 503 })
}

#[tokio::test]
async fn a_pod_stays_ready_through_an_outage_and_while_a_refused_key_has_live_tokens() {
    let world = World::start().await;
    until(|| async { world.get("/readyz").await.status == 200 }).await;
    world.token("/token").await;
    world.github.fault(down());
    world.advance(minutes(58));
    assert_eq!(world.get("/token").await.header("ghtokend-token-state"), Some("stale"));
    assert_eq!(world.get("/token?owner=octocat").await.status, 503);
    world.advance(minutes(2));
    assert_eq!((world.get("/token").await.status, world.get("/readyz").await.status), (503, 200));
    world.github.clear_faults();

    // The key is refused, but there is a token.
    world.token("/token").await;
    let refused =
        Effect::Status { status: 401, body: "{\"message\":\"Bad credentials\"}".into(), headers: [].into() };
    world.github.fault(Fault::new(refused));
    assert_eq!(world.get("/token?installation=2").await.code(), "app_rejected");
    assert_eq!(world.get("/readyz").await.status, 200);
    assert_eq!(world.get("/status").await.json()["ready"], true);
    // There is none any more.
    world.advance(minutes(60));
    let unready = world.get("/readyz").await;
    assert_eq!(unready.status, 503);
    assert!(unready.text().contains("Bad credentials"), "{}", unready.text());
    assert!(
        world.get("/status").await.json()["apps"][0]["not_ready"]
            .as_str()
            .unwrap()
            .contains("Bad credentials")
    );
    // GitHub accepts it again: that is found out without a caller, of whom an unready pod has none.
    world.github.clear_faults();
    until(|| async { world.get("/readyz").await.status == 200 }).await;
    assert_eq!(world.github.count("POST", MINT_1), 4);
}

#[tokio::test]
async fn a_refused_renewal_makes_a_pod_unready_once_the_last_token_has_died() {
    let world = World::start().await;
    until(|| async { world.get("/readyz").await.status == 200 }).await;
    world.token("/token").await;
    world.advance(minutes(29));
    world.token("/token").await;
    let refused =
        Effect::Status { status: 401, body: "{\"message\":\"Bad credentials\"}".into(), headers: [].into() };
    world.github.fault(Fault::new(refused));
    world.advance(minutes(21));
    assert_eq!(world.tick(), 1);
    until(|| async { world.is_idle() }).await;
    assert_eq!(world.get("/readyz").await.status, 200);
    world.advance(minutes(10));
    assert_eq!(world.get("/readyz").await.status, 503);
}

#[tokio::test]
async fn a_refused_look_up_makes_a_pod_unready_and_a_mint_makes_it_ready_again() {
    let world = World::start().await;
    world.token("/token?installation=2").await;
    world.advance(minutes(61));
    let refused =
        Effect::Status { status: 401, body: "{\"message\":\"Bad credentials\"}".into(), headers: [].into() };
    world.github.fault(Fault::new(refused));
    assert_eq!(world.get("/token?owner=acme").await.code(), "app_rejected");
    assert_eq!(world.get("/readyz").await.status, 503);
    world.github.clear_faults();
    world.token("/token").await;
    assert_eq!(get(world.address, "/readyz").await.status, 200);
}
