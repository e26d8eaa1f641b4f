//! Worlds, and seeds.

#![cfg(feature = "fake-github")]

use ghtokend::fake_github::{Account, FakeGithub, Options, World, permissions};
use serde_json::Value;

use crate::emulator::client::{bearer, claims, demo, jwt_error, key, send, signed, start};

#[tokio::test]
async fn a_world_can_be_read_from_json() {
    let world = r#"{
        "apps": [{"name": "bot", "id": 5, "client_id": "Iv1.5", "slug": "bot", "token_format": "opaque"}],
        "accounts": [{"type": "Organization", "login": "acme", "id": 1}, {"type": "Enterprise", "slug": "big", "id": 2}],
        "repositories": [{"id": 1, "owner": "acme", "name": "one", "private": true}],
        "installations": [
            {"id": 1, "app": "bot", "account": "acme", "repository_selection": "selected", "repositories": ["one"],
             "permissions": {"contents": "read"}, "suspended_at": "2020-08-28T16:32:59Z"},
            {"id": 2, "app": "bot"}
        ]
    }"#;
    let world: World = serde_json::from_str(world).unwrap();
    let github = start(Options { world, ..Options::default() }).await;
    let bot = github.app("bot").unwrap();
    let jwt = bearer(&signed(&bot.private_key_pem, &claims("Iv1.5")));
    let list =
        send("GET", &format!("{}/app/installations", github.api_url()), &[("authorization", &jwt)], "").await;
    assert_eq!(list.json()[0]["suspended_at"], "2020-08-28T16:32:59Z");
    assert_eq!(list.json()[1]["account"], Value::Null);
    let demo = serde_json::to_string(&World::demo()).unwrap();
    assert_eq!(serde_json::from_str::<World>(&demo).unwrap(), World::demo());
}

#[tokio::test]
async fn a_world_that_does_not_fit_together_is_refused_in_words() {
    let check = async |change: fn(&mut World), words: &str| {
        let mut world = World::demo();
        change(&mut world);
        let error =
            FakeGithub::start(Options { world, seed: Some(1), ..Options::default() }).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    };
    check(|world| world.installations[0].app = "x".into(), "no app has the name `x`").await;
    check(|world| world.installations[0].account = Some("x".into()), "no account has the login or slug `x`")
        .await;
    check(|world| world.installations[1].repositories = ["x".to_owned()].into(), "no repository `x`").await;
    check(|world| world.repositories[0].owner = "x".into(), "no account has the login `x`").await;
    check(|world| world.installations[1].id = 1, "the id `1` appears twice").await;
    check(|world| world.accounts.push(Account::User { login: "acme".into(), id: 9 }), "`acme` appears twice")
        .await;
    check(|world| world.installations[0].permissions = permissions("contents:all"), "`all` is not a level")
        .await;
    check(
        |world| world.apps[0].private_keys = Some("-----BEGIN X-----\nAA==\n-----END X-----\n".into()),
        "RSA",
    )
    .await;
}

#[tokio::test]
async fn an_app_may_have_no_key() {
    let mut world = World::demo();
    world.apps[0].private_keys = Some(String::new());
    let (other, github) = (demo().await, start(Options { world, ..Options::default() }).await);
    assert_eq!(key(&github), "");
    assert_eq!(
        jwt_error(&github, &signed(&key(&other), &claims(1001))).await,
        "Integration must generate a public key"
    );
}
