//! `POST /token/reject`: believed with restraint.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ghtokend::fake_github::{Effect, Fault};

use crate::support::world::{Reply, Setup, World, get, send};

const MINT_1: &str = "/app/installations/1/access_tokens";

async fn post(address: SocketAddr, body: &str) -> Reply {
    let request = format!(
        "POST /token/reject HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: test\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    send(address, &request).await.unwrap()
}

/// What the daemon makes of it that `token` was refused.
async fn reject(world: &World, token: &str) -> Reply {
    post(world.address, &serde_json::json!({ "token": token }).to_string()).await
}

fn outcome(reply: &Reply) -> (u16, String) {
    (reply.status, reply.json()["outcome"].as_str().unwrap_or_default().to_owned())
}

fn is(outcome: &str) -> (u16, String) {
    (202, outcome.to_owned())
}

#[tokio::test]
async fn a_rejected_token_is_replaced_by_one_mint() {
    let world = World::start().await;
    let token = world.token("/token").await;
    world.advance(Duration::from_secs(6));
    assert_eq!(outcome(&reject(&world, &token).await), is("evicted"));
    let renewed = world.token("/token").await;
    assert!(renewed != token && world.mints() == 2);
    // It is no longer in service, so that saying it again does nothing.
    let again = reject(&world, &token).await;
    assert_eq!((outcome(&again), again.header("retry-after")), (is("unknown"), None));
    assert_eq!(world.token("/token").await, renewed);
}

#[tokio::test]
async fn a_token_is_known_by_its_hash_padded_or_not() {
    let world = World::start().await;
    for (target, encoding) in [("/token", &STANDARD), ("/token?owner=octocat", &STANDARD_NO_PAD)] {
        let token = world.token(target).await;
        world.advance(Duration::from_secs(6));
        let hash = encoding.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()));
        let reply = post(world.address, &format!("{{\"token_sha256\":\"{hash}\"}}")).await;
        assert_eq!(outcome(&reply), is("evicted"), "{target}");
    }
}

#[tokio::test]
async fn a_new_token_is_kept_until_github_can_be_taken_to_know_it() {
    let world = World::start().await;
    let token = world.token("/token").await;
    world.advance(Duration::from_secs(2));
    let reply = reject(&world, &token).await;
    assert_eq!((outcome(&reply), reply.header("retry-after")), (is("kept"), Some("3")));
    assert_eq!((world.token("/token").await, world.mints()), (token, 1));
}

#[tokio::test]
async fn rejecting_an_expired_token_is_unknown() {
    let world = World::start().await;
    let token = world.token("/token").await;
    world.advance(Duration::from_secs(3600));
    assert_eq!(outcome(&reject(&world, &token).await), is("unknown"));
}

#[tokio::test]
async fn a_thousand_callers_with_the_same_dead_token_cause_one_mint() {
    let world = World::start().await;
    let token = world.token("/token").await;
    world.github.revoke_token(&token);
    world.advance(Duration::from_secs(60));
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let (address, body) = (world.address, serde_json::json!({ "token": token }).to_string());
            tokio::spawn(async move {
                assert_eq!(post(address, &body).await.status, 202);
                get(address, "/token").await.json()["token"].as_str().unwrap().to_owned()
            })
        })
        .collect();
    for caller in callers {
        assert_ne!(caller.await.unwrap(), token);
    }
    assert_eq!(world.mints(), 2);
}

#[tokio::test]
async fn spurious_rejects_cost_at_most_one_mint_a_minute() {
    let world = World::start().await;
    world.token("/token").await;
    let before = world.mints();
    // Ten minutes in which every second some caller is refused a good token.
    for _ in 0..600 {
        world.advance(Duration::from_secs(1));
        let token = world.token("/token").await;
        reject(&world, &token).await;
    }
    assert_eq!(world.mints() - before, 10);
}

#[tokio::test]
async fn rejected_token_is_stale_when_no_mint_succeeds() {
    let world = World::start().await;
    let token = world.token("/token").await;
    world.advance(Duration::from_secs(6));
    reject(&world, &token).await;
    world.github.fault(Fault::new(Effect::Html { status: 503 }).on("POST", MINT_1).times(3));
    let reply = world.get("/token").await;
    assert_eq!(
        (reply.header("ghtokend-token-state"), reply.json()["token"].as_str()),
        (Some("stale"), Some(&*token))
    );
    world.advance(Duration::from_secs(1));
    assert_ne!(world.token("/token").await, token);
}

#[tokio::test]
async fn stale_token_rejected_again_is_kept() {
    let world = World::start().await;
    let token = world.token("/token").await;
    world.advance(Duration::from_secs(6));
    assert_eq!(outcome(&reject(&world, &token).await), is("evicted"));
    world.github.fault(Fault::new(Effect::TruncatedBody).on("POST", MINT_1));
    assert_eq!(world.get("/token").await.header("ghtokend-token-state"), Some("stale"));
    for (passed, wait) in [(0, "60"), (20, "40"), (60, "60")] {
        world.advance(Duration::from_secs(passed));
        let again = reject(&world, &token).await;
        assert_eq!((outcome(&again), again.header("retry-after")), (is("kept"), Some(wait)), "{passed} s");
    }
    // It used nothing up: another key's token is still believed.
    let other = world.token("/token?owner=octocat").await;
    world.advance(Duration::from_secs(6));
    assert_eq!(outcome(&reject(&world, &other).await), is("evicted"));
}

#[tokio::test]
async fn malformed_reject_error_quotes_no_secret() {
    let world = World::with(Setup::default()).await;
    for body in [
        "",
        "{}",
        "ghs_secret",
        "{\"token\":\"ghs_secret\",\"token_sha256\":\"x\"}",
        "{\"token\":1}",
        "{\"tokens\":\"ghs_secret\"}",
        "{\"token_sha256\":\"c2hvcnQ=\"}",
        "[]",
        "[\"ghs_secret\",null]",
    ] {
        let reply = post(world.address, body).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_request"), "{body}");
        assert!(
            reply.message().starts_with("the body is {\"token\":") && !reply.text().contains("ghs_secret")
        );
    }
    assert_eq!(outcome(&reject(&world, "ghs_never_handed_out").await), is("unknown"));
    let reply = world.get("/token/reject").await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    let huge = format!("{{\"token\":\"{}\"}}", "x".repeat(70_000));
    assert_eq!(post(world.address, &huge).await.code(), "too_large");
    let chunk = "x".repeat(70_000);
    let chunked = format!(
        "POST /token/reject HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n",
        chunk.len()
    );
    assert_eq!(send(world.address, &chunked).await.unwrap().code(), "too_large");
}
