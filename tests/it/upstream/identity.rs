//! Who a user is, asked of the preview by a nonce: once, whatever comes of it.

use std::sync::Arc;
use std::time::Duration;

use ghtokend::app;
use ghtokend::clock::SystemClock;
use ghtokend::fake_github::{Effect, FakeGithub, Fault, Options, Preview};
use ghtokend::github::{Failure, Kind, Upstream};
use ghtokend::model::{AppName, ClientId, Identity, Secret};
use ghtokend::settings::{Environment, Settings, Sources};

use crate::support::program::variables_for;
use crate::support::world::{Reply, Setup, World, send};

const IDENTITY: &str = "/integration/identity/user";

async fn emulator(preview: Preview) -> FakeGithub {
    FakeGithub::start(Options { preview, seed: Some(1), ..Options::default() }).await.unwrap()
}

fn upstream(github: &FakeGithub, dialect: &str) -> Upstream {
    let mut variables = variables_for(github);
    variables.push(("GHTOKEND_GITHUB__DIALECT", dialect.to_owned()));
    variables.push(("GHTOKEND_GITHUB__REQUEST_TIMEOUT", "500ms".to_owned()));
    let environment = Environment::from_iter(variables);
    let settings = Settings::load(&Sources { environment, ..Sources::default() }).unwrap();
    let keys = app::load_keys(&settings).unwrap();
    app::upstream(&settings, &keys, Arc::new(SystemClock)).unwrap()
}

async fn identify(upstream: &Upstream, nonce: &str) -> Result<Identity, Failure> {
    upstream.github().identify(&AppName::default(), &Secret::from(nonce.to_owned()), ClientId::new(1)).await
}

#[tokio::test]
async fn nonce_identifies_a_user_once() {
    for identity_status in [200, 201] {
        let github = emulator(Preview { identity_status, ..Preview::default() }).await;
        let upstream = upstream(&github, "integrations");
        let nonce = github.create_nonce(1, "octocat").unwrap();
        let identity = identify(&upstream, &nonce).await.unwrap();
        let user: serde_json::Value = serde_json::from_str(&identity.user.json).unwrap();
        assert_eq!((identity.user.id.get(), &user["login"]), (2, &"octocat".into()));
        assert_eq!(user.as_object().unwrap().len(), 17, "as GitHub gave it");
        let repositories = format!("{}/installation/repositories?user_id=2", github.api_url());
        assert_eq!(identity.repositories_url, repositories);
        // Nothing is remembered: the second call is made, and the nonce is used.
        let again = identify(&upstream, &nonce).await.unwrap_err();
        assert_eq!(again.kind, Kind::NotFound);
        assert!(again.message.contains("send the user to GitHub again for a new one"), "{again}");
        assert_eq!(github.count("POST", IDENTITY), 2);
    }
}

#[tokio::test]
async fn a_nonce_is_never_sent_twice() {
    for (effect, kind) in [
        (Effect::ResetBefore, Kind::Unavailable),
        (Effect::ResetAfter, Kind::Unavailable),
        (Effect::Html { status: 503 }, Kind::Unavailable),
        (Effect::SecondaryLimit { status: 403, retry_after: Some(1) }, Kind::RateLimited),
        (Effect::TruncatedBody, Kind::BadAnswer),
        (Effect::Stall, Kind::TimedOut),
        (Effect::Redirect { location: IDENTITY.to_owned(), status: 307 }, Kind::Moved),
    ] {
        let github = emulator(Preview::default()).await;
        let upstream = upstream(&github, "integrations");
        let nonce = github.create_nonce(1, "octocat").unwrap();
        github.fault(Fault::new(effect.clone()).on("POST", IDENTITY).times(1));
        let failure = identify(&upstream, &nonce).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{effect:?}: {failure}");
        assert!(failure.message.contains("the nonce may be spent"), "{failure}");
        assert!(!failure.message.contains(&nonce), "{failure}");
        assert_eq!(github.count("POST", IDENTITY), 1, "{effect:?}");
    }
    // Not even where a wrong clock was to blame, and a mint would be tried anew.
    let github = emulator(Preview::default()).await;
    github.skew(3600);
    let nonce = github.create_nonce(1, "octocat").unwrap();
    let failure = identify(&upstream(&github, "integrations"), &nonce).await.unwrap_err();
    assert_eq!((failure.kind, github.count("POST", IDENTITY)), (Kind::AppRejected, 1));
}

#[tokio::test]
async fn a_nonce_that_expired_or_is_nobodys_is_said_to_be_that() {
    // Shorter than what the app JWT bears.
    let nonce_lifetime = Duration::from_secs(20);
    let github = emulator(Preview { nonce_lifetime, ..Preview::default() }).await;
    let upstream = upstream(&github, "integrations");
    let nonce = github.create_nonce(1, "octocat").unwrap();
    github.advance(nonce_lifetime);
    for nonce in [nonce.as_str(), "abc123", ""] {
        let failure = identify(&upstream, nonce).await.unwrap_err();
        assert!(failure.message.contains("the nonce is unknown, used or expired"), "{failure}");
    }
}

#[tokio::test]
async fn apps_dialect_refuses_nonces_without_a_call() {
    let github = emulator(Preview::default()).await;
    let failure = identify(&upstream(&github, "apps"), "abc123").await.unwrap_err();
    assert_eq!(failure.kind, Kind::Unsupported);
    assert!(!failure.message.contains("spent"), "{failure}");
    assert_eq!(github.counters().requests, 0);
}

/// A daemon before a GitHub of this dialect.
async fn world(dialect: &str) -> World {
    let environment = vec![("GHTOKEND_GITHUB__DIALECT", dialect.to_owned())];
    World::with(Setup { environment, ..Setup::default() }).await
}

pub async fn post(world: &World, path: &str, body: &str) -> Reply {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    send(world.address, &request).await.unwrap()
}

#[tokio::test]
async fn the_daemon_answers_the_identity_call_of_the_page() {
    for path in [IDENTITY, "/api/v3/integration/identity/user"] {
        let world = world("integrations").await;
        let nonce = world.github.create_nonce(1, "octocat").unwrap();
        let reply = post(&world, path, &format!("{{\"nonce\":\"{nonce}\"}}")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let body = reply.json();
        assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["repositories_url", "user"]);
        assert_eq!(
            (&body["user"]["login"], body["user"].as_object().unwrap().len()),
            (&"octocat".into(), 17)
        );
        assert!(body["repositories_url"].as_str().unwrap().ends_with("/installation/repositories?user_id=2"));
        let used = post(&world, path, &format!("{{\"nonce\":\"{nonce}\"}}")).await;
        assert_eq!((used.status, used.code().as_str()), (404, "not_found"));
        assert!(used.message().contains("send the user to GitHub again") && !used.text().contains(&nonce));
        assert_eq!(world.github.count("POST", IDENTITY), 2);
    }
}

#[tokio::test]
async fn a_body_without_a_nonce_is_a_422_that_costs_nothing() {
    let world = world("integrations").await;
    for body in
        ["", "{}", "[]", "nonsense", "[\"abc\"]", "{\"nonce\":1}", "{\"nonce\":null}", "{\"nonce\":\"\"}"]
    {
        let reply = post(&world, IDENTITY, body).await;
        assert_eq!((reply.status, reply.code().as_str()), (422, "invalid_request"), "{body}");
        assert!(
            reply.message().starts_with("Validation Failed: the body is {\"nonce\":"),
            "{}",
            reply.message()
        );
    }
    assert_eq!(world.github.count("POST", IDENTITY), 0);
    let get = world.get(IDENTITY).await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
}

#[tokio::test]
async fn a_lost_answer_is_not_asked_for_again() {
    let world = world("integrations").await;
    let nonce = world.github.create_nonce(1, "octocat").unwrap();
    world.github.fault(Fault::new(Effect::ResetAfter).on("POST", IDENTITY));
    let reply = post(&world, IDENTITY, &format!("{{\"nonce\":\"{nonce}\"}}")).await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "github_unavailable"));
    // Another nonce may be tried after that time.
    assert_eq!((&reply.json()["retryable"], reply.header("retry-after")), (&false.into(), Some("1")));
    assert!(!reply.message().contains("try again"), "{}", reply.message());
    assert!(reply.message().contains("the nonce may be spent"), "{}", reply.message());
    assert_eq!(world.github.count("POST", IDENTITY), 1);
}

#[tokio::test]
async fn apps_upstream_refuses_identity_without_a_call() {
    let world = world("apps").await;
    let reply = post(&world, IDENTITY, "{\"nonce\":\"abc123\"}").await;
    assert_eq!((reply.status, reply.code().as_str()), (422, "unsupported_upstream"));
    assert_eq!(world.github.count("POST", IDENTITY), 0);
}
