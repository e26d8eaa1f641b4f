//! `min_ttl`: a token that lives long enough, at the cost of one mint for all who want it.

use std::time::Duration;

use ghtokend::fake_github::{Effect, Fault, Options};

use crate::support::program::{borrowed, run, variables_for};
use crate::support::world::{World, get, send};

const MINT_1: &str = "/app/installations/1/access_tokens";

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

#[tokio::test]
async fn a_token_that_lives_long_enough_is_handed_out_as_it_is() {
    let world = World::start().await;
    let token = world.token("/token?min_ttl=50m").await;
    world.advance(minutes(20));
    for enough in ["0", "60", "30m", "39m"] {
        assert_eq!(world.token(&format!("/token?min_ttl={enough}")).await, token, "{enough}");
    }
    assert_eq!(world.mints(), 1);
}

#[tokio::test]
async fn concurrent_min_ttl_requests_share_one_mint() {
    let world = World::start().await;
    let old = world.token("/token").await;
    world.advance(minutes(20));
    let hold = world.github.hold("POST", MINT_1);
    let callers: Vec<_> = (0..200)
        .map(|caller| {
            let (address, target) = (world.address, format!("/token?min_ttl={}", 41 + caller % 9) + "m");
            tokio::spawn(async move { get(address, &target).await })
        })
        .collect();
    hold.reached(1).await;
    hold.release();
    let mut tokens = Vec::new();
    for caller in callers {
        let reply = caller.await.unwrap();
        assert_eq!((reply.status, reply.header("ghtokend-token-state")), (200, Some("fresh")));
        tokens.push(reply.json()["token"].as_str().unwrap().to_owned());
    }
    tokens.dedup();
    assert_eq!((tokens.len(), world.mints()), (1, 2));
    assert_ne!(tokens[0], old);
}

#[tokio::test]
async fn more_than_github_grants_is_refused_with_the_longest() {
    let world = World::start().await;
    for (asked, lifetime, longest) in
        [("50m1s", None, "50m"), ("101", Some(120), "1m 40s"), ("2h", Some(3600), "50m")]
    {
        if let Some(seconds) = lifetime {
            world.github.clear_faults();
            world.github.fault(Fault::new(Effect::Lifetime { seconds }).on("POST", MINT_1));
            world.advance(minutes(61));
            world.token("/token").await;
        }
        let before = world.mints();
        let reply = world.get(&format!("/token?min_ttl={asked}")).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_request"), "{asked}");
        assert!(
            reply.message().contains(&format!("ask for {longest} at most")),
            "{asked}: {}",
            reply.message()
        );
        assert_eq!(world.mints(), before);
    }
}

#[tokio::test]
async fn shorter_grant_than_min_ttl_is_an_error() {
    let world = World::start().await;
    world.github.fault(Fault::new(Effect::Lifetime { seconds: 600 }).on("POST", MINT_1));
    let reply = world.get("/token?min_ttl=45m").await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_request"));
    assert!(reply.message().contains("ask for 8m 20s at most"), "{}", reply.message());
    assert_eq!((world.get("/token?min_ttl=8m").await.status, world.mints()), (200, 1));
}

#[tokio::test]
async fn failed_min_ttl_mint_never_vends_a_shorter_token() {
    let world = World::start().await;
    let token = world.token("/token").await;
    world.advance(minutes(20));
    world.github.fault(Fault::new(Effect::Html { status: 503 }).on("POST", MINT_1));
    for (target, left) in [("/token?min_ttl=45m", "39m 5"), ("/token?min_ttl=45m&format=text", "39m 5")] {
        let reply = world.get(target).await;
        assert_eq!(reply.status, 503, "{target}");
        assert!(reply.header("retry-after").is_some() && reply.text().contains("github_unavailable"));
        let says = format!("the cached token lives {left}");
        assert!(reply.text().contains(&says), "{}", reply.text());
        assert!(!reply.text().contains(&token));
    }
    // Whoever wants no more has not lost anything.
    assert_eq!(world.token("/token").await, token);
    // A stale one is as good as ever for those for whom it lives long enough.
    world.advance(minutes(36));
    let stale = world.get("/token?min_ttl=60").await;
    assert_eq!(
        (stale.header("ghtokend-token-state"), stale.json()["token"].as_str()),
        (Some("stale"), Some(&*token))
    );
    // Without a cached token there is no remaining life to state.
    let cold = world.get("/token?min_ttl=45m&permissions=contents:read").await;
    assert!(cold.status == 503 && !cold.text().contains("cached token"), "{}", cold.text());
}

#[tokio::test]
async fn a_daemon_that_stops_says_how_long_the_token_in_hand_lives() {
    let environment = vec![("GHTOKEND_SHUTDOWN__DELAY", "20s".to_owned())];
    let mut world = World::with(crate::support::world::Setup { environment, ..Default::default() }).await;
    world.token("/token").await;
    world.advance(minutes(20));
    world.begin_to_stop();
    crate::support::world::until(|| async {
        world.get("/token?owner=octocat").await.code() == "shutting_down"
    })
    .await;
    let reply = world.get("/token?min_ttl=45m").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "shutting_down"));
    assert!(reply.message().contains("the cached token lives 39m"), "{}", reply.message());
}

#[tokio::test]
async fn min_ttl_works_for_git_and_commands() {
    let world = World::start().await;
    world.token("/token").await;
    world.advance(minutes(20));
    let body = "protocol=http\nhost=127.0.0.1\n";
    let web_url = world.get("/status").await.json()["web_url"].as_str().unwrap().to_owned();
    let body = body.replace("127.0.0.1", web_url.trim_start_matches("http://").trim_end_matches('/'));
    let request = format!(
        "POST /git-credential/get?min_ttl=45m HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = send(world.address, &request).await.unwrap();
    assert!(reply.status == 200 && reply.text().contains("password="), "{}", reply.text());
    assert_eq!(world.mints(), 2);

    let github = ghtokend::fake_github::FakeGithub::start(Options::default()).await.unwrap();
    let variables = variables_for(&github);
    let daemon = crate::support::program::Daemon::serve(&[], &borrowed(&variables)).await;
    let at = ["--url", &daemon.url, "--owner", "acme", "--min-ttl"];
    let (code, token, stderr) = run(&[&["token"][..], &at, &["45m"]].concat(), &[]).await;
    assert_eq!((code, token.is_empty()), (0, false), "{stderr}");
    let shell = ["--", "sh", "-c", "echo $GH_TOKEN"];
    assert_eq!(run(&[&["exec"][..], &at, &["2700"], &shell].concat(), &[]).await.1, token);
    let (code, stdout, stderr) = run(&[&["token"][..], &at, &["51m"]].concat(), &[]).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("ask for 50m at most"), "{stderr}");
}
