//! A GitHub that is down: what is warm is served as long as it lives, however it is asked for.

use std::time::Duration;

use ghtokend::fake_github::{Effect, Fault, Options, World as GithubWorld};

use crate::support::world::{Reply, Setup, World, get, until};

const SECOND: Duration = Duration::from_secs(1);

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

fn down() -> Fault {
    Fault::new(Effect::Html { status: 503 })
}

async fn ask_all(world: &World, targets: &[&str]) -> Vec<Reply> {
    let mut replies = Vec::new();
    for target in targets {
        replies.push(world.get(target).await);
    }
    replies
}

/// An hour without GitHub, in which `targets`, warm at its start, are asked for every ten seconds.
async fn an_hour_without_github(world: &World, targets: &[&str]) {
    for reply in ask_all(world, targets).await {
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let (mints, calls) = (world.mints(), world.github.counters().requests);
    world.github.fault(down());
    for second in (0..3600_u64).step_by(10) {
        world.tick();
        for reply in ask_all(world, targets).await {
            // A second is taken off a token's life, since `Date` is whole seconds.
            if second < 3600 - 31 {
                assert_eq!(reply.status, 200, "{second} s: {}", reply.text());
            } else if second > 3600 - 30 {
                assert_eq!((reply.status, reply.code().as_str()), (503, "github_unavailable"), "{second} s");
                assert!(reply.header("retry-after").is_some());
            }
        }
        until(|| async { world.is_idle() }).await;
        if second == 54 * 60 {
            // Half a minute apart for each name, and ever more slowly for each renewal.
            let asked = world.github.counters().requests - calls;
            let most = targets.len() * (90 + 20);
            assert!(world.mints() - mints <= targets.len() * 20 && asked <= most, "{asked} calls");
        }
        world.advance(10 * SECOND);
    }
    // It is back: a minute later all is well, with a mint for each token.
    world.github.clear_faults();
    let mints = world.mints();
    for _ in 0..60 {
        world.tick();
        until(|| async { world.is_idle() }).await;
        world.advance(SECOND);
    }
    for reply in ask_all(world, targets).await {
        assert_eq!(reply.header("ghtokend-token-state"), Some("fresh"), "{}", reply.text());
    }
    assert_eq!(world.mints() - mints, targets.len());
}

#[tokio::test]
async fn apps_tokens_served_through_outage_until_grace() {
    let world = World::start().await;
    let targets =
        ["/token", "/token?owner=octocat", "/token?repo=acme/widgets", "/token?enterprise=acme-enterprise"];
    an_hour_without_github(&world, &targets).await;
}

#[tokio::test]
async fn integrations_tokens_served_through_outage() {
    let environment = vec![("GHTOKEND_GITHUB__DIALECT", "integrations".to_owned())];
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    an_hour_without_github(&world, &["/token", "/token?owner=octocat"]).await;
}

#[tokio::test]
async fn name_is_served_stale_while_its_look_up_fails() {
    // What may pass is tried up to three times, but only once where it failed the last time.
    for (effect, down, calls) in [
        ("503", Effect::Html { status: 503 }, [3, 1]),
        (
            "401",
            Effect::Status { status: 401, body: "{\"message\":\"no\"}".into(), headers: [].into() },
            [1, 1],
        ),
        ("429", Effect::SecondaryLimit { status: 429, retry_after: Some(30) }, [1, 1]),
        ("reset", Effect::ResetBefore, [3, 1]),
    ] {
        let world = World::start().await;
        let token = world.token("/token?owner=acme").await;
        world.github.fault(Fault::new(down));
        world.advance(minutes(30));
        let before = world.github.count("GET", "/users/acme/installation");
        assert_eq!(world.token("/token?owner=acme").await, token, "{effect}");
        assert_eq!(world.github.count("GET", "/users/acme/installation"), before + calls[0]);
        // For half a minute it is not asked again, and later nobody waits for it.
        for _ in 0..29 {
            world.advance(SECOND);
            world.token("/token?owner=acme").await;
        }
        until(|| async { world.is_idle() }).await;
        assert_eq!(world.github.count("GET", "/users/acme/installation"), before + calls[0], "{effect}");
        world.advance(2 * SECOND);
        let hold = world.github.hold("GET", "/users/acme");
        assert_eq!(world.token("/token?owner=acme").await, token, "{effect}");
        hold.release();
        until(|| async { world.is_idle() }).await;
        assert_eq!(
            world.github.count("GET", "/users/acme/installation"),
            before + calls[0] + calls[1],
            "{effect}"
        );
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_read_anew_is_gone_by_as_before() {
    let environment = vec![("GHTOKEND_GITHUB__DIALECT", "integrations".to_owned())];
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    let token = world.token("/token?owner=acme").await;
    world.github.fault(down());
    world.advance(minutes(30));
    let before = world.github.count("GET", "/integration/installations");
    for _ in 0..29 {
        assert_eq!(world.token("/token?owner=acme").await, token);
        world.advance(SECOND);
    }
    assert_eq!(world.github.count("GET", "/integration/installations"), before + 3);
    assert_eq!(world.get("/token?owner=nobody").await.status, 503, "what it lacks is not denied");
}

#[tokio::test]
async fn definite_lookup_result_replaces_a_cached_one() {
    let world = World::start().await;
    world.token("/token?owner=acme").await;
    world.advance(minutes(11));
    world.github.rename_account("acme", "acme-inc");
    assert_eq!(world.get("/token?owner=acme").await.code(), "unknown_installation");
    assert_eq!(world.get("/token?owner=acme").await.code(), "unknown_installation");
}

#[tokio::test]
async fn a_name_in_use_is_looked_up_anew_behind_its_callers() {
    let world = World::start().await;
    let token = world.token("/token?owner=acme").await;
    world.advance(Duration::from_secs(575));
    let hold = world.github.hold("GET", "/users/acme");
    for _ in 0..20 {
        assert_eq!(world.token("/token?owner=acme").await, token);
    }
    hold.reached(1).await;
    hold.release();
    until(|| async { world.is_idle() }).await;
    world.advance(minutes(9));
    world.token("/token?owner=acme").await;
    assert_eq!(world.github.count("GET", "/users/acme/installation"), 2);
}

#[tokio::test]
async fn readiness_survives_outage_with_live_tokens() {
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
    world.advance(minutes(1));

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
    world.advance(minutes(1));
    until(|| async { world.get("/readyz").await.status == 200 }).await;
}

#[tokio::test]
async fn rejected_app_is_unready_after_its_last_token() {
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
async fn rejected_lookup_is_unready_until_a_mint_succeeds() {
    let world = World::start().await;
    world.token("/token?installation=2").await;
    world.advance(minutes(61));
    let refused =
        Effect::Status { status: 401, body: "{\"message\":\"Bad credentials\"}".into(), headers: [].into() };
    world.github.fault(Fault::new(refused));
    assert_eq!(world.get("/token?owner=acme").await.code(), "app_rejected");
    assert_eq!(world.get("/readyz").await.status, 503);
    world.github.clear_faults();
    world.advance(minutes(1));
    world.token("/token").await;
    assert_eq!(get(world.address, "/readyz").await.status, 200);
}

#[tokio::test]
async fn one_installation_that_github_forbids_makes_no_pod_unready() {
    let world = World::start().await;
    until(|| async { world.get("/readyz").await.status == 200 }).await;
    let forbidden = Effect::Status { status: 403, body: "{\"message\":\"no\"}".into(), headers: [].into() };
    world.github.fault(Fault::new(forbidden).on("POST", "/app/installations/2"));
    assert_eq!(world.get("/token?installation=2").await.code(), "app_rejected");
    assert_eq!(world.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn cached_lookup_expires_after_failed_revalidation() {
    let world = World::start().await;
    world.token("/token?owner=acme").await;
    world.advance(Duration::from_secs(575));
    world.github.fault(down());
    world.token("/token?owner=acme").await;
    until(|| async { world.is_idle() }).await;
    world.github.clear_faults();
    world.github.rename_account("acme", "acme-inc");
    world.advance(minutes(24 * 60));
    assert_eq!(world.get("/token?owner=acme").await.code(), "unknown_installation");
}

/// For a minute in which `broken` is asked for twice a second, every cold key is served at once.
async fn check_newcomers(world: &World, broken: &[&str]) {
    for second in 0..60 {
        for target in broken.repeat(2) {
            assert_eq!(world.get(target).await.code(), "github_unavailable");
        }
        world.token(&format!("/token?installation={}", 10 + second)).await;
        world.advance(SECOND);
    }
}

#[tokio::test]
async fn broken_installations_keep_no_cold_key_waiting() {
    let options = Options { world: GithubWorld::with_installations(70), ..Options::default() };
    let world = World::with(Setup { options, ..Setup::default() }).await;
    for id in 1..=2 {
        let mint = format!("/app/installations/{id}/access_tokens");
        world.github.fault(Fault::new(Effect::Html { status: 500 }).on("POST", &mint));
    }
    check_newcomers(&world, &["/token?installation=1", "/token?installation=2"]).await;
    // Three calls at first, and then one after 1, 2, 4, 8, 16, 32 s, each less up to half.
    let broken = world.mints() - 60;
    assert!((2 * (3 + 5)..=2 * (3 + 6)).contains(&broken), "{broken}");
}

#[tokio::test]
async fn broken_look_up_keeps_no_cold_key_waiting() {
    let options = Options { world: GithubWorld::with_installations(70), ..Options::default() };
    let world = World::with(Setup { options, ..Setup::default() }).await;
    world.github.fault(Fault::new(Effect::Html { status: 502 }).on("GET", "/repos/acme/broken"));
    check_newcomers(&world, &["/token?repo=acme/broken"]).await;
    let broken = world.github.count("GET", "/repos/acme/broken/installation");
    assert!((3 + 5..=3 + 6).contains(&broken), "{broken}");
}

#[tokio::test]
async fn keys_in_use_are_renewed_soon_after_an_outage() {
    for outage in (600..700).step_by(23) {
        let options = Options { world: GithubWorld::with_installations(5), ..Options::default() };
        let world = World::with(Setup { options, ..Setup::default() }).await;
        let ask = async || {
            for id in 1..=5 {
                assert_eq!(world.get(&format!("/token?installation={id}")).await.status, 200);
            }
        };
        ask().await;
        world.advance(minutes(46));
        ask().await;
        world.github.fault(down());
        for _ in 0..outage {
            world.advance(SECOND);
            world.tick();
            until(|| async { world.is_idle() }).await;
        }
        world.github.clear_faults();
        let before = world.mints();
        for _ in 0..61 {
            world.advance(SECOND);
            world.tick();
            until(|| async { world.is_idle() }).await;
        }
        assert_eq!(world.mints() - before, 5, "{outage}");
    }
}
