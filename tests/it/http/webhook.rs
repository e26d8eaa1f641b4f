//! What GitHub tells by its webhooks: who is believed, and what it makes stale.

use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::hmac;
use ghtokend::fake_github::{Effect, FakeGithub, Fault, Installation, Options, permissions};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::program::{borrowed, run, variables_for};
use crate::support::world::{Reply, Setup, World, send, send_unix};
use crate::upstream::rotation::Log;

const SECRET: &str = "correct horse battery staple";
const MINT_1: &str = "/app/installations/1/access_tokens";

/// A daemon that takes deliveries signed with [`SECRET`], and the file that holds it.
async fn world(setup: Setup) -> (World, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SECRET}\n")).unwrap();
    let mut environment = setup.environment.clone();
    environment.push(("GHTOKEND_WEBHOOK__SECRET_FILE", file.path().display().to_string()));
    (World::with(Setup { environment, ..setup }).await, file)
}

/// What GitHub sends, as far as anybody looks at it.
#[derive(Clone)]
struct Delivery {
    event: String,
    id: String,
    body: Vec<u8>,
    signature: String,
    /// Further header lines.
    more: String,
}

impl Delivery {
    fn new(event: &str, body: &Value) -> Self {
        Self::raw(event, body.to_string().into_bytes())
    }

    fn raw(event: &str, body: Vec<u8>) -> Self {
        let id = format!("{:032x}", DELIVERIES.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let signature = sign(SECRET, &body);
        Self { event: event.to_owned(), id, body, signature, more: String::new() }
    }

    fn of(event: &str, action: &str, installation: u64) -> Self {
        let sender = json!({ "id": 2, "login": "octocat" });
        let installation = json!({ "id": installation, "app_id": 1001, "created_at": 1_557_933_591 });
        Self::new(event, &json!({ "action": action, "installation": installation, "sender": sender }))
    }

    fn signed(self, signature: impl Into<String>) -> Self {
        Self { signature: signature.into(), ..self }
    }

    fn request(&self) -> String {
        let Self { event, id, body, signature, more } = self;
        let signature = match signature.as_str() {
            "" => String::new(),
            signature => format!("X-Hub-Signature-256: {signature}\r\n"),
        };
        format!(
            "POST /webhook HTTP/1.1\r\nHost: bots.example\r\nUser-Agent: GitHub-Hookshot/044aadd\r\nX-GitHub-Event: {event}\r\n\
             X-GitHub-Delivery: {id}\r\n{signature}{more}Content-Length: {}\r\nConnection: close\r\n\r\n{}",
            body.len(),
            std::str::from_utf8(body).unwrap()
        )
    }

    async fn to(&self, address: SocketAddr) -> Reply {
        send(address, &self.request()).await.unwrap()
    }
}

static DELIVERIES: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

fn sign(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let digits: String = hmac::sign(&key, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

/// Has the daemon hear of it, and says what became of that.
async fn tell(world: &World, delivery: &Delivery) -> String {
    let reply = delivery.to(world.address).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()["outcome"].as_str().unwrap().to_owned()
}

/// The installations of the tokens in hand.
async fn held(world: &World) -> Vec<u64> {
    let status = world.get("/status").await.json();
    let id = |token: &Value| token["installation_id"].as_u64().unwrap();
    let mut held: Vec<_> = status["tokens"].as_array().unwrap().iter().map(id).collect();
    held.sort_unstable();
    held
}

/// What GitHub is asked while something is done.
async fn asked<T>(world: &World, doing: impl Future<Output = T>) -> (T, Vec<String>) {
    let before = world.github.journal().len();
    let done = doing.await;
    let asked = world.github.journal().into_iter().skip(before);
    (done, asked.map(|entry| format!("{} {}", entry.method, entry.path)).collect())
}

#[tokio::test]
async fn removed_installation_has_no_cached_token() {
    let (mint, confirm) = (format!("POST {MINT_1}"), "GET /app/installations/1".to_owned());
    for (event, action, code, expected) in [
        ("installation", "suspend", "installation_suspended", vec![mint.clone()]),
        ("installation", "deleted", "unknown_installation", vec![mint.clone(), confirm.clone()]),
        ("integration_installation", "deleted", "unknown_installation", vec![mint, confirm]),
    ] {
        let (world, _file) = world(Setup::default()).await;
        for target in ["/token", "/token?permissions=contents:read", "/token?owner=octocat"] {
            world.token(target).await;
        }
        match action {
            "suspend" => assert!(world.github.suspend(1)),
            _ => assert!(world.github.delete_installation(1)),
        }
        let (outcome, nothing) = asked(&world, tell(&world, &Delivery::of(event, action, 1))).await;
        assert_eq!((outcome.as_str(), nothing), ("applied", vec![]), "{action}");
        assert_eq!(held(&world).await, [2], "{action}");
        let (refused, calls) = asked(&world, world.get("/token")).await;
        assert_eq!((refused.code().as_str(), calls), (code, expected), "{action}");
        assert_eq!(world.token("/token?owner=octocat").await, world.token("/token?owner=octocat").await);
        assert_eq!(world.mints(), 4, "{action}");
    }
}

#[tokio::test]
async fn permission_event_renews_each_key_in_use_once() {
    for (event, action) in [
        ("installation", "new_permissions_accepted"),
        ("installation_repositories", "added"),
        ("installation_repositories", "removed"),
        ("integration_installation_repositories", "added"),
    ] {
        let (world, _file) = world(Setup::default()).await;
        let [old, other] = [world.token("/token").await, world.token("/token?owner=octocat").await];
        world.advance(Duration::from_secs(120));
        assert_eq!(tell(&world, &Delivery::of(event, action, 1)).await, "applied");
        let mut callers = JoinSet::new();
        for _ in 0..50 {
            let address = world.address;
            callers.spawn(async move { crate::support::world::get(address, "/token").await });
        }
        let tokens: Vec<_> = callers.join_all().await.iter().map(Reply::json).collect();
        assert!(tokens.iter().all(|token| token["token"] == tokens[0]["token"]), "{event} {action}");
        assert_ne!(tokens[0]["token"], *old);
        assert_eq!(world.token("/token?owner=octocat").await, other);
        assert_eq!(world.mints(), 3, "{event} {action}");
    }
}

#[tokio::test]
async fn a_token_for_some_repositories_gains_nothing_by_more_of_them() {
    let (world, _file) = world(Setup::default()).await;
    let targets =
        ["/token?repositories=widgets", "/token?repository_ids=1", "/token?permissions=contents:read"];
    let mut before = Vec::new();
    for target in targets {
        before.push(world.token(target).await);
    }
    tell(&world, &Delivery::of("installation_repositories", "added", 1)).await;
    for (at, target) in targets.iter().enumerate() {
        assert_eq!(world.token(target).await == before[at], at < 2, "{target}");
    }
    assert_eq!(world.mints(), 4);
}

#[tokio::test]
async fn new_permissions_can_be_used_at_once() {
    let (world, _file) = world(Setup::default()).await;
    let ungranted = "/token?permissions=members:read";
    assert_eq!(world.get(ungranted).await.code(), "scope_not_granted");
    assert!(world.github.set_permissions(1, permissions("metadata:read members:read")));
    assert_eq!(world.get(ungranted).await.code(), "scope_not_granted", "it is remembered");
    assert_eq!(world.mints(), 1);
    tell(&world, &Delivery::of("installation", "new_permissions_accepted", 1)).await;
    world.token(ungranted).await;
    assert_eq!(world.mints(), 2);
}

#[tokio::test]
async fn live_token_is_stale_after_a_failed_event_renewal() {
    let (world, _file) = world(Setup::default()).await;
    let old = world.token("/token").await;
    world.github.fault(Fault::new(Effect::TruncatedBody).on("POST", MINT_1).times(1));
    tell(&world, &Delivery::of("installation_repositories", "added", 1)).await;
    let stale = world.get("/token").await;
    assert_eq!((stale.status, stale.header("ghtokend-token-state")), (200, Some("stale")));
    assert_eq!(stale.json()["token"], *old);
    world.advance(Duration::from_secs(1));
    assert_ne!(world.token("/token").await, old);
    assert_eq!(world.mints(), 3);
}

#[tokio::test]
async fn a_settling_successor_of_an_older_grant_never_enters_service() {
    let (world, _file) = world(Setup::default()).await;
    let old = world.token("/token").await;
    world.advance(Duration::from_secs(51 * 60));
    assert_eq!(world.token("/token").await, old);
    world.minted(2).await;
    world.advance(Duration::from_secs(1));
    tell(&world, &Delivery::of("installation", "new_permissions_accepted", 1)).await;
    let successor_is_gone = world.get("/status").await.json()["tokens"][0]["successor"].is_null();
    assert!(successor_is_gone);
    world.token("/token").await;
    world.advance(Duration::from_secs(10));
    world.token("/token").await;
    assert_eq!(world.mints(), 3);
}

#[tokio::test]
async fn mint_overtaken_by_an_event_is_repeated() {
    for action in ["new_permissions_accepted", "suspend"] {
        let (world, _file) = world(Setup::default()).await;
        let hold = world.github.hold("POST", MINT_1);
        let address = world.address;
        let caller = tokio::spawn(async move { crate::support::world::get(address, "/token").await });
        hold.reached(1).await;
        world.advance(Duration::from_secs(1));
        tell(&world, &Delivery::of("installation", action, 1)).await;
        world.advance(Duration::from_secs(1));
        let late = tokio::spawn(async move { crate::support::world::get(address, "/token").await });
        hold.release();
        let (first, late) = (caller.await.unwrap().json(), late.await.unwrap().json());
        assert_eq!(first["token"], late["token"], "{action}");
        assert_eq!(world.token("/token").await, first["token"], "{action}");
        assert_eq!(world.mints(), 2, "{action}: one before and one after");
    }
}

#[tokio::test]
async fn event_at_same_instant_as_mint_overtakes_it() {
    for (action, mints) in [("new_permissions_accepted", 2), ("suspend", 2)] {
        let (world, _file) = world(Setup::default()).await;
        let hold = world.github.hold("POST", MINT_1);
        let address = world.address;
        let caller = tokio::spawn(async move { crate::support::world::get(address, "/token").await });
        hold.reached(1).await;
        // No time passes at all.
        tell(&world, &Delivery::of("installation", action, 1)).await;
        hold.release();
        assert_eq!(caller.await.unwrap().header("ghtokend-token-state"), Some("fresh"), "{action}");
        assert_eq!(world.mints(), mints, "{action}");
    }
}

#[tokio::test]
async fn revoked_tokens_leave_the_cache_unasked() {
    let (world, _file) = world(Setup::default()).await;
    for target in ["/token", "/token?permissions=contents:read", "/token?owner=octocat"] {
        world.token(target).await;
    }
    tell(&world, &Delivery::of("installation", "deleted", 1)).await;
    world.tick();
    let metrics = world.get("/metrics").await.text();
    assert!(metrics.lines().any(|line| line == "ghtokend_cached_tokens 1"), "{metrics}");
}

#[tokio::test]
async fn token_of_a_removed_installation_is_not_vended() {
    let (world, _file) = world(Setup::default()).await;
    let hold = world.github.hold("POST", MINT_1);
    let address = world.address;
    let caller = tokio::spawn(async move { crate::support::world::get(address, "/token").await });
    hold.reached(1).await;
    world.advance(Duration::from_secs(1));
    tell(&world, &Delivery::of("installation", "deleted", 1)).await;
    // Of the first two answers, the first is a token, and the second is none.
    world.github.fault(Fault::new(Effect::TruncatedBody).on("POST", MINT_1).times(1));
    hold.release();
    let refused = caller.await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (502, "bad_upstream_response"));
    assert_eq!((held(&world).await.len(), world.mints()), (0, 2));
}

#[tokio::test]
async fn renewal_in_flight_does_not_restore_a_removed_key() {
    let (world, _file) = world(Setup::default()).await;
    world.token("/token").await;
    world.advance(Duration::from_secs(51 * 60));
    let hold = world.github.hold("POST", MINT_1);
    world.token("/token").await;
    hold.reached(1).await;
    world.advance(Duration::from_secs(1));
    tell(&world, &Delivery::of("installation", "suspend", 1)).await;
    hold.release();
    world.minted(2).await;
    assert_eq!(held(&world).await, [0_u64; 0]);
}

#[tokio::test]
async fn webhook_does_not_clear_transient_failures() {
    let (world, _file) = world(Setup::default()).await;
    let headers = [("retry-after".to_owned(), "300".to_owned())].into();
    let unavailable = Effect::Status { status: 503, body: String::new(), headers };
    world.github.fault(Fault::new(unavailable).on("POST", MINT_1).times(1));
    assert_eq!(world.get("/token").await.code(), "github_unavailable");
    for (event, action) in [("installation", "created"), ("installation", "new_permissions_accepted")] {
        tell(&world, &Delivery::of(event, action, 1)).await;
        assert_eq!(world.get("/token").await.code(), "github_unavailable");
    }
    assert_eq!(world.mints(), 1);
}

#[tokio::test]
async fn denied_lookup_is_not_repeated_per_delivery() {
    let file = "[[prefetch]]\nowner = 'nobody'\n".to_owned();
    let (world, _file) = world(Setup { file, ..Setup::default() }).await;
    for _ in 0..20 {
        world.tick();
        crate::support::world::until(|| async { world.is_idle() }).await;
        tell(&world, &Delivery::of("installation_repositories", "added", 2)).await;
        world.advance(Duration::from_secs(1));
    }
    assert_eq!(world.github.count("GET", "/users/nobody/installation"), 1);
}

#[tokio::test]
async fn an_installation_that_comes_back_is_served_at_once() {
    for action in ["unsuspend", "created"] {
        let (world, _file) = world(Setup::default()).await;
        world.github.suspend(1);
        assert_eq!(world.get("/token").await.code(), "installation_suspended");
        world.github.unsuspend(1);
        assert_eq!(world.get("/token").await.code(), "installation_suspended", "it is remembered");
        tell(&world, &Delivery::of("installation", action, 1)).await;
        world.token("/token").await;
        assert_eq!(world.mints(), 2);
    }
}

#[tokio::test]
async fn prefetch_mints_when_its_installation_appears() {
    let file = "[[prefetch]]\nowner = 'acme'\n".to_owned();
    let (world, _file) = world(Setup { file, without_default_installation: true, ..Setup::default() }).await;
    world.github.delete_installation(1);
    let sweep = async |times: usize| {
        for _ in 0..times {
            world.tick();
            crate::support::world::until(|| async { world.is_idle() }).await;
            world.advance(Duration::from_secs(1));
        }
        world.mints()
    };
    assert_eq!(sweep(60).await, 0, "what GitHub denies is left alone for ten minutes");
    world.github.add_installation(Installation::new(9, "demo", "acme")).unwrap();
    tell(&world, &Delivery::of("installation", "created", 9)).await;
    assert_eq!((sweep(1).await, held(&world).await), (1, vec![9]));
}

#[tokio::test]
async fn names_are_looked_up_anew_after_they_have_changed() {
    const OWNER: &str = "GET /users/acme/installation";
    const REPOSITORY: &str = "GET /repos/acme/widgets/installation";
    let repository = |action: &str, owner: &str, name: &str, changes: Value, told: u64| {
        let repository = json!({ "name": name, "owner": { "login": owner } });
        let installation = json!({ "id": told });
        let body = json!({ "action": action, "repository": repository, "changes": changes, "installation": installation });
        Delivery::new("repository", &body)
    };
    let from = |kind: &str| json!({ "owner": { "from": { kind: { "login": "Acme" } } } });
    for (delivery, asked_anew) in [
        (Delivery::of("installation_target", "renamed", 1), &[OWNER, REPOSITORY][..]),
        (Delivery::of("installation_repositories", "removed", 1), &[OWNER, REPOSITORY]),
        (Delivery::of("installation_repositories", "added", 1), &[OWNER, REPOSITORY]),
        (Delivery::of("installation", "created", 1), &[OWNER, REPOSITORY]),
        (repository("deleted", "acme", "widgets", Value::Null, 1), &[REPOSITORY]),
        (
            repository(
                "renamed",
                "acme",
                "gadgets",
                json!({ "repository": { "name": { "from": "widgets" } } }),
                1,
            ),
            &[REPOSITORY],
        ),
        // It is the new owner who is told.
        (repository("transferred", "octocat", "widgets", from("organization"), 2), &[REPOSITORY]),
        (repository("transferred", "octocat", "widgets", from("user"), 2), &[REPOSITORY]),
        (
            repository(
                "renamed",
                "acme",
                "widgets",
                json!({ "repository": { "name": { "from": "old" } } }),
                1,
            ),
            &[],
        ),
    ] {
        let (world, _file) = world(Setup::default()).await;
        let targets = ["/token?owner=acme", "/token?repo=acme/widgets", "/token?owner=octocat"];
        let ask = async || {
            for target in targets {
                world.token(target).await;
            }
        };
        ask().await;
        let said = String::from_utf8_lossy(&delivery.body).into_owned();
        assert_eq!(
            (tell(&world, &delivery).await.as_str(), asked(&world, ask()).await.1.len()),
            ("applied", {
                let mints =
                    usize::from(said.contains("\"removed\"")) * 2 + usize::from(said.contains("\"added\""));
                asked_anew.len() + mints
            }),
            "{said}"
        );
        let looked_up = world.github.journal().into_iter().skip(6).filter(|entry| entry.method == "GET");
        let looked_up: Vec<_> = looked_up.map(|entry| format!("GET {}", entry.path)).collect();
        assert_eq!(looked_up, asked_anew, "{said}");
    }
}

#[tokio::test]
async fn lookup_overtaken_by_an_event_is_not_cached() {
    let (world, _file) = world(Setup { without_default_installation: true, ..Setup::default() }).await;
    for other in [2, 3, 4] {
        world.github.delete_installation(other);
    }
    let hold = world.github.hold("GET", "/app/installations");
    let address = world.address;
    let asking = tokio::spawn(async move { crate::support::world::get(address, "/token").await });
    hold.reached(1).await;
    tell(&world, &Delivery::of("installation", "created", 9)).await;
    hold.release();
    assert_eq!(asking.await.unwrap().status, 200);
    world.github.add_installation(Installation::new(9, "demo", "hubot")).unwrap();
    assert_eq!(world.get("/token").await.code(), "invalid_request");
}

#[tokio::test]
async fn a_second_installation_ends_that_there_is_only_one() {
    let (world, _file) = world(Setup { without_default_installation: true, ..Setup::default() }).await;
    for other in [2, 3, 4] {
        world.github.delete_installation(other);
    }
    world.token("/token").await;
    world.github.add_installation(Installation::new(9, "demo", "hubot")).unwrap();
    assert_eq!(world.get("/token").await.status, 200, "it is remembered");
    tell(&world, &Delivery::of("installation", "created", 9)).await;
    assert_eq!(world.get("/token").await.code(), "invalid_request");
}

#[tokio::test]
async fn user_revocation_drops_the_users_tokens() {
    let environment = vec![("GHTOKEND_GITHUB__DIALECT", "integrations".to_owned())];
    let (world, _file) = world(Setup { environment, ..Setup::default() }).await;
    crate::support::world::until(|| async { world.get("/readyz").await.status == 200 }).await;
    for target in ["/token?owner=acme", "/token?owner=acme&user=2", "/token?owner=acme&user=4"] {
        world.token(target).await;
    }
    let revoked = json!({ "action": "revoked", "sender": { "id": 2, "login": "octocat" } });
    let (outcome, calls) =
        asked(&world, tell(&world, &Delivery::new("github_app_authorization", &revoked))).await;
    assert_eq!((outcome.as_str(), calls), ("applied", vec![]));
    let status = world.get("/status").await.json();
    let users: Vec<_> =
        status["tokens"].as_array().unwrap().iter().map(|token| token["user_id"].clone()).collect();
    assert!(users.len() == 2 && !users.contains(&json!(2)), "{users:?}");

    let (_, calls) = asked(&world, world.token("/token?owner=acme")).await;
    assert_eq!(calls, [""; 0]);
    tell(&world, &Delivery::of("integration_installation", "created", 1)).await;
    let (_, calls) = asked(&world, world.token("/token?owner=acme")).await;
    assert_eq!(calls, ["GET /integration/installations?per_page=100"]);
}

#[tokio::test]
async fn a_list_of_2016_that_was_being_read_meanwhile_is_not_kept() {
    const LIST: &str = "/integration/installations";
    let environment = vec![("GHTOKEND_GITHUB__DIALECT", "integrations".to_owned())];
    let (world, _file) = world(Setup { environment, ..Setup::default() }).await;
    crate::support::world::until(|| async { world.get("/readyz").await.status == 200 }).await;
    let hold = world.github.hold("GET", LIST);
    let address = world.address;
    let asking = tokio::spawn(async move { crate::support::world::get(address, "/token?owner=acme").await });
    hold.reached(1).await;
    tell(&world, &Delivery::of("integration_installation", "created", 9)).await;
    hold.release();
    assert_eq!(asking.await.unwrap().status, 200);
    for lists in [3, 3] {
        world.token("/token?owner=acme").await;
        assert_eq!(world.github.count("GET", LIST), lists, "at the start, meanwhile, and once after it");
    }
}

#[tokio::test]
async fn a_delivery_that_comes_again_changes_nothing() {
    let (world, _file) = world(Setup::default()).await;
    world.token("/token").await;
    let delivery = Delivery::of("installation_repositories", "added", 1);
    assert_eq!(tell(&world, &delivery).await, "applied");
    world.advance(Duration::from_secs(1));
    world.token("/token").await;
    for _ in 0..3 {
        world.advance(Duration::from_secs(60));
        assert_eq!(tell(&world, &delivery).await, "duplicate");
        world.token("/token").await;
    }
    assert_eq!(world.mints(), 2);
    let again = Delivery { id: Delivery::of("x", "y", 1).id, ..delivery };
    assert_eq!(tell(&world, &again).await, "applied", "the same said again is another delivery");
}

#[tokio::test]
async fn rejected_delivery_not_recorded_as_seen() {
    let (world, _file) = world(Setup::default()).await;
    world.token("/token").await;
    let delivery = Delivery::of("installation", "deleted", 1);
    assert_eq!(delivery.clone().signed("sha256=0").to(world.address).await.status, 403);
    assert_eq!(tell(&world, &delivery).await, "applied");
    assert_eq!(held(&world).await, [0_u64; 0]);
}

#[tokio::test]
async fn only_signed_deliveries_are_applied() {
    let (world, _file) = world(Setup::default()).await;
    world.token("/token").await;
    let good = Delivery::of("installation", "deleted", 1);
    let right = good.signature.clone();
    let other_digit = if right.ends_with('0') { "1" } else { "0" };
    let mut bodies = std::collections::BTreeSet::new();
    for signature in [
        String::new(),
        "sha256=".to_owned(),
        right.replace("sha256=", ""),
        right.replace("sha256=", "sha1="),
        format!("{}{other_digit}", &right[..right.len() - 1]),
        right[..right.len() - 1].to_owned(),
        format!("{right}0"),
        sign("another secret", &good.body),
        sign("", &good.body),
        sign(SECRET, b"{}"),
        sign(&format!("{SECRET}\n"), &good.body),
    ] {
        let reply = good.clone().signed(&signature).to(world.address).await;
        assert_eq!((reply.status, reply.code().as_str()), (403, "caller_forbidden"), "{signature}");
        bodies.insert(reply.message());
    }
    let mut altered = good.clone();
    altered.body.push(b' ');
    assert_eq!(altered.to(world.address).await.status, 403);
    assert_eq!(bodies.len(), 2, "nothing tells how far a guess was off: {bodies:?}");
    assert!(bodies.iter().any(|body| body.contains("webhook.secret_file")));
    assert!(bodies.iter().any(|body| body.contains("X-Hub-Signature-256 is missing")));
    assert_eq!((held(&world).await, world.mints()), (vec![1], 1));
    assert_eq!(tell(&world, &good).await, "applied");
}

#[tokio::test]
async fn webhook_endpoint_bypasses_no_other_guard() {
    let (world, _file) = world(Setup::default()).await;
    let more =
        "X-Forwarded-For: 140.82.115.1\r\nVia: 1.1 ingress\r\nOrigin: https://x.example\r\nCookie: a=b\r\n";
    let forwarded = Delivery { more: more.to_owned(), ..Delivery::of("ping", "", 1) };
    assert_eq!(tell(&world, &forwarded).await, "ignored");
    for path in ["/token", "/webhooks", "/webhook/", "/Webhook"] {
        let elsewhere = forwarded.request().replace("POST /webhook ", &format!("POST {path} "));
        assert_eq!(send(world.address, &elsewhere).await.unwrap().status, 403, "{path}");
    }
    let get = world.get("/webhook").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
}

#[tokio::test]
async fn deliveries_are_taken_on_every_listener() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("tokens.sock");
    let ops = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let environment = vec![
        ("GHTOKEND_LISTEN__UNIX", socket.display().to_string()),
        ("GHTOKEND_LISTEN__OPS", ops.to_string()),
    ];
    let (world, _file) = world(Setup { environment, ..Setup::default() }).await;
    for listener in ["tcp", "unix", "ops"] {
        world.token("/token").await;
        let delivery = Delivery::of("installation", "deleted", 1);
        let reply = match listener {
            "tcp" => delivery.to(world.address).await,
            "unix" => send_unix(&socket, &delivery.request()).await.unwrap(),
            _ => delivery.to(ops).await,
        };
        assert_eq!((reply.status, held(&world).await.len()), (202, 0), "{listener}");
    }
    let unsigned = Delivery::of("installation", "deleted", 1).signed("");
    assert_eq!(unsigned.to(ops).await.status, 403);
}

#[tokio::test]
async fn without_a_secret_there_is_no_webhook() {
    let ops = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let environment = vec![("GHTOKEND_LISTEN__OPS", ops.to_string())];
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    let delivery = Delivery::of("installation", "deleted", 1);
    let forwarded = Delivery { more: "Via: 1.1 ingress\r\n".to_owned(), ..delivery };
    for listener in [ops, world.address] {
        let reply = forwarded.to(listener).await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "not_found"));
        assert!(reply.message().contains("webhook.secret_file is not configured"), "{}", reply.message());
    }
}

#[tokio::test]
async fn malformed_delivery_error_names_the_fault() {
    let (world, _file) = world(Setup::default()).await;
    let repositories: Vec<_> = (0..6000).map(|id| json!({ "id": id, "full_name": format!("acme/repository-{id}"), "private": true, "node_id": "R_kgDOABCDEFGHIJKLMNOPQRST" })).collect();
    let large = json!({ "repositories_added": repositories, "action": "added", "installation": { "id": 1 } });
    let large = Delivery::new("installation_repositories", &large);
    assert!(large.body.len() > 512 * 1024);
    assert_eq!(tell(&world, &large).await, "applied");

    let json =
        json!({ "action": "deleted", "installation": { "id": 1 }, "note": "100 % & more" }).to_string();
    let form: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", &json).finish();
    assert_eq!(tell(&world, &Delivery::raw("installation", form.into_bytes())).await, "applied");

    let too_large = Delivery::raw("push", vec![b' '; 1024 * 1024 + 1]).to(world.address).await;
    assert_eq!((too_large.status, too_large.code().as_str()), (413, "too_large"));
    for (event, body, outcome) in [
        ("ping", json!({ "zen": "Design for failure.", "hook_id": 1 }), "ignored"),
        ("push", json!({ "ref": "refs/heads/main", "installation": { "id": 1 } }), "ignored"),
        ("installation", json!({ "action": "some_new_action" }), "ignored"),
        ("issues", json!({ "action": "deleted", "installation": null }), "ignored"),
    ] {
        assert_eq!(tell(&world, &Delivery::new(event, &body)).await, outcome, "{event}");
    }
    for (event, body, problem) in [
        ("installation", &b"{}nonsense"[..], "not a JSON object"),
        ("installation", b"", "not a JSON object"),
        ("installation", br#"{"action":"deleted"}"#, "installation.id is missing"),
        ("installation", br#"{"action":"deleted","installation":{"id":0}}"#, "installation.id is missing"),
        ("github_app_authorization", br#"{"action":"revoked"}"#, "sender.id is missing"),
        ("installation", b"payload=%7B", "not a JSON object"),
        ("repository", br#"{"action":"deleted"}"#, "repository is missing"),
        ("repository", br#"{"action":"deleted","repository":{"name":"x"}}"#, "repository.owner is missing"),
        (
            "repository",
            br#"{"action":"deleted","repository":{"name":"a/b","owner":{"login":"x"}}}"#,
            "name is none",
        ),
        // GitHub signs the body alone: a comment that was deleted is no installation that was.
        (
            "installation",
            br#"{"action":"deleted","comment":{},"repository":{"name":"x"},"installation":{"id":1}}"#,
            "that of another event",
        ),
        (
            "installation",
            br#"{"action":"deleted","team":{},"installation":{"id":1}}"#,
            "that of another event",
        ),
    ] {
        let reply = Delivery::raw(event, body.to_vec()).to(world.address).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_request"), "{event}");
        assert!(reply.message().contains(problem), "{}", reply.message());
    }
    for header in ["X-GitHub-Event", "X-GitHub-Delivery"] {
        let request = Delivery::of("installation", "deleted", 1).request().replace(header, "X-Other");
        let reply = send(world.address, &request).await.unwrap();
        assert_eq!(reply.status, 400);
        assert!(reply.message().to_lowercase().contains(&header.to_lowercase()), "{}", reply.message());
    }
}

#[tokio::test]
async fn a_secret_can_be_replaced_while_deliveries_come_in() {
    let (world, file) = world(Setup::default()).await;
    let with = async |secret: &str| {
        let delivery = Delivery::of("ping", "", 1);
        let signature = sign(secret, &delivery.body);
        delivery.signed(signature).to(world.address).await.status
    };
    std::fs::write(file.path(), format!("\u{feff}the new one\r\n\n  {SECRET}  \n")).unwrap();
    assert_eq!((with(SECRET).await, with("the new one").await), (202, 403));
    world.reloader.tick().await;
    assert_eq!((with(SECRET).await, with("the new one").await, with("").await), (202, 202, 403));
    // Half-written, or gone: what was read before stays, and it is counted.
    for broken in [Some("\n"), None] {
        match broken {
            Some(text) => std::fs::write(file.path(), text).unwrap(),
            None => std::fs::remove_file(file.path()).unwrap(),
        }
        world.reloader.tick().await;
        assert_eq!((with(SECRET).await, with("the new one").await), (202, 202));
    }
    let metrics = world.get("/metrics").await.text();
    assert!(metrics.contains("ghtokend_reload_errors_total{kind=\"webhook\"} 2\n"), "{metrics}");
    std::fs::write(file.path(), "the new one").unwrap();
    world.reload().await;
    assert_eq!((with(SECRET).await, with("the new one").await), (403, 202));
}

#[tokio::test]
async fn a_broken_secret_file_is_said_once_a_minute() {
    let log = Log::listen();
    let (world, file) = world(Setup::default()).await;
    std::fs::write(file.path(), "").unwrap();
    let mut said = Vec::new();
    for _ in 0..4 {
        world.reloader.tick().await;
        // A reload of the configuration does not start it anew.
        world.reload().await;
        said.push(log.lines("webhook secret cannot be read").len());
        world.advance(Duration::from_secs(20));
    }
    assert_eq!(said, [1, 1, 1, 2]);
    std::fs::write(file.path(), SECRET).unwrap();
    world.reloader.tick().await;
    assert_eq!(log.lines("webhook secret reloaded").len(), 1);
    assert_eq!(log.lines(SECRET), [""; 0]);
}

#[tokio::test]
async fn check_looks_at_the_secret() {
    let github = FakeGithub::start(Options { seed: Some(1), ..Options::default() }).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    for (content, exit, verdict) in
        [("", 1, "is empty"), (SECRET, 0, "deliveries are known by the secret in")]
    {
        std::fs::write(&path, content).unwrap();
        let mut variables = variables_for(&github);
        variables.push(("GHTOKEND_WEBHOOK__SECRET_FILE", path.display().to_string()));
        let (code, said, _) = run(&["check"], &borrowed(&variables)).await;
        assert_eq!(code, exit, "{said}");
        assert!(said.contains(verdict) && !said.contains(SECRET), "{said}");
    }
}

#[tokio::test]
async fn large_unsigned_bodies_do_not_block_small_deliveries() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (world, _file) = world(Setup::default()).await;
    let large = |body: &str| {
        format!(
            "POST /webhook HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=00\r\nContent-Length: 1000000\r\n\r\n{body}"
        )
    };
    let mut stuck = Vec::new();
    for _ in 0..5 {
        let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
        stream.write_all(large("").as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    assert_eq!(tell(&world, &Delivery::of("ping", "", 1)).await, "ignored");
    let (mut sixth, mut sending) = tokio::net::TcpStream::connect(world.address).await.unwrap().into_split();
    let body = large(&" ".repeat(1_000_000));
    let sending = tokio::spawn(async move { sending.write_all(body.as_bytes()).await.map(|()| sending) });
    assert_eq!(tell(&world, &Delivery::of("ping", "", 1)).await, "ignored");
    let mut answer = vec![0; 1024];
    let nothing = sixth.try_read(&mut answer).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock, "five are being read");
    drop(stuck);
    let _open = sending.await.unwrap().unwrap();
    let read = sixth.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 403 "), "{:?}", String::from_utf8_lossy(&answer[..read]));
}

#[tokio::test]
async fn a_secret_file_that_holds_none_is_named_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    for (content, problem) in [
        (None, "cannot be read: No such file or directory"),
        (Some(String::new()), "is empty: put the secret into it"),
        (Some(" \n\n".to_owned()), "is empty: put the secret into it"),
        (Some("x".repeat(5000)), "is not a file of a line or two"),
        (Some("{\n  \"secret\": \"x\"\n}\n".to_owned()), "is not a file of a line or two"),
    ] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        refused(&path, problem).await;
    }
    refused(dir.path(), "is not a file of a line or two").await;
    let pipe = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    refused(&pipe, "is not a file of a line or two").await;
}

async fn refused(path: &std::path::Path, problem: &str) {
    let key = format!("{}/tests/it/keys/rsa.pem", env!("CARGO_MANIFEST_DIR"));
    let path = path.display().to_string();
    let variables = [
        ("GITHUB_APP_ID", "1"),
        ("GITHUB_APP_PRIVATE_KEY_FILE", key.as_str()),
        ("GHTOKEND_WEBHOOK__SECRET_FILE", path.as_str()),
    ];
    let (exit, _, said) = run(&["serve", "--listen", "127.0.0.1:0"], &variables).await;
    assert_eq!(exit, 78, "{said}");
    assert!(said.contains(&format!("webhook.secret_file: {path}: {problem}")), "{said}");
}

#[tokio::test]
async fn emulator_webhooks_are_applied() {
    let (world, _file) = world(Setup::default()).await;
    let targets = ["/token", "/token?owner=octocat", "/token?repo=acme/widgets"];
    for target in targets {
        world.token(target).await;
    }
    world.github.set_webhook(&format!("http://{}/webhook", world.address), SECRET).unwrap();
    world.github.suspend(2);
    world.github.all_delivered().await;
    assert_eq!(held(&world).await, [1, 1]);

    world.github.rename_repository("acme", "widgets", "gadgets");
    world.github.all_delivered().await;
    assert_eq!(
        world.get("/token?repo=acme/widgets").await.code(),
        "unknown_installation",
        "it is looked up anew"
    );

    world.github.set_permissions(1, permissions("metadata:read"));
    world.github.all_delivered().await;
    assert_eq!(world.get("/token").await.json()["permissions"], json!({ "metadata": "read" }));

    world.github.delete_installation(1);
    world.github.all_delivered().await;
    assert_eq!((held(&world).await.len(), world.mints()), (0, 4));

    let told = world.github.deliveries();
    let told: Vec<_> = told.iter().map(|told| (told.delivery.event.as_str(), told.status)).collect();
    let events = ["ping", "installation", "repository", "installation", "installation"];
    assert_eq!(told, events.map(|event| (event, Some(202))));
    let last = world.github.deliveries().pop().unwrap().delivery;
    let again = send(world.address, &as_sent(&last)).await.unwrap();
    assert_eq!(again.json()["outcome"], "duplicate");
}

/// A delivery of the fake GitHub's, as a bot passes it on.
fn as_sent(delivery: &ghtokend::fake_github::Delivery) -> String {
    let headers: String =
        delivery.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let body = std::str::from_utf8(&delivery.body).unwrap();
    format!(
        "POST /webhook HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
