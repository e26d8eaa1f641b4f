//! The control endpoint.

#![cfg(feature = "fake-github")]

use serde_json::json;

use crate::emulator::client::{
    EXPIRED, UNDECODABLE, as_app, claims, control, demo, jwt_error, key, mint, send, signed, token,
    with_token,
};

#[tokio::test]
async fn control_endpoint_matches_the_rust_interface() {
    let github = demo().await;
    let ok = async |method: &str, path: &str, body: &str| {
        let reply = control(&github, method, path, body).await;
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
        reply.json()
    };
    let apps = ok("GET", "/apps", "").await;
    assert_eq!(apps[0]["private_key_pem"], key(&github).as_str());
    let old = token(&github, 1).await;

    ok("POST", "/installations/1/suspend", "").await;
    assert_eq!(mint(&github, 1, "").await.status, 403);
    ok("POST", "/installations/1/unsuspend", "").await;
    ok("PUT", "/installations/1/permissions", r#"{"contents": "read"}"#).await;
    assert_eq!(
        mint(&github, 1, "").await.json()["permissions"],
        json!({"contents": "read", "metadata": "read"})
    );
    ok("POST", "/installations/1/repositories", r#"{"name": "new"}"#).await;
    assert_eq!(with_token(&github, &old, "GET", "/repos/acme/new").await.status, 200);
    ok("DELETE", "/installations/1/repositories", r#"{"name": "new"}"#).await;
    assert_eq!(with_token(&github, &old, "GET", "/repos/acme/new").await.status, 404);
    ok("POST", "/repositories/acme/widgets/rename", r#"{"to": "gizmos"}"#).await;
    assert_eq!(as_app(&github, "GET", "/repos/acme/widgets/installation", "").await.status, 301);
    ok("POST", "/accounts/acme/rename", r#"{"to": "acme-inc"}"#).await;
    assert_eq!(as_app(&github, "GET", "/orgs/acme-inc/installation", "").await.status, 200);
    ok("POST", "/tokens/revoke", &json!({ "token": old }).to_string()).await;
    assert_eq!(with_token(&github, &old, "GET", "/installation/repositories").await.status, 401);
    ok("DELETE", "/installations/2", "").await;
    assert_eq!(mint(&github, 2, "").await.status, 404);
    ok("POST", "/installations", r#"{"id": 9, "app": "demo", "account": "octocat"}"#).await;
    assert_eq!(mint(&github, 9, "").await.status, 201);

    let added = ok("POST", "/apps/demo/keys", "").await;
    assert_eq!(
        jwt_error(&github, &signed(added["private_key_pem"].as_str().unwrap(), &claims(1001))).await,
        ""
    );
    ok("DELETE", "/apps/demo/keys", &json!({ "fingerprint": added["fingerprint"] }).to_string()).await;
    assert_eq!(
        jwt_error(&github, &signed(added["private_key_pem"].as_str().unwrap(), &claims(1001))).await,
        UNDECODABLE
    );

    ok("POST", "/faults", r#"{"times": 1, "effect": {"kind": "status", "status": 503}}"#).await;
    assert_eq!(ok("GET", "/faults", "").await[0]["effect"]["kind"], "status");
    assert_eq!(mint(&github, 1, "").await.status, 503);
    ok("POST", "/faults", r#"{"method": "GET", "path": "/app", "effect": {"kind": "stall"}}"#).await;
    ok("DELETE", "/faults", "").await;
    ok("POST", "/clock", r#"{"skew_seconds": 900}"#).await;
    assert_eq!(jwt_error(&github, &signed(&key(&github), &claims(1001))).await, EXPIRED);
    ok("POST", "/clock", r#"{"advance_seconds": 10, "skew_seconds": -10}"#).await;
    assert_eq!(jwt_error(&github, &signed(&key(&github), &claims(1001))).await, "");
    assert!(ok("GET", "/clock", "").await["now"].is_string());

    let counters = ok("GET", "/counters", "").await;
    assert_eq!(counters["mints"], github.counters().mints);
    assert_eq!(ok("GET", "/journal", "").await.as_array().unwrap().len(), github.journal().len());
    ok("POST", "/reset", "").await;
    assert_eq!(github.counters().requests, 0);
    assert_eq!(as_app(&github, "GET", "/repos/acme/widgets/installation", "").await.status, 200);
}

#[tokio::test]
async fn control_endpoint_releases_a_hold_by_id() {
    let github = std::sync::Arc::new(demo().await);
    let id = control(&github, "POST", "/holds", r#"{"method": "POST"}"#).await.json()["id"].clone();
    let waiting = tokio::spawn({
        let github = github.clone();
        async move { mint(&github, 1, "").await.status }
    });
    while github.counters().mints == 0 && !waiting.is_finished() {
        tokio::task::yield_now().await;
    }
    assert_eq!(control(&github, "GET", "/holds", "").await.json(), json!([{"id": id, "held": 1}]));
    assert!(!waiting.is_finished());
    assert_eq!(control(&github, "POST", &format!("/holds/{id}/release"), "").await.status, 200);
    assert_eq!(waiting.await.unwrap(), 201);
    assert_eq!(control(&github, "POST", &format!("/holds/{id}/release"), "").await.status, 404);
}

#[tokio::test]
async fn control_error_names_fault_and_allowed_values() {
    let github = demo().await;
    #[rustfmt::skip]
    let cases: [(&str, &str, &str, u16, &[&str]); 17] = [
        ("POST", "/faults", r#"{"effect": {"kind": "boom"}}"#, 400, &["`boom`", "`slow_headers`", "`stall`"]),
        ("POST", "/faults", r#"{"efect": {}}"#, 400, &["`efect`", "`effect`"]),
        ("POST", "/faults", "{}", 400, &["missing field `effect`"]),
        ("POST", "/faults", r#"{"effect": {"kind": "html", "status": 503, "x": 1}}"#, 400, &["`x`", "`status`"]),
        ("POST", "/faults", r#"{"effect": {"kind": "html", "status": 42}}"#, 400, &["`status`", "200 to 599"]),
        ("POST", "/faults", r#"{"effect": {"kind": "primary_limit", "status": 500}}"#, 400, &["403 or 429"]),
        ("POST", "/faults", r#"{"probability": 2, "effect": {"kind": "stall"}}"#, 400, &["`probability`", "0 to 1"]),
        ("POST", "/clock", "{}", 400, &["`advance_seconds`", "`skew_seconds`"]),
        ("POST", "/clock", r#"{"advance_seconds": -1}"#, 400, &["`advance_seconds`", "`-1`", "not negative"]),
        ("PUT", "/installations/1/permissions", r#"{"contents": "all"}"#, 400, &["`contents`", "read, write, admin"]),
        ("POST", "/installations", r#"{"id": 1, "app": "demo"}"#, 400, &["`1` appears twice"]),
        ("POST", "/installations/x/suspend", "", 400, &["`x`", "number"]),
        ("POST", "/installations/99/suspend", "", 404, &["no such installation"]),
        ("POST", "/tokens/revoke", "{", 400, &["EOF"]),
        ("POST", "/tokens/revoke", r#"{"token": "x"}"#, 404, &["no such token"]),
        ("GET", "/reset", "", 405, &["POST"]),
        ("GET", "/nothing", "", 404, &["GET /"]),
    ];
    for (method, path, body, status, words) in cases {
        let reply = control(&github, method, path, body).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        let error = reply.json()["error"].as_str().unwrap().to_owned();
        for word in words {
            assert!(error.contains(word), "{error}");
        }
    }
}

#[tokio::test]
async fn control_help_lists_working_calls() {
    let github = demo().await;
    let help = control(&github, "GET", "/", "").await.text;
    let examples: Vec<&str> = help.lines().filter_map(|line| line.trim().strip_prefix("curl -s ")).collect();
    assert!(examples.len() > 20, "{help}");
    for example in examples {
        let (call, body) = example.split_once(" -d ").unwrap_or((example, "''"));
        let (method, url) = match call.strip_prefix("-X ") {
            Some(rest) => rest.split_once(' ').unwrap(),
            None => ("GET", call),
        };
        let reply = send(method, url, &[], body.trim_matches('\'')).await;
        assert!(matches!(reply.status, 200 | 404), "{example}: {}", reply.text);
        assert!(!reply.text.contains("no such call"), "{example}");
    }
}
