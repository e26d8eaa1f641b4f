//! Tokens handed out: how many mints they cost, how long they live, what they may do.

use std::time::Duration;

use ghtokend::fake_github::World as GithubWorld;
use ghtokend::fake_github::{
    Account, App, Effect, Fault, Installation, Mode, Options, TokenFormat, WiderRepositories, permissions,
};

use crate::support::world::{Setup, World, get, send, until};

const MINT_1: &str = "/app/installations/1/access_tokens";

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// An emulator with these options.
fn on(options: Options) -> Setup {
    Setup { options, ..Setup::default() }
}

async fn together(world: &World, targets: impl Iterator<Item = String>) -> Vec<u16> {
    let hold = world.github.hold("POST", "/app/installations");
    let requests: Vec<_> = targets
        .map(|target| {
            let address = world.address;
            tokio::spawn(async move { get(address, &target).await.status })
        })
        .collect();
    hold.reached(1).await;
    hold.release();
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(request.await.unwrap());
    }
    statuses
}

#[tokio::test]
async fn two_hundred_first_requests_for_one_key_cost_one_mint() {
    let world = World::start().await;
    let statuses = together(&world, (0..200).map(|_| "/token".to_owned())).await;
    assert_eq!(statuses, vec![200; 200]);
    assert_eq!((world.mints(), world.github.counters().distinct_jwts), (1, 1));
}

#[tokio::test]
async fn cold_crowd_of_200_costs_one_lookup_one_mint() {
    let world = World::start().await;
    let statuses = together(&world, (0..200).map(|_| "/token?owner=acme".to_owned())).await;
    assert_eq!(statuses, vec![200; 200]);
    assert_eq!((world.mints(), world.github.count("GET", "/users/acme/installation")), (1, 1));
}

#[tokio::test]
async fn cold_crowd_on_20_keys_costs_20_mints_one_jwt() {
    let options = Options { world: GithubWorld::with_installations(20), ..Options::default() };
    let world = World::with(on(options)).await;
    let targets = (0..200).map(|n| format!("/token?installation={}", n % 20 + 1));
    assert_eq!(together(&world, targets).await, vec![200; 200]);
    let counters = world.github.counters();
    assert_eq!((counters.mint_requests, counters.distinct_jwts), (20, 1));
    assert!(counters.mints_by_installation.values().all(|&mints| mints == 1));
}

#[tokio::test]
async fn failed_mint_is_one_call_for_all_waiters() {
    let world = World::start().await;
    world.github.fault(Fault::new(Effect::TruncatedBody).on("POST", MINT_1).times(1));
    let hold = world.github.hold("POST", MINT_1);
    let first = tokio::spawn(get(world.address, "/token"));
    hold.reached(1).await;
    // These have come before the failure, however long they take to be read.
    let others: Vec<_> = (0..20).map(|_| tokio::spawn(get(world.address, "/token"))).collect();
    hold.release();
    assert_eq!(first.await.unwrap().status, 502);
    for other in others {
        other.await.unwrap();
    }
    assert!(world.mints() <= 2, "{} mints", world.mints());
}

#[tokio::test]
async fn request_order_or_case_does_not_split_the_cache() {
    let world = World::start().await;
    let one = world
        .token("/token?owner=acme&repositories=widgets,gadgets&permissions=contents:read,issues:read")
        .await;
    let other = world
        .token("/token?permissions=issues:READ,contents:read&repositories=GADGETS,widgets&owner=ACME")
        .await;
    assert_eq!((one == other, world.mints()), (true, 1));
    for different in [
        "/token?owner=acme",
        "/token?owner=acme&repositories=widgets,gadgets",
        "/token?owner=acme&repositories=widgets,gadgets&permissions=contents:write,issues:read",
        "/token?owner=acme&repository_ids=1,2&permissions=contents:read,issues:read",
        "/token?owner=octocat",
    ] {
        assert_ne!(world.token(different).await, one, "{different}");
    }
    assert_eq!(world.mints(), 6);
}

#[tokio::test]
async fn token_of_any_format_is_vended_unchanged() {
    for (token_format, token_length, at_least) in [
        (TokenFormat::Stateless, None, 521),
        (TokenFormat::Opaque, None, 40),
        (TokenFormat::LegacyV1, None, 43),
        (TokenFormat::Stateless, Some(4096), 4096),
    ] {
        let world = World::with(on(Options { token_format, token_length, ..Options::default() })).await;
        let json = world.token("/token").await;
        assert!(json.len() >= at_least, "{token_format:?}: {}", json.len());
        let text = world.get("/token?format=text").await;
        assert_eq!(text.text(), format!("{json}\n"));
        assert!(world.is_accepted(&json).await, "{token_format:?}");
    }
}

#[tokio::test]
async fn token_response_carries_github_fields_and_headers() {
    let world = World::start().await;
    let reply = world.get("/token?repo=Acme/Widgets&permissions=contents:read").await;
    let body = reply.json();
    assert_eq!(body["account"], "acme");
    assert_eq!(body["installation_id"], 1);
    assert_eq!(body["permissions"], serde_json::json!({"contents": "read", "metadata": "read"}));
    assert_eq!(body["repository_selection"], "selected");
    assert_eq!(body["repositories"], serde_json::json!(["widgets"]));
    assert!(body["on_behalf_of"].is_null() && body.as_object().unwrap().contains_key("on_behalf_of"));
    assert_eq!(reply.header("ghtokend-token-expires-at"), body["expires_at"].as_str());
    assert_eq!(reply.header("ghtokend-token-state"), Some("fresh"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.header("server").unwrap().starts_with("ghtokend/"));
    assert!(reply.header("x-request-id").is_some());
    // What GitHub did not say is left out: a token for everything lists no repositories.
    let whole = world.get("/token").await.json();
    assert!(whole.get("repositories").is_none() && whole.get("account").is_none(), "{whole}");
}

#[tokio::test]
async fn token_is_served_until_grace_before_expiry() {
    let world = World::start().await;
    let first = world.token("/token").await;
    // Fresh and renewing: at once, without the network.
    world.advance(minutes(49));
    assert_eq!(world.get("/token").await.header("ghtokend-token-state"), Some("fresh"));
    world.github.fault(Fault::new(Effect::TruncatedBody).on("POST", MINT_1).times(1));
    world.advance(minutes(5));
    let renewing = world.get("/token").await;
    assert_eq!(renewing.header("ghtokend-token-state"), Some("renewing"));
    world.minted(2).await;
    // Its renewal has failed. Stale: a new one is waited for, and is fresh.
    world.advance(minutes(2));
    let renewed = world.get("/token").await;
    assert_eq!((renewed.header("ghtokend-token-state"), world.mints()), (Some("fresh"), 3));
    assert_ne!(renewed.json()["token"], first.as_str());
}

#[tokio::test]
async fn failed_renewal_keeps_the_live_token_until_grace() {
    let world = World::start().await;
    let token = world.token("/token").await;
    world.advance(minutes(56));
    // Each is asked again only after some seconds.
    for (effect, seconds) in [
        (Effect::Html { status: 500 }, 0),
        (Effect::Status { status: 401, body: "{\"message\":\"no\"}".into(), headers: [].into() }, 1),
        (Effect::Status { status: 422, body: "{\"message\":\"no\"}".into(), headers: [].into() }, 0),
        (Effect::SecondaryLimit { status: 429, retry_after: Some(30) }, 30),
        (Effect::TruncatedBody, 0),
        (Effect::ResetBefore, 0),
        (Effect::ResetAfter, 0),
    ] {
        let seen = format!("{effect:?}");
        world.github.fault(Fault::new(effect).on("POST", MINT_1));
        let reply = world.get("/token").await;
        assert_eq!(reply.header("ghtokend-token-state"), Some("stale"), "{seen}");
        assert_eq!(reply.json()["token"], token.as_str(), "{seen}");
        world.github.clear_faults();
        world.advance(Duration::from_secs(seconds));
    }
    // 31 s of its life are left: the last moment.
    world.github.fault(Fault::new(Effect::Html { status: 500 }).on("POST", MINT_1));
    world.advance(Duration::from_secs(4 * 60 - 1 - 31 - 31));
    assert_eq!(world.get("/token").await.json()["token"], token.as_str());
    world.advance(Duration::from_secs(2));
    let expired = world.get("/token").await;
    assert_eq!((expired.status, expired.code().as_str()), (503, "github_unavailable"));
    world.github.clear_faults();
    world.advance(minutes(1));
    let renewed = world.token("/token").await;
    assert_ne!(renewed, token);
    assert!(world.is_accepted(&renewed).await);
}

#[tokio::test]
async fn windows_shrink_with_short_token_lifetimes() {
    let world = World::start().await;
    world.github.fault(Fault::new(Effect::Lifetime { seconds: 120 }).on("POST", MINT_1));
    let token = world.token("/token").await;
    world.advance(Duration::from_secs(60));
    assert_eq!(world.token("/token").await, token);
    world.advance(Duration::from_secs(50));
    assert_ne!(world.token("/token").await, token);
    assert_eq!(world.mints(), 2);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_cancel_the_mint() {
    let world = World::start().await;
    let hold = world.github.hold("POST", MINT_1);
    let impatient: Vec<_> = (0..300).map(|_| tokio::spawn(get(world.address, "/token"))).collect();
    hold.reached(1).await;
    for request in &impatient {
        request.abort();
    }
    hold.release();
    assert_eq!(world.get("/token").await.status, 200);
    assert_eq!(world.mints(), 1);
}

#[tokio::test]
async fn a_slow_installation_holds_up_no_other() {
    let world = World::start().await;
    let hold = world.github.hold("POST", MINT_1);
    let slow = tokio::spawn(get(world.address, "/token"));
    hold.reached(1).await;
    assert_eq!(world.get("/token?owner=octocat").await.status, 200);
    hold.release();
    assert_eq!(slow.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_suspension_drops_the_tokens_of_that_installation_alone() {
    let world = World::start().await;
    world.token("/token").await;
    world.token("/token?owner=acme&permissions=contents:read").await;
    world.token("/token?owner=octocat").await;
    world.github.suspend(1);
    world.advance(minutes(56));
    let refused = world.get("/token").await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "installation_suspended"));
    let left = world.get("/status").await.json()["tokens"].as_array().unwrap().clone();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["installation_id"], 2);
}

#[tokio::test]
async fn confirmed_404_drops_the_tokens_of_the_installation() {
    let world = World::start().await;
    world.token("/token").await;
    world.github.delete_installation(1);
    world.advance(minutes(56));
    let gone = world.get("/token").await;
    assert_eq!((gone.status, gone.code().as_str()), (404, "unknown_installation"));
    assert_eq!(world.github.count("GET", "/app/installations/1"), 1);
    assert_eq!(world.get("/status").await.json()["tokens"], serde_json::json!([]));
    for id in ["/token", "/token?permissions=contents:read"] {
        assert_eq!((world.get(id).await.status, world.mints()), (404, 2), "remembered for the installation");
    }
    world.advance(Duration::from_secs(1));
    assert_eq!(world.get("/token").await.status, 404);
    assert_eq!((world.github.count("GET", "/app/installations/1"), world.mints()), (2, 3));
}

#[tokio::test]
async fn a_404_that_github_does_not_confirm_drops_nothing() {
    let world = World::start().await;
    let token = world.token("/token").await;
    let not_found =
        Effect::Status { status: 404, body: "{\"message\":\"Not Found\"}".into(), headers: [].into() };
    world.github.fault(Fault::new(not_found).on("POST", MINT_1).times(1));
    world.advance(minutes(56));
    let reply = world.get("/token").await;
    assert_eq!(
        (reply.header("ghtokend-token-state"), reply.json()["token"].as_str()),
        (Some("stale"), Some(&*token))
    );
}

/// The app was removed from acme and installed there again, as number 77.
fn reinstall(world: &World) {
    world.github.delete_installation(1);
    let anew = Installation {
        permissions: permissions("contents:read metadata:read"),
        ..Installation::new(77, "demo", "acme")
    };
    world.github.add_installation(anew).unwrap();
}

#[tokio::test]
async fn mint_404_triggers_one_fresh_lookup() {
    let world = World::start().await;
    world.token("/token?owner=acme").await;
    reinstall(&world);
    // Another scope, so that the token in hand does not serve.
    let reply = world.get("/token?owner=acme&permissions=contents:read").await;
    assert_eq!(reply.json()["installation_id"], 77, "{}", reply.text());
    assert_eq!(world.github.count("GET", "/users/acme/installation"), 2);
}

#[tokio::test]
async fn mint_422_about_repositories_triggers_one_fresh_lookup() {
    let world = World::start().await;
    world.token("/token?owner=acme").await;
    reinstall(&world);
    let no_such = "{\"message\":\"There is at least one repository that does not exist\"}";
    let refusal = || Effect::Status { status: 422, body: no_such.into(), headers: [].into() };
    world.github.fault(Fault::new(refusal()).on("POST", MINT_1));
    let narrowed = world.get("/token?owner=acme&repositories=widgets").await;
    assert_eq!(narrowed.json()["installation_id"], 77, "{}", narrowed.text());
    assert_eq!(world.github.count("GET", "/users/acme/installation"), 2);
    // A 422 about permissions says nothing about the installation.
    let world = World::start().await;
    world.token("/token?owner=acme").await;
    assert_eq!(world.get("/token?owner=acme&permissions=administration:write").await.status, 422);
    assert_eq!(world.github.count("GET", "/users/acme/installation"), 1);
}

#[tokio::test]
async fn token_lifetime_counts_from_the_request() {
    let world = World::start().await;
    let hold = world.github.hold("POST", MINT_1);
    let waiting = tokio::spawn(get(world.address, "/token"));
    hold.reached(1).await;
    world.clock.advance(Duration::from_secs(100));
    hold.release();
    assert_eq!(waiting.await.unwrap().status, 200);
    let remaining = world.get("/status").await.json()["tokens"][0]["remaining_seconds"].as_u64().unwrap();
    assert!((3490..=3500).contains(&remaining), "{remaining}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_too_a_key_is_minted_once() {
    let options = Options { world: GithubWorld::with_installations(100), ..Options::default() };
    // What waits for places is less than the 64 calls of one client that may wait.
    let environment = vec![("GHTOKEND_GITHUB__MINTS_PER_MINUTE", "0".to_owned())];
    let world = World::with(Setup { environment, ..on(options) }).await;
    let requests: Vec<_> = (0..1600)
        .map(|n| {
            let address = world.address;
            tokio::spawn(
                async move { get(address, &format!("/token?installation={}", n / 16 + 1)).await.status },
            )
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    assert_eq!(world.mints(), 100);
}

#[tokio::test]
async fn windows_of_nothing_hand_out_no_dead_token() {
    let environment =
        vec![("GHTOKEND_CACHE__MIN_VALIDITY", "0s".to_owned()), ("GHTOKEND_CACHE__GRACE", "0s".to_owned())];
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    let token = world.token("/token").await;
    world.advance(Duration::from_secs(3598));
    assert_eq!(world.token("/token").await, token);
    world.advance(Duration::from_secs(2));
    assert_ne!(world.token("/token").await, token);
}

#[tokio::test]
async fn look_ups_are_remembered_for_ten_minutes() {
    let world = World::start().await;
    for (wait, look_ups) in [(0, 1), (9, 1), (2, 2)] {
        world.advance(minutes(wait));
        world.token("/token?owner=acme").await;
        assert_eq!(world.github.count("GET", "/users/acme/installation"), look_ups);
    }
}

#[tokio::test]
async fn a_grant_wider_than_asked_is_not_handed_out() {
    for (repositories, wider) in [
        (WiderRepositories::Requested, "contents:read actions:write"),
        (WiderRepositories::All, "contents:read"),
    ] {
        let world = World::start().await;
        let effect = Effect::WiderGrant { permissions: permissions(wider), repositories };
        world.github.fault(Fault::new(effect).on("POST", MINT_1).times(1));
        let reply = world.get("/token?repo=acme/widgets&permissions=contents:read").await;
        assert_eq!((reply.status, reply.code().as_str()), (502, "bad_upstream_response"), "{wider}");
        assert!(reply.message().contains("which was not asked for"), "{}", reply.message());
        world.advance(Duration::from_secs(1));
        assert_eq!(world.get("/token?repo=acme/widgets&permissions=contents:read").await.status, 200);
    }
}

#[tokio::test]
async fn a_base_url_with_a_path_is_kept_on_every_call() {
    let world = World::with(on(Options { mode: Mode::Ghes, ..Options::default() })).await;
    assert!(world.github.api_url().ends_with("/api/v3"));
    let token = world.token("/token?repo=acme/widgets").await;
    assert!(world.is_accepted(&token).await);
    assert_eq!(world.get("/token?enterprise=acme-enterprise").await.status, 200);
    assert!(world.github.journal().iter().all(|entry| entry.path.starts_with("/api/v3/")));
}

#[tokio::test]
async fn an_app_id_or_a_client_id_names_the_app() {
    for id in ["1001", "Iv23liDemoApp0000001"] {
        let environment = vec![("GITHUB_APP_ID", id.to_owned())];
        let world = World::with(Setup { environment, ..Setup::default() }).await;
        assert_eq!(world.get("/token").await.status, 200, "{id}");
    }
}

#[tokio::test]
async fn the_only_installation_is_the_one_that_is_meant() {
    let options = Options { world: GithubWorld::with_installations(1), ..Options::default() };
    let world = World::with(Setup { options, without_default_installation: true, ..Setup::default() }).await;
    assert_eq!(world.get("/token").await.json()["account"], "org-0001");
    world.get("/token").await;
    assert_eq!(world.github.count("GET", "/app/installations"), 1);
}

#[tokio::test]
async fn installations_without_account_login_have_tokens() {
    let mut github = GithubWorld::demo();
    github.installations.push(Installation { account: None, ..Installation::new(9, "demo", "acme") });
    let world = World::with(on(Options { world: github, ..Options::default() })).await;
    let enterprise = world.get("/token?enterprise=Acme-Enterprise").await;
    assert_eq!(
        (&enterprise.json()["account"], &enterprise.json()["installation_id"]),
        (&"acme-enterprise".into(), &3.into())
    );
    let lost = world.get("/token?installation=9").await;
    assert_eq!(lost.status, 200, "{}", lost.text());
    // The list that a request without a selector reads has both.
    let world = World::with(Setup {
        options: Options {
            world: GithubWorld {
                apps: GithubWorld::demo().apps,
                installations: vec![Installation { account: None, ..Installation::new(9, "demo", "acme") }],
                accounts: vec![Account::Organization { login: "acme".into(), id: 1 }],
                ..GithubWorld::default()
            },
            ..Options::default()
        },
        without_default_installation: true,
        ..Setup::default()
    })
    .await;
    assert_eq!(world.get("/token").await.json()["installation_id"], 9);
}

#[tokio::test]
async fn the_same_installation_id_in_two_apps_never_mixes() {
    let mut github = GithubWorld::demo();
    github.apps.push(App { client_id: "Iv23liOtherApp000002".into(), ..App::new("other", 2002) });
    github.installations.push(Installation {
        permissions: permissions("issues:read metadata:read"),
        ..Installation::new(50, "other", "acme")
    });
    let world = two_apps(github).await;
    let demo = world.get("/token?app=demo&owner=acme").await.json();
    let other = world.get("/token?app=other&owner=acme").await.json();
    assert_eq!((&demo["installation_id"], &other["installation_id"]), (&1.into(), &50.into()));
    assert_eq!(world.get("/token?owner=acme").await.json()["token"], demo["token"], "demo is the default");
    let by_header = |query: &str, name: &str| {
        let line = format!("GET /token?owner=acme{query} HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t");
        let request = format!("{line}\r\nGhtokend-App: {name}\r\nConnection: close\r\n\r\n");
        let address = world.address;
        async move { send(address, &request).await.unwrap() }
    };
    assert_eq!(by_header("", "other").await.json()["token"], other["token"]);
    assert_eq!(by_header("&app=other", "other").await.json()["token"], other["token"]);
    assert_eq!(by_header("&app=demo", "other").await.code(), "invalid_request");
    assert_eq!(by_header("", "nobody").await.code(), "unknown_app");
    let stranger = world.get("/token?app=other&installation=1").await;
    assert_eq!((stranger.status, stranger.code().as_str()), (404, "unknown_installation"));
    assert_eq!(world.mints(), 3);
}

/// A daemon for the apps `demo`, which is the default, and `other`.
async fn two_apps(github: GithubWorld) -> World {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().to_owned();
    // The keys of a seeded emulator are the same at every start, so that they can be written before it is started.
    let probe = ghtokend::fake_github::FakeGithub::start(Options {
        seed: Some(1),
        world: github.clone(),
        ..Options::default()
    });
    let probe = probe.await.unwrap();
    for app in probe.apps() {
        std::fs::write(keys.join(format!("{}.pem", app.name)), app.private_key_pem).unwrap();
    }
    let path = |name: &str| keys.join(format!("{name}.pem")).display().to_string();
    let environment = vec![
        ("GITHUB_APP_ID", String::new()),
        ("GITHUB_APP_PRIVATE_KEY", String::new()),
        ("GHTOKEND_APPS__DEMO__ID", "1001".to_owned()),
        ("GHTOKEND_APPS__DEMO__PRIVATE_KEY_FILE", path("demo")),
        ("GHTOKEND_APPS__DEMO__DEFAULT", "true".to_owned()),
        ("GHTOKEND_APPS__OTHER__ID", "2002".to_owned()),
        ("GHTOKEND_APPS__OTHER__PRIVATE_KEY_FILE", path("other")),
    ];
    let options = Options { world: github, ..Options::default() };
    World::with(Setup { options, environment, without_default_installation: true, ..Setup::default() }).await
}

#[tokio::test]
async fn tokens_are_given_back_at_the_end_if_that_is_configured() {
    for (revoke, revoked) in [("true", 30), ("false", 0)] {
        let options = Options { world: GithubWorld::with_installations(30), ..Options::default() };
        let environment = vec![("GHTOKEND_SHUTDOWN__REVOKE", revoke.to_owned())];
        let mut world = World::with(Setup { options, environment, ..Setup::default() }).await;
        let mut tokens = Vec::new();
        for id in 1..=30 {
            tokens.push(world.token(&format!("/token?installation={id}")).await);
        }
        world.stopped().await;
        assert_eq!(world.github.count("DELETE", "/installation/token"), revoked);
        for token in &tokens {
            assert_eq!(world.is_accepted(token).await, revoke == "false");
        }
    }
}

#[tokio::test]
async fn token_minted_while_draining_is_revoked() {
    let environment = vec![("GHTOKEND_SHUTDOWN__REVOKE", "true".to_owned())];
    let mut world = World::with(Setup { environment, ..Setup::default() }).await;
    world.token("/token?installation=2").await;
    let hold = world.github.hold("POST", MINT_1);
    let caller = tokio::spawn(get(world.address, "/token"));
    hold.reached(1).await;
    // Whoever waits for it has gone, so that nothing but the revocation keeps the daemon.
    caller.abort();
    world.begin_to_stop();
    until(|| async { world.github.count("DELETE", "/installation/token") == 1 }).await;
    hold.release();
    world.stopped().await;
    assert_eq!(world.github.count("DELETE", "/installation/token"), 2);
    assert_eq!(world.mints(), 2);
}

#[tokio::test]
async fn hung_github_does_not_block_shutdown() {
    let environment = vec![
        ("GHTOKEND_SHUTDOWN__REVOKE", "true".to_owned()),
        ("GHTOKEND_SHUTDOWN__GRACE", "100ms".to_owned()),
    ];
    let mut world = World::with(Setup { environment, ..Setup::default() }).await;
    world.token("/token").await;
    let _hold = world.github.hold("DELETE", "/installation/token");
    world.stopped().await;
    assert_eq!(world.github.count("DELETE", "/installation/token"), 1);
}
