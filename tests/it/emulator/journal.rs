//! Holds, journal and counters.

#![cfg(feature = "fake-github")]

use std::collections::BTreeMap;

use base64::Engine as _;
use ghtokend::fake_github::{Effect, Fault};

use crate::emulator::client::{
    MINT, as_app, bearer, claims, demo, key, mint, send, signed, token, try_send, with_token,
};

#[tokio::test]
async fn held_response_waits_after_its_effect() {
    let github = std::sync::Arc::new(demo().await);
    let hold = github.hold("POST", "/app/installations/1");
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let github = github.clone();
            tokio::spawn(async move { mint(&github, 1, "").await.status })
        })
        .collect();
    hold.reached(5).await;
    assert_eq!(github.counters().mints, 5);
    assert!(github.journal().iter().all(|entry| entry.status.is_none()));
    assert_eq!(mint(&github, 2, "").await.status, 201, "other requests pass");
    assert!(waiting.iter().all(|task| !task.is_finished()));
    hold.release();
    for task in waiting {
        assert_eq!(task.await.unwrap(), 201);
    }
    drop(github.hold("POST", "/"));
    assert_eq!(mint(&github, 1, "").await.status, 201, "a dropped hold holds nothing");
}

#[tokio::test]
async fn counters_are_exact() {
    let github = demo().await;
    let hold = github.hold("POST", "/");
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    let url = |id: u8| format!("{}/app/installations/{id}/access_tokens", github.api_url());
    let auth = [("authorization", jwt.as_str())];
    let (one, two, three) = (url(1), url(1), url(9));
    let narrow = r#"{"repositories": ["widgets"], "permissions": {"contents": "read"}}"#;
    let release = async {
        hold.reached(3).await;
        hold.release();
    };
    tokio::join!(
        send("POST", &one, &auth, ""),
        send("POST", &two, &auth, narrow),
        send("POST", &three, &auth, ""),
        release
    );
    send("GET", &format!("{}/app?x=1", github.api_url()), &auth, "").await;
    as_app(&github, "GET", "/app", "").await;
    send("GET", &format!("{}/nothing", github.api_url()), &[], "").await;
    let counters = github.counters();
    assert_eq!((counters.requests, counters.mint_requests, counters.mints), (6, 3, 2));
    assert_eq!(counters.mints_in_flight_max, 3);
    assert_eq!(counters.mints_by_installation, BTreeMap::from([(1, 2)]));
    assert_eq!(
        counters.mints_by_scope,
        BTreeMap::from([("1".into(), 1), ("1 permissions=contents:read repositories=widgets".into(), 1)])
    );
    assert_eq!(
        counters.by_route,
        BTreeMap::from([
            ("GET /app".into(), 2),
            ("POST /app/installations/{installation_id}/access_tokens".into(), 3)
        ])
    );
    assert!((1..=2).contains(&counters.distinct_jwts), "both may be signed within one second");
    assert!((60..70).contains(&counters.jwt_age_max), "{}", counters.jwt_age_max);
    assert_eq!(github.count("POST", MINT), 2);
    assert_eq!(github.count("GET", "/app"), 2, "the query does not count");
    assert_eq!(github.count("GET", "/ap"), 0);
    github.reset();
    assert_eq!((github.counters().requests, github.journal().len()), (0, 0));
}

#[tokio::test]
async fn mints_one_after_the_other_are_never_two_at_once() {
    let github = demo().await;
    github.fault(Fault::new(Effect::ResetBefore).times(1));
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    let url = format!("{}{MINT}", github.api_url());
    assert!(try_send("POST", &url, &[("authorization", &jwt)], "").await.is_err());
    for _ in 0..3 {
        token(&github, 1).await;
    }
    assert_eq!(github.counters().mints_in_flight_max, 1);
}

#[tokio::test]
async fn journal_holds_hashes_not_secrets() {
    let github = demo().await;
    let token = token(&github, 1).await;
    with_token(&github, &token, "GET", &format!("/installation/repositories?access_token={token}")).await;
    let journal = github.journal();
    let entry = journal.last().unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(digest);
    assert_eq!(entry.credential_sha256.as_deref(), Some(hash.as_str()));
    assert_eq!((entry.method.as_str(), entry.status), ("GET", Some(200)));
    assert_eq!(entry.path, "/installation/repositories?access_token=[redacted]");
    assert!(entry.header_names.contains(&"user-agent".to_owned()));
    assert!(!format!("{journal:?}{:?}", github.counters()).contains(&token[..30]));
}
