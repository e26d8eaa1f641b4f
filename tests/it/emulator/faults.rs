//! Faults.

#![cfg(feature = "fake-github")]

use std::collections::BTreeMap;
use std::time::Duration;

use ghtokend::fake_github::{Effect, FakeGithub, Fault, Options, RateLimits, WiderRepositories, permissions};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::emulator::client::{
    MINT, as_app, bearer, claims, demo, key, mint, now, send, signed, start, token, try_send, with_token,
};

#[tokio::test]
async fn fault_hits_only_its_count_of_matching_requests() {
    let github = demo().await;
    let fault = Effect::Status {
        status: 418,
        body: r#"{"message": "tea"}"#.into(),
        headers: BTreeMap::from([("X-Pot".to_owned(), "short".to_owned())]),
    };
    github.fault(Fault::new(fault).on("POST", "/app/installations").times(2));
    assert_eq!(as_app(&github, "GET", "/app/installations", "").await.status, 200);
    for _ in 0..2 {
        let reply = mint(&github, 1, "").await;
        assert_eq!((reply.status, reply.message().as_str(), reply.header("x-pot")), (418, "tea", "short"));
    }
    assert_eq!(mint(&github, 1, "").await.status, 201);
    assert_eq!(github.counters().mints, 1, "nothing was minted under the fault");
    github.fault(Fault::new(Effect::Html { status: 503 }));
    github.clear_faults();
    assert_eq!(mint(&github, 1, "").await.status, 201);
}

#[tokio::test]
async fn faults_of_a_kind_happen_one_after_the_other() {
    let github = demo().await;
    github.fault(Fault::new(Effect::Html { status: 502 }).times(1));
    github.fault(Fault::new(Effect::LoginLockout).times(1));
    github.fault(Fault::new(Effect::MissingDate).times(1));
    let first = mint(&github, 1, "").await;
    assert_eq!((first.status, first.header("date")), (502, ""), "different kinds go together");
    assert!(first.text.starts_with("<!DOCTYPE html>"));
    let second = mint(&github, 1, "").await;
    assert!(second.status == 403 && second.message().contains("Maximum number of login attempts exceeded"));
    assert_eq!(mint(&github, 1, "").await.status, 201);
}

#[tokio::test]
async fn a_fault_may_be_a_matter_of_luck() {
    let github = demo().await;
    github.fault(Fault::new(Effect::Html { status: 500 }).with_probability(0.5));
    let mut failed = 0;
    for _ in 0..40 {
        failed += usize::from(mint(&github, 1, "").await.status == 500);
    }
    assert!((5..36).contains(&failed), "{failed}");
    github.clear_faults();
    github.fault(Fault::new(Effect::Html { status: 500 }).with_probability(0.0));
    assert_eq!(mint(&github, 1, "").await.status, 201);
}

#[tokio::test]
async fn rate_limit_responses_match_github() {
    let github = demo().await;
    let limited = async |effect: Effect| {
        github.fault(Fault::new(effect).times(1));
        mint(&github, 1, "").await
    };
    for status in [403, 429] {
        let primary = limited(Effect::PrimaryLimit { status, reset_seconds: 90 }).await;
        assert_eq!((primary.status, primary.header("x-ratelimit-remaining")), (status, "0"));
        assert_eq!(primary.message(), "API rate limit exceeded for installation ID 1.");
        let reset: i64 = primary.header("x-ratelimit-reset").parse().unwrap();
        assert!((reset - now() - 90).abs() < 5);
        let secondary = limited(Effect::SecondaryLimit { status, retry_after: Some(7) }).await;
        assert_eq!((secondary.status, secondary.header("retry-after")), (status, "7"));
        assert!(secondary.message().starts_with("You have exceeded a secondary rate limit."));
        assert_ne!(secondary.header("x-ratelimit-remaining"), "0");
    }
    assert_eq!(
        limited(Effect::SecondaryLimit { status: 403, retry_after: None }).await.header("retry-after"),
        ""
    );
}

#[tokio::test]
async fn enforced_limits_refuse_excess_requests() {
    let options =
        || Options { rate_limits: RateLimits::Enforced, installation_rate_limit: 3, ..Options::default() };
    let github = start(options()).await;
    let secret = token(&github, 1).await;
    for expected in [200, 200, 200, 403, 403] {
        let reply = with_token(&github, &secret, "GET", "/installation/repositories").await;
        assert_eq!(reply.status, expected);
    }
    github.advance(Duration::from_secs(3000));
    assert_eq!(with_token(&github, &secret, "GET", "/installation/repositories").await.status, 403);
    github.advance(Duration::from_secs(601));
    let secret = token_at_offset(&github, 3601).await;
    assert_eq!(with_token(&github, &secret, "GET", "/installation/repositories").await.status, 200);

    let github = start(options()).await;
    for _ in 0..20 {
        assert_eq!(with_token(&github, "ghs_wrong", "GET", "/installation/repositories").await.status, 401);
    }
    let locked = with_token(&github, "ghs_wrong", "GET", "/installation/repositories").await;
    assert!(locked.message().starts_with("Maximum number of login attempts exceeded"), "{}", locked.text);
    assert_eq!(mint(&github, 1, "").await.status, 403, "even a good credential");

    let github = std::sync::Arc::new(start(options()).await);
    let hold = github.hold("GET", "/app");
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    let ask = |github: std::sync::Arc<FakeGithub>, jwt: String| async move {
        send("GET", &format!("{}/app", github.api_url()), &[("authorization", &jwt)], "").await.status
    };
    let waiting: Vec<_> = (0..101).map(|_| tokio::spawn(ask(github.clone(), jwt.clone()))).collect();
    hold.reached(101).await;
    hold.release();
    let mut refused = 0;
    for task in waiting {
        refused += usize::from(task.await.unwrap() == 403);
    }
    assert_eq!(refused, 1, "of a hundred and one at once");

    let github = start(options()).await;
    for _ in 0..180 {
        assert_eq!(mint(&github, 1, "").await.status, 201);
    }
    let secondary = mint(&github, 1, "").await;
    assert_eq!((secondary.status, secondary.header("retry-after")), (403, "60"));
}

/// A token for installation 1 by a JWT for a GitHub whose clock is `ahead` of the machine's.
async fn token_at_offset(github: &FakeGithub, ahead: i64) -> String {
    let at = now() + ahead;
    let jwt = bearer(&signed(&key(github), &json!({"iss": 1001, "iat": at - 60, "exp": at + 500})));
    let minted = send("POST", &format!("{}{MINT}", github.api_url()), &[("authorization", &jwt)], "").await;
    minted.json()["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_reset_comes_before_or_after_the_deed() {
    let github = demo().await;
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    let url = format!("{}{MINT}", github.api_url());
    for (effect, mints) in [(Effect::ResetBefore, 0), (Effect::ResetAfter, 1), (Effect::CutBody, 2)] {
        github.fault(Fault::new(effect.clone()).times(1));
        assert!(try_send("POST", &url, &[("authorization", &jwt)], "").await.is_err(), "{effect:?}");
        assert_eq!(github.counters().mints, mints, "{effect:?}");
    }
    let statuses: Vec<Option<u16>> = github.journal().iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [None, None, Some(201)]);
}

#[tokio::test]
async fn cut_connection_fault_resets_the_socket() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let github = demo().await;
    github.fault(Fault::new(Effect::ResetBefore).times(1));
    let mut stream = TcpStream::connect(github.api_url().strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nuser-agent: x\r\n\r\n").await.unwrap();
    let error = stream.read(&mut [0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn answers_can_be_spoilt() {
    let github = demo().await;
    let faulty = async |effect: Effect| {
        github.fault(Fault::new(effect).times(1));
        mint(&github, 1, "").await
    };
    let half = faulty(Effect::TruncatedBody).await;
    assert!(half.status == 201 && serde_json::from_str::<Value>(&half.text).is_err());
    assert_eq!(
        faulty(Effect::ContentType { value: "text/html".into() }).await.header("content-type"),
        "text/html"
    );
    assert_eq!(faulty(Effect::MissingDate).await.header("date"), "");
    let huge = faulty(Effect::HugeBody { bytes: 9_000_000 }).await;
    assert_eq!((huge.status, huge.text.len()), (201, 9_000_000));
    assert!(huge.json()["token"].is_string());
    let elsewhere = faulty(Effect::Redirect { location: "http://127.0.0.1:1/".into(), status: 302 }).await;
    assert_eq!((elsewhere.status, elsewhere.header("location")), (302, "http://127.0.0.1:1/"));
    let never = faulty(Effect::ExpiresAt { value: None }).await;
    assert!(never.status == 201 && never.json().get("expires_at").is_none());
    assert_eq!(faulty(Effect::ExpiresAt { value: Some("soon".into()) }).await.json()["expires_at"], "soon");
    let text = faulty(Effect::Token { value: "any text\n".into() }).await;
    assert_eq!(text.json()["token"], "any text\n");
}

#[tokio::test]
async fn a_scripted_token_works() {
    let github = demo().await;
    github.fault(Fault::new(Effect::Token { value: "ghs_scripted".into() }).times(1));
    assert_eq!(token(&github, 1).await, "ghs_scripted");
    assert_eq!(with_token(&github, "ghs_scripted", "GET", "/installation/repositories").await.status, 200);
}

#[tokio::test]
async fn a_scripted_lifetime_is_the_real_one() {
    let github = demo().await;
    for (seconds, status) in [(120, 200), (0, 401), (-60, 401)] {
        github.fault(Fault::new(Effect::Lifetime { seconds }).times(1));
        let minted = mint(&github, 1, "").await;
        let date = jiff::fmt::rfc2822::parse(minted.header("date")).unwrap().timestamp().as_second();
        let minted = minted.json();
        let expires_at: jiff::Timestamp = minted["expires_at"].as_str().unwrap().parse().unwrap();
        assert!((expires_at.as_second() - date - seconds).abs() <= 1);
        let used =
            with_token(&github, minted["token"].as_str().unwrap(), "GET", "/installation/repositories").await;
        assert_eq!(used.status, status, "{seconds}");
    }
}

#[tokio::test]
async fn wider_grant_fault_exceeds_the_request() {
    let github = demo().await;
    let effect = Effect::WiderGrant {
        permissions: permissions("contents:write administration:write"),
        repositories: WiderRepositories::All,
    };
    github.fault(Fault::new(effect).times(1));
    let minted = mint(&github, 1, r#"{"repositories": ["widgets"], "permissions": {"contents": "read"}}"#)
        .await
        .json();
    assert_eq!(
        minted["permissions"],
        json!({"contents": "write", "administration": "write", "metadata": "read"})
    );
    assert_eq!(minted["repositories"].as_array().unwrap().len(), 3);
    let token = minted["token"].as_str().unwrap();
    assert_eq!(with_token(&github, token, "GET", "/repos/acme/gadgets").await.status, 200);
}

#[tokio::test]
async fn slow_response_fault_delays_the_client() {
    let github = std::sync::Arc::new(demo().await);
    let hour = 3_600_000;
    for effect in [Effect::SlowHeaders { millis: hour }, Effect::SlowBody { millis: hour }, Effect::Stall] {
        let earlier = github.journal().len();
        github.fault(Fault::new(effect.clone()).times(1));
        let slow = {
            let github = github.clone();
            tokio::spawn(async move { mint(&github, 1, "").await })
        };
        while github.journal().len() == earlier {
            tokio::task::yield_now().await;
        }
        assert_eq!(mint(&github, 2, "").await.status, 201, "other requests pass: {effect:?}");
        assert!(!slow.is_finished(), "{effect:?}");
        slow.abort();
    }
    assert_eq!(github.counters().mints_by_installation[&1], 2, "a stalled request is not carried out");
}

#[tokio::test]
async fn slow_response_fault_loses_nothing() {
    let github = demo().await;
    for effect in [Effect::SlowHeaders { millis: 1 }, Effect::SlowBody { millis: 1 }] {
        github.fault(Fault::new(effect).times(1));
        assert!(mint(&github, 1, "").await.json()["token"].is_string());
    }
}
