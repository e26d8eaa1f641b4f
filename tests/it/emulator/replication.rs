//! Replication lag.

#![cfg(feature = "fake-github")]

use std::time::Duration;

use ghtokend::fake_github::{FakeGithub, LagResponse, Options, Replication};
use serde_json::json;

use crate::emulator::client::{control, demo, mint, start, token, with_token};

/// The statuses of two routes that use `token`: one that requires it, one that does not.
async fn uses(github: &FakeGithub, token: &str) -> [u16; 2] {
    let listed = with_token(github, token, "GET", "/installation/repositories").await;
    let open = with_token(github, token, "GET", "/rate_limit").await;
    [listed.status, open.status]
}

#[tokio::test]
async fn new_token_is_unknown_until_replication() {
    for (status, text) in [
        (LagResponse::Unauthorized, "Bad credentials"),
        (LagResponse::Forbidden, "Resource not accessible by integration"),
        (LagResponse::NotFound, "Not Found"),
    ] {
        let replication = Replication { lag_ms: 60_000, status };
        let github = start(Options { replication, ..Options::default() }).await;
        let token = token(&github, 1).await;
        let status = u16::from(status);
        assert_eq!(uses(&github, &token).await, [status; 2]);
        let refused = with_token(&github, &token, "GET", "/installation/repositories").await;
        assert_eq!(
            (refused.message().as_str(), refused.json()["status"].as_str()),
            (text, Some(&*status.to_string()))
        );
        // Its maker is not affected, and neither are tokens that have been there for long.
        assert_eq!(mint(&github, 1, "").await.status, 201);
        github.advance(Duration::from_secs(59));
        assert_eq!(uses(&github, &token).await, [status; 2]);
        github.advance(Duration::from_secs(1));
        assert_eq!(uses(&github, &token).await, [200; 2]);
    }
}

#[tokio::test]
async fn control_endpoint_sets_replication_lag() {
    let github = demo().await;
    let token = token(&github, 1).await;
    assert_eq!(control(&github, "POST", "/replication", r#"{"lag_ms": 60000}"#).await.status, 200);
    assert_eq!(uses(&github, &token).await, [401; 2]);
    let set = control(&github, "POST", "/replication", r#"{"lag_ms": 60000, "status": 404}"#).await;
    assert_eq!((set.status, uses(&github, &token).await), (200, [404; 2]));
    assert_eq!(
        control(&github, "GET", "/replication", "").await.json(),
        json!({"lag_ms": 60000, "status": 404})
    );
    for (body, expected) in [
        (r#"{"lag_ms": 1, "status": 500}"#, "allowed: 401, 403, 404"),
        (r#"{"lag_ms": -1}"#, "not negative"),
        ("{}", "missing field `lag_ms`"),
    ] {
        let refused = control(&github, "POST", "/replication", body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.text.contains(expected), "{body}: {}", refused.text);
    }
    github.set_replication(Replication::default());
    assert_eq!(uses(&github, &token).await, [200; 2]);
    github.set_replication(Replication { lag_ms: 60_000, ..Replication::default() });
    github.reset();
    assert_eq!(control(&github, "GET", "/replication", "").await.json()["lag_ms"], 0);
}
