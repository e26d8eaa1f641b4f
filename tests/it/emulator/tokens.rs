//! Installation tokens: mint, use, revoke.

#![cfg(feature = "fake-github")]

use std::time::Duration;

use ghtokend::fake_github::{
    FakeGithub, Installation, Mode, Options, Revocation, TokenFormat, World, permissions,
};
use serde_json::json;

use crate::emulator::client::{
    as_app, bearer, claims, demo, key, mint, send, signed, start, token, with_token,
};

#[tokio::test]
async fn restricted_token_reaches_only_its_scope() {
    let github = demo().await;
    let body = r#"{"repositories": ["WIDGETS"], "repository_ids": [3], "permissions": {"contents": "read"}}"#;
    let minted = mint(&github, 1, body).await;
    assert_eq!(minted.status, 201, "{}", minted.text);
    let minted = minted.json();
    assert_eq!(minted["permissions"], json!({"contents": "read", "metadata": "read"}));
    assert_eq!(minted["repository_selection"], "selected");
    let names: Vec<&str> = minted["repositories"]
        .as_array()
        .unwrap()
        .iter()
        .map(|own| own["full_name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["acme/widgets", "acme/secrets"]);
    assert_eq!(minted["repositories"][0]["owner"]["login"], "acme");
    assert_eq!(minted["repositories"][0]["has_downloads"], true);
    let token = minted["token"].as_str().unwrap();
    let listed = with_token(&github, token, "GET", "/installation/repositories").await.json();
    assert_eq!((&listed["total_count"], &listed["repository_selection"]), (&json!(2), &json!("selected")));
    for (path, status) in [
        ("/repos/acme/widgets", 200),
        ("/repositories/3", 200),
        ("/repos/acme/gadgets", 404),
        ("/repos/acme/nothing", 404),
        ("/repos/octocat/hello-world", 404),
        ("/repos/acme/widgets/branches", 200),
        ("/repos/acme/gadgets/branches", 404),
    ] {
        assert_eq!(with_token(&github, token, "GET", path).await.status, status, "{path}");
    }
    let issues = with_token(&github, token, "GET", "/repos/acme/widgets/issues").await;
    assert_eq!((issues.status, issues.message().as_str()), (403, "Resource not accessible by integration"));
    assert_eq!(issues.header("x-accepted-github-permissions"), "issues=read");
}

#[tokio::test]
async fn a_private_repository_is_not_there_for_strangers() {
    let github = demo().await;
    for (name, status) in [("widgets", 200), ("secrets", 404)] {
        let url = format!("{}/repos/acme/{name}", github.api_url());
        assert_eq!(send("GET", &url, &[], "").await.status, status, "{name}");
    }
}

#[tokio::test]
async fn too_wide_a_wish_is_refused_in_githubs_words() {
    let github = demo().await;
    let check = async |body: &str, status: u16, message: &str| {
        let refused = mint(&github, 2, body).await;
        assert_eq!((refused.status, refused.message().as_str()), (status, message), "{body}");
        let docs = refused.json()["documentation_url"].as_str().unwrap().to_owned();
        assert!(docs.ends_with("#create-an-installation-access-token-for-an-app"), "{docs}");
    };
    let not_granted = "The permissions requested are not granted to this installation.";
    let level = "The level of access for permissions requested are not granted to this installation.";
    let repository = "There is at least one repository that does not exist or is not accessible to the parent installation.";
    check(r#"{"permissions": {"issues": "read"}}"#, 422, not_granted).await;
    check(r#"{"permissions": {"no_such_thing": "read"}}"#, 422, not_granted).await;
    check(r#"{"permissions": {"contents": "write"}}"#, 422, level).await;
    check(r#"{"permissions": {"contents": "all"}}"#, 422, level).await;
    check(r#"{"repositories": ["widgets"]}"#, 422, repository).await;
    check(r#"{"repositories": ["hello-world", "nothing"]}"#, 422, repository).await;
    check(r#"{"repository_ids": [1]}"#, 422, repository).await;
    check(r#"{"permissions": "read"}"#, 400, "Problems parsing JSON").await;
    check("{", 400, "Problems parsing JSON").await;
    check("[]", 400, "Body should be a JSON object").await;
    let names: Vec<String> = (0..501).map(|n| format!("r{n}")).collect();
    let many = mint(&github, 2, &json!({ "repositories": names }).to_string()).await;
    assert_eq!(many.status, 422);
    assert!(many.message().starts_with("Too many repositories for installation"));
    let wrong = mint(&github, 2, r#"{"repositories": "hello-world"}"#).await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.message().starts_with("Invalid request."));
    assert_eq!(github.counters().mints, 0);
    for body in ["", "{}", r#"{"repositories": ["hello-world"], "permissions": {"metadata": "read"}}"#] {
        assert_eq!(mint(&github, 2, body).await.status, 201, "{body}");
    }
}

#[tokio::test]
async fn a_token_lives_for_an_hour_by_githubs_clock() {
    let github = demo().await;
    let minted = mint(&github, 1, "").await;
    let date = jiff::fmt::rfc2822::parse(minted.header("date")).unwrap().timestamp();
    let minted = minted.json();
    let expires_at = minted["expires_at"].as_str().unwrap();
    assert_eq!(expires_at.parse::<jiff::Timestamp>().unwrap().as_second() - date.as_second(), 3600);
    assert_eq!(expires_at.len(), "2016-07-11T22:14:10Z".len());
    let token = minted["token"].as_str().unwrap();
    github.advance(Duration::from_secs(3590));
    assert_eq!(with_token(&github, token, "GET", "/installation/repositories").await.status, 200);
    github.advance(Duration::from_secs(10));
    let expired = with_token(&github, token, "GET", "/installation/repositories").await;
    assert_eq!(
        (expired.status, expired.json()),
        (
            401,
            json!({
                "message": "Bad credentials", "documentation_url": "https://docs.github.com/rest", "status": "401",
            })
        )
    );
}

#[tokio::test]
async fn revoked_token_cannot_be_revoked_again() {
    let github = demo().await;
    let token = token(&github, 1).await;
    assert_eq!(with_token(&github, &token, "DELETE", "/installation/token").await.status, 204);
    let again = with_token(&github, &token, "DELETE", "/installation/token").await;
    assert_eq!((again.status, again.message().as_str()), (401, "Bad credentials"));
    let other = self::token(&github, 1).await;
    assert!(github.revoke_token(&other));
    assert!(!github.revoke_token(&other));
    assert_eq!(with_token(&github, &other, "GET", "/installation/repositories").await.status, 401);
}

#[tokio::test]
async fn revoking_a_stateless_token_may_do_nothing() {
    let github = start(Options { stateless_revocation: Revocation::Ineffective, ..Options::default() }).await;
    let token = token(&github, 1).await;
    assert_eq!(with_token(&github, &token, "DELETE", "/installation/token").await.status, 204);
    assert_eq!(with_token(&github, &token, "GET", "/installation/repositories").await.status, 200);
}

fn check_stateless(token: &str) {
    let rest = token.strip_prefix("ghs_1001_").unwrap();
    assert_eq!(rest.split('.').count(), 3, "{token}");
    assert!(rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{token}");
    assert!(rest.contains('-') && rest.contains('_') && token.len() > 520, "{} {token}", token.len());
}

#[tokio::test]
async fn tokens_come_in_every_format() {
    let with = async |format| start(Options { token_format: format, ..Options::default() }).await;
    let opaque = token(&with(TokenFormat::Opaque).await, 1).await;
    assert!(opaque.len() == 40 && opaque[4..].bytes().all(|byte| byte.is_ascii_alphanumeric()), "{opaque}");
    let legacy = token(&with(TokenFormat::LegacyV1).await, 1).await;
    assert!(legacy.len() == 43 && legacy[3..].bytes().all(|byte| byte.is_ascii_hexdigit()), "{legacy}");
    let github = with(TokenFormat::Stateless).await;
    let mut lengths = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let token = token(&github, 1).await;
        check_stateless(&token);
        lengths.insert(token.len());
    }
    assert!(lengths.len() > 5, "{lengths:?}");
    let github = with(TokenFormat::Rollout).await;
    let mut dots = std::collections::BTreeSet::new();
    for _ in 0..30 {
        dots.insert(token(&github, 1).await.matches('.').count());
    }
    assert_eq!(Vec::from_iter(dots), [0, 2]);
}

#[tokio::test]
async fn an_app_may_have_a_format_of_its_own() {
    let mut world = World::demo();
    world.apps[0].token_format = Some(TokenFormat::LegacyV1);
    let github = start(Options { world, ..Options::default() }).await;
    assert!(token(&github, 1).await.starts_with("v1."));
}

#[tokio::test]
async fn a_header_overrides_the_format_except_on_an_enterprise_server() {
    for (mode, wish, dots) in [
        (Mode::Dotcom, "enabled", 2),
        (Mode::Dotcom, "disabled", 0),
        (Mode::Dotcom, "Disabled", 2),
        (Mode::Ghes, "enabled", 0),
    ] {
        let github = start(Options { mode, ..Options::default() }).await;
        let jwt = bearer(&signed(&key(&github), &claims(1001)));
        let url = format!("{}/app/installations/1/access_tokens", github.api_url());
        let headers = [("authorization", jwt.as_str()), ("x-github-stateless-s2s-token", wish)];
        let minted = send("POST", &url, &headers, "").await.json();
        assert_eq!(minted["token"].as_str().unwrap().matches('.').count(), dots, "{mode:?} {wish}");
    }
    let github =
        start(Options { mode: Mode::Ghes, token_format: TokenFormat::Opaque, ..Options::default() }).await;
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    let url = format!("{}/app/installations/1/access_tokens", github.api_url());
    let headers = [("authorization", jwt.as_str()), ("x-github-stateless-s2s-token", "enabled")];
    assert_eq!(send("POST", &url, &headers, "").await.json()["token"].as_str().unwrap().len(), 40);
}

#[tokio::test]
async fn a_token_of_four_kibibytes_works() {
    for format in [TokenFormat::Opaque, TokenFormat::Stateless, TokenFormat::LegacyV1] {
        let options = Options { token_format: format, token_length: Some(4096), ..Options::default() };
        let github = start(options).await;
        let token = token(&github, 1).await;
        assert_eq!(token.len(), 4096, "{format:?}");
        assert_eq!(with_token(&github, &token, "GET", "/installation/repositories").await.status, 200);
    }
}

#[tokio::test]
async fn same_seed_gives_same_keys_and_tokens() {
    let (one, two) = (demo().await, demo().await);
    assert_eq!(key(&one), key(&two));
    assert_eq!(token(&one, 1).await, token(&two, 1).await);
    let other = FakeGithub::start(Options { seed: Some(2), ..Options::default() }).await.unwrap();
    assert_ne!(token(&one, 1).await, token(&other, 1).await);
}

#[tokio::test]
async fn permission_change_affects_new_tokens_only() {
    let github = demo().await;
    let old = token(&github, 2).await;
    assert!(github.set_permissions(2, permissions("contents:read issues:read metadata:read")));
    assert_eq!(with_token(&github, &old, "GET", "/repos/octocat/hello-world/issues").await.status, 403);
    let new = token(&github, 2).await;
    assert_eq!(with_token(&github, &new, "GET", "/repos/octocat/hello-world/issues").await.status, 200);
    assert!(github.add_repository(2, "spoon-knife"));
    let count = async || {
        with_token(&github, &old, "GET", "/installation/repositories").await.json()["total_count"].clone()
    };
    assert_eq!(count().await, 2);
    assert_eq!(as_app(&github, "GET", "/repos/octocat/spoon-knife/installation", "").await.status, 200);
    assert!(github.remove_repository(2, "hello-world"));
    assert_eq!(count().await, 1);
    assert!(github.remove_repository(1, "gadgets"));
    assert_eq!(as_app(&github, "GET", "/repos/acme/gadgets/installation", "").await.status, 404);
    assert!(!github.remove_repository(1, "gadgets"));
    assert!(!github.add_repository(3, "an-enterprise-has-none"));
}

#[tokio::test]
async fn an_installation_can_be_added_while_it_runs() {
    let github = demo().await;
    assert!(github.delete_installation(2));
    github.add_installation(Installation::new(7, "demo", "octocat")).unwrap();
    assert_eq!(as_app(&github, "GET", "/users/octocat/installation", "").await.json()["id"], 7);
    let twice = github.add_installation(Installation::new(7, "demo", "octocat")).unwrap_err();
    assert!(twice.to_string().contains("`7` appears twice"), "{twice}");
}
