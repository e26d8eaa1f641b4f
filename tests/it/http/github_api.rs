//! GitHub's own endpoints, served locally: whoever speaks either of GitHub's two dialects needs no private key.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ghtokend::fake_github::{
    Account, App, Effect, Fault, Flavour, Installation, Options, Preview, World as GithubWorld,
};
use serde_json::{Value, json};

use crate::support::world::{Reply, Setup, World, send, until};

const MINT: &str = "/app/installations/1/access_tokens";
const PREVIEW_MINT: &str = "/installations/1/access_tokens";

/// A call as an SDK makes it, which insists on a JWT of its own.
async fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> Reply {
    call_as(address, "bearer a-dummy", method, path, body).await
}

async fn call_as(address: SocketAddr, authorization: &str, method: &str, path: &str, body: &str) -> Reply {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:7171\r\nAuthorization: {authorization}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    send(address, &request).await.unwrap()
}

async fn before(dialect: &str, options: Options) -> World {
    let environment = vec![("GHTOKEND_GITHUB__DIALECT", dialect.to_owned())];
    let world = World::with(Setup { options, environment, ..Setup::default() }).await;
    // So that the daemon's first question of its own is over.
    until(async || world.get("/readyz").await.status == 200).await;
    world
}

async fn apps() -> World {
    before("apps", Options::default()).await
}

async fn integrations() -> World {
    before("integrations", Options::default()).await
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn minted(reply: &Reply) -> String {
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()["token"].as_str().unwrap().to_owned()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// Every endpoint before either GitHub: what comes of it, and how often GitHub is asked.
#[tokio::test]
async fn every_endpoint_answers_for_both_upstreams() {
    const UNSUPPORTED: (u16, &str) = (422, "unsupported_upstream");
    const OK: (u16, &str) = (200, "");
    const CREATED: (u16, &str) = (201, "");
    let narrow = r#"{"permissions":{"contents":"read"}}"#;
    for (method, path, body, today, preview) in [
        ("GET", "/app", "", (OK, 1), (UNSUPPORTED, 0)),
        ("GET", "/app/installations", "", (OK, 1), (OK, 1)),
        ("GET", "/app/installations/1", "", (OK, 1), (OK, 1)),
        (
            "GET",
            "/app/installations/99",
            "",
            ((404, "unknown_installation"), 1),
            ((404, "unknown_installation"), 1),
        ),
        ("POST", MINT, "", (CREATED, 1), (CREATED, 2)),
        ("POST", MINT, "{}", (CREATED, 1), (CREATED, 2)),
        ("POST", MINT, narrow, (CREATED, 1), (UNSUPPORTED, 0)),
        ("POST", MINT, r#"{"repositories":["widgets"]}"#, (CREATED, 1), (UNSUPPORTED, 0)),
        ("POST", MINT, r#"{"repository_ids":[1]}"#, (CREATED, 1), (UNSUPPORTED, 0)),
        ("GET", "/repos/acme/widgets/installation", "", (OK, 1), (UNSUPPORTED, 0)),
        ("GET", "/orgs/acme/installation", "", (OK, 1), (OK, 1)),
        ("GET", "/orgs/ACME/installation", "", (OK, 1), (OK, 1)),
        ("GET", "/orgs/octocat/installation", "", ((404, "unknown_installation"), 1), (OK, 1)),
        ("GET", "/users/octocat/installation", "", (OK, 1), (OK, 1)),
        (
            "GET",
            "/users/nobody/installation",
            "",
            ((404, "unknown_installation"), 1),
            ((404, "unknown_installation"), 1),
        ),
        ("GET", "/enterprises/acme-enterprise/installation", "", (OK, 1), (UNSUPPORTED, 0)),
        ("GET", "/integration/installations", "", (OK, 1), (OK, 1)),
        ("POST", PREVIEW_MINT, "", (CREATED, 1), (CREATED, 2)),
        ("POST", PREVIEW_MINT, r#"{"user_id":"2"}"#, ((422, "user_tokens_unsupported"), 0), (CREATED, 2)),
        ("POST", PREVIEW_MINT, r#"{"user_id":2}"#, ((422, "user_tokens_unsupported"), 0), (CREATED, 2)),
        (
            "POST",
            PREVIEW_MINT,
            r#"{"user_id":"5"}"#,
            ((422, "user_tokens_unsupported"), 0),
            ((422, "user_not_authorized"), 2),
        ),
        ("POST", PREVIEW_MINT, narrow, (CREATED, 1), (UNSUPPORTED, 0)),
        ("POST", "/integration/identity/user", r#"{"nonce":"x"}"#, (UNSUPPORTED, 0), ((404, "not_found"), 1)),
        ("DELETE", "/installation/token", "", ((204, ""), 1), (UNSUPPORTED, 0)),
    ] {
        for (dialect, (expected, asked)) in [("apps", today), ("integrations", preview)] {
            let world = before(dialect, Options::default()).await;
            let before = world.github.counters().requests;
            let reply = call(world.address, method, path, body).await;
            let code = if reply.status < 300 { String::new() } else { reply.code() };
            let what = format!("{method} {path} {body} before {dialect}");
            assert_eq!((reply.status, code.as_str()), expected, "{what}: {}", reply.text());
            assert_eq!(world.github.counters().requests - before, asked, "{what}");
        }
    }
}

#[tokio::test]
async fn unsupported_upstream_is_a_422_with_the_reason() {
    let integrations = integrations().await;
    let apps = apps().await;
    for (world, method, path, body, says) in [
        (
            &integrations,
            "GET",
            "/app",
            "",
            "GitHub's Integrations API describes no apps: list the installations",
        ),
        (
            &integrations,
            "GET",
            "/repos/a/b/installation",
            "",
            "neither finds an installation by a repository",
        ),
        (
            &integrations,
            "GET",
            "/enterprises/e/installation",
            "",
            "has no look-up by enterprise: ask by the owner",
        ),
        (&integrations, "POST", MINT, r#"{"repositories":["x"]}"#, "narrows no tokens: leave repositories"),
        (&integrations, "DELETE", "/installation/token", "", "this one lives until its expires_at"),
        (
            &apps,
            "POST",
            PREVIEW_MINT,
            r#"{"user_id":"2"}"#,
            "mints no installation tokens on behalf of a user",
        ),
        (&apps, "POST", "/integration/identity/user", r#"{"nonce":"x"}"#, "knows no nonces"),
    ] {
        let reply = call(world.address, method, path, body).await;
        assert!(reply.status == 422 && reply.message().contains(says), "{path}: {}", reply.text());
        assert_eq!(reply.json()["retryable"], false);
    }
}

#[tokio::test]
async fn objects_are_unchanged_except_access_tokens_url() {
    let world = apps().await;
    let object = r#"{"id":1,"account":null,"big":12345678901234567890123.50,"access_tokens_url":"https://api.github.com/x","new":{"z":[1.0,null]},"a":"é"}"#;
    for (path, upstream, tokens) in [
        ("/app/installations/1", "/app/installations/1", MINT),
        ("/orgs/acme/installation", "/orgs/acme/installation", MINT),
        ("/app/installations", "/app/installations", MINT),
        ("/integration/installations", "/app/installations", PREVIEW_MINT),
    ] {
        for prefix in ["", "/api/v3"] {
            let list = path.ends_with("installations");
            let body = if list { format!("[{object}, {object}]") } else { object.to_owned() };
            let effect = Effect::Status { status: 200, body, headers: [].into() };
            world.github.fault(Fault::new(effect).on("GET", upstream).times(1));
            let reply = call(world.address, "GET", &format!("{prefix}{path}?since=2016"), "").await;
            let here =
                object.replace("https://api.github.com/x", &format!("http://localhost:7171{prefix}{tokens}"));
            let expected = if list { format!("[{here},{here}]") } else { here };
            assert_eq!((reply.status, reply.text()), (200, expected), "{prefix}{path}");
            assert_eq!(reply.header("content-type"), Some("application/json"));
        }
    }
    // What GitHub says of the app itself leads nowhere here.
    let app = r#"{"id":1001, "name":"x","new":1.50}"#;
    let effect = Effect::Status { status: 200, body: app.into(), headers: [].into() };
    world.github.fault(Fault::new(effect).on("GET", "/app").times(1));
    assert_eq!(call(world.address, "GET", "/app", "").await.text(), app);
}

#[tokio::test]
async fn unknown_fields_are_passed_through() {
    let world = apps().await;
    let app = call(world.address, "GET", "/app", "").await.json();
    assert_eq!((&app["slug"], &app["id"]), (&json!("demo-app"), &json!(1001)));
    let one = call(world.address, "GET", "/app/installations/1", "").await.json();
    assert_eq!((&one["account"]["login"], &one["repository_selection"]), (&json!("acme"), &json!("all")));
    assert!(one["account"]["node_id"].is_string() && one.as_object().unwrap().len() >= 18, "{one}");
    let repositories_url = format!("{}/installation/repositories", world.github.api_url());
    assert_eq!(one["repositories_url"], repositories_url, "API calls go to GitHub");
    let list = call(world.address, "GET", "/app/installations", "").await;
    assert_eq!((list.json()[0].clone(), list.json().as_array().unwrap().len()), (one, 3));
    assert_eq!(list.header("link"), None);

    let world = integrations().await;
    let list = call(world.address, "GET", "/integration/installations", "").await.json();
    let keys: Vec<_> = list[0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["access_tokens_url", "account", "id", "repositories_url"]);
    assert_eq!(
        call(world.address, "GET", "/orgs/acme/installation", "").await.json()["account"]["login"],
        "acme"
    );
}

#[tokio::test]
async fn list_links_point_at_the_daemon() {
    for (dialect, path, costs) in [
        ("apps", "/app/installations", [1, 1, 1]),
        ("apps", "/api/v3/integration/installations", [1, 1, 1]),
        // The preview's pages are as long as its server likes: the list is read whole, and once.
        ("integrations", "/app/installations", [3, 0, 0]),
        ("integrations", "/api/v3/integration/installations", [3, 0, 0]),
    ] {
        let world =
            before(dialect, Options { world: GithubWorld::with_installations(250), ..Options::default() })
                .await;
        let mut ids = Vec::new();
        for (page, relations) in [
            (1, &[("next", 2), ("last", 3)][..]),
            (2, &[("prev", 1), ("next", 3), ("last", 3), ("first", 1)]),
            (3, &[("prev", 2), ("first", 1)]),
        ] {
            let before = world.github.counters().requests;
            let reply = call(world.address, "GET", &format!("{path}?page={page}&per_page=100"), "").await;
            let url = format!("http://localhost:7171{path}?per_page=100");
            let links =
                relations.iter().map(|(relation, page)| format!("<{url}&page={page}>; rel=\"{relation}\""));
            let links: Vec<_> = links.collect();
            assert_eq!(reply.header("link"), Some(links.join(", ").as_str()), "{dialect} {path} {page}");
            assert_eq!(world.github.counters().requests - before, costs[page - 1], "{dialect} {path} {page}");
            ids.extend(reply.json().as_array().unwrap().iter().map(|item| item["id"].as_u64().unwrap()));
        }
        assert_eq!(ids, (1..=250).collect::<Vec<_>>());
        let usual = call(world.address, "GET", path, "").await;
        assert_eq!(usual.json().as_array().unwrap().len(), 30);
        let link = format!(
            "<http://localhost:7171{path}?page=2>; rel=\"next\", <http://localhost:7171{path}?page=9>; rel=\"last\""
        );
        assert_eq!(usual.header("link"), Some(link.as_str()));
        let beyond = call(world.address, "GET", &format!("{path}?page=99&per_page=1000"), "").await;
        assert_eq!((beyond.status, beyond.text().as_str()), (200, "[]"));
    }
}

#[tokio::test]
async fn list_that_cannot_be_read_anew_is_kept() {
    let world = integrations().await;
    world.token("/token?owner=acme").await;
    let list = "/integration/installations";
    world.advance(Duration::from_secs(5));
    world.github.fault(Fault::new(Effect::Html { status: 502 }).on("GET", list).times(3));
    let reply = call(world.address, "GET", list, "").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "github_unavailable"));
    let before = world.github.count("GET", list);
    world.token("/token?owner=acme").await;
    assert_eq!(world.github.count("GET", list), before, "what was read before is still cached");
}

#[tokio::test]
async fn list_is_read_anew_after_5_s() {
    for (dialect, path) in [("apps", "/app/installations"), ("integrations", "/integration/installations")] {
        let world =
            before(dialect, Options { world: GithubWorld::with_installations(2), ..Options::default() })
                .await;
        let count = async || call(world.address, "GET", path, "").await.json().as_array().unwrap().len();
        assert_eq!(count().await, 2);
        world.github.delete_installation(2);
        for (after, expected) in [(4, 2), (1, 1)] {
            world.advance(Duration::from_secs(after));
            assert_eq!(count().await, expected, "{dialect}");
        }
    }
}

#[tokio::test]
async fn minting_hands_on_all_that_github_said() {
    let world = apps().await;
    let said = r#"{"token":"ghs_xyz", "new":{"a":1.50},"permissions":{"contents":"read","metadata":"read"},"expires_at":"EXPIRES"}"#;
    let expires = world.get("/token").await.json()["expires_at"].as_str().unwrap().to_owned();
    let said = said.replace("EXPIRES", &expires);
    let effect = Effect::Status { status: 201, body: said.clone(), headers: [].into() };
    world.github.fault(Fault::new(effect).on("POST", MINT).times(1));
    let narrow = r#"{"permissions":{"contents":"read"}}"#;
    let reply = call(world.address, "POST", MINT, narrow).await;
    assert_eq!((reply.status, reply.text()), (201, said));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("ghtokend-token-expires-at"), Some(expires.as_str()));
    assert_eq!(reply.header("ghtokend-token-state"), Some("fresh"));
    // The same token in the words of 2016, and in our own: it is one and the same in the cache.
    let preview = call(world.address, "POST", PREVIEW_MINT, narrow).await;
    assert_eq!(
        preview.text(),
        format!("{{\"token\":\"ghs_xyz\",\"expires_at\":\"{expires}\",\"on_behalf_of\":null}}")
    );
    assert_eq!(world.token("/token?permissions=contents:read&installation=1").await, "ghs_xyz");
    assert_eq!(world.mints(), 2);
}

#[tokio::test]
async fn the_repositories_of_a_narrowed_token_are_githubs_objects() {
    let world = apps().await;
    let reply = call(
        world.address,
        "POST",
        MINT,
        r#"{"repositories":["WIDGETS"],"permissions":{"contents":"read"}}"#,
    )
    .await;
    assert!(world.is_accepted(&minted(&reply)).await);
    let body = reply.json();
    assert_eq!(
        (&body["repositories"][0]["full_name"], &body["repository_selection"]),
        (&json!("acme/widgets"), &json!("selected"))
    );
    assert_eq!(body["permissions"], json!({"contents":"read","metadata":"read"}));
    let scopes = world.github.counters().mints_by_scope;
    assert_eq!(scopes.keys().collect::<Vec<_>>(), ["1 permissions=contents:read repositories=widgets"]);
}

#[tokio::test]
async fn on_behalf_of_follows_the_preview_flavour() {
    for flavour in [Flavour::Y2016, Flavour::Y2017] {
        let preview = Preview { flavour, ..Preview::default() };
        let world = before("integrations", Options { preview, ..Options::default() }).await;
        for (path, body, user) in [
            (PREVIEW_MINT, "", Value::Null),
            (PREVIEW_MINT, r#"{"user_id":null}"#, Value::Null),
            (PREVIEW_MINT, r#"{"user_id":"2"}"#, json!("octocat")),
            (PREVIEW_MINT, r#"{"user_id":2}"#, json!("octocat")),
            (MINT, r#"{"user_id":"2"}"#, json!("octocat")),
        ] {
            let reply = call(world.address, "POST", path, body).await;
            assert!(world.is_accepted(&minted(&reply)).await);
            let on_behalf_of = &reply.json()["on_behalf_of"];
            assert_eq!(on_behalf_of.get("login").unwrap_or(&Value::Null), &user, "{path} {body}");
        }
        assert_eq!(world.mints(), 2, "one for nobody, one for octocat");
    }
}

#[tokio::test]
async fn empty_body_is_full_scope_but_empty_list_is_a_422() {
    let world = apps().await;
    for body in
        ["", "{}", " { } ", "null", r#"{"permissions":{}}"#, r#"{"repositories":null}"#, r#"{"no_such":1}"#]
    {
        for path in [MINT, PREVIEW_MINT] {
            minted(&call(world.address, "POST", path, body).await);
        }
    }
    assert_eq!(world.mints(), 1);
    assert_eq!(
        world.token("/token?installation=1").await,
        minted(&call(world.address, "POST", MINT, "").await)
    );
    assert_eq!(world.github.counters().mints_by_scope.keys().collect::<Vec<_>>(), ["1"]);
    for (body, says) in [
        (r#"{"repositories":[]}"#, "repositories is empty: name some"),
        (r#"{"repository_ids":[]}"#, "repository_ids is empty: name some"),
        (r#"{"repositories":"widgets"}"#, "repositories is not a list of names"),
        (r#"{"repositories":["acme/widgets"]}"#, "repositories: \"acme/widgets\""),
        (r#"{"repositories":[1]}"#, "repositories is not a list of names"),
        (r#"{"repository_ids":["1"]}"#, "repository_ids is not a list of numbers"),
        (r#"{"repository_ids":[0]}"#, "repository_ids: \"0\""),
        (r#"{"permissions":["contents"]}"#, "permissions is not an object"),
        (r#"{"permissions":{"contents":true}}"#, "permissions is not an object"),
        (r#"{"permissions":{"contents":"all"}}"#, "permissions: \"all\""),
        (r#"{"permissions":{"contents":"read","contents":"write"}}"#, "permissions: contents is named twice"),
        (r#"{"permissions":null,"permissions":{}}"#, "with each member once"),
        (r#"{"permissions":{"Contents":"read","contents":"write"}}"#, "permissions: contents is named twice"),
        (r#"{"user_id":"octocat"}"#, "user_id: \"octocat\""),
        (r#"{"user_id":[2]}"#, "user_id is not a number"),
        (r#"{"user_id":-2}"#, "user_id: \"-2\""),
        ("[]", "no JSON object"),
        ("nonsense", "no JSON object"),
        ("{", "no JSON object"),
    ] {
        let reply = call(world.address, "POST", MINT, body).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (422, "invalid_request"),
            "{body}: {}",
            reply.text()
        );
        assert!(
            reply.message().starts_with("Validation Failed: ") && reply.message().contains(says),
            "{}",
            reply.message()
        );
    }
    let many: Vec<_> = (1..=501).collect();
    let reply = call(world.address, "POST", MINT, &json!({"repository_ids": many}).to_string()).await;
    assert!(reply.status == 422 && reply.message().contains("over 500 items"), "{}", reply.text());
    assert_eq!(world.mints(), 1, "a malformed request costs GitHub nothing");
}

#[tokio::test]
async fn two_hundred_sdks_at_once_are_one_mint() {
    for body in ["", r#"{"permissions":{"contents":"read"}}"#] {
        let world = apps().await;
        // One that is too old to be kept for 59 minutes is in hand already.
        let old = minted(&call(world.address, "POST", MINT, body).await);
        world.advance(minutes(2));
        let hold = world.github.hold("POST", MINT);
        let asking: Vec<_> = (0..200)
            .map(|number| {
                let (address, body) = (world.address, body.to_owned());
                let path = if number % 2 == 0 { MINT } else { PREVIEW_MINT };
                tokio::spawn(async move { minted(&call(address, "POST", path, &body).await) })
            })
            .collect();
        until(async || world.mints() == 2).await;
        drop(hold);
        for asked in asking {
            assert_ne!(asked.await.unwrap(), old);
        }
        assert_eq!(world.mints(), 2);
    }
}

#[tokio::test]
async fn an_sdk_gets_a_token_that_lives_as_long_as_it_will_keep_it() {
    // The oldest that is handed out dies with the 59 minutes, and not before.
    for (path, age) in [(MINT, 0), (PREVIEW_MINT, 0), (MINT, 59)] {
        let world = apps().await;
        let old = world.token("/token?installation=1").await;
        world.advance(Duration::from_secs(59));
        assert_eq!(
            minted(&call(world.address, "POST", path, "").await),
            old,
            "minted within the last minute"
        );
        world.advance(Duration::from_secs(1));
        let new = minted(&call(world.address, "POST", path, "").await);
        assert_ne!(new, old);
        assert_eq!(minted(&call(world.address, "POST", path, "").await), new, "once a minute and no more");
        assert_eq!(world.token("/token?installation=1").await, old, "whoever has a good one notices nothing");
        let settle = 5.min(age);
        world.advance(Duration::from_secs(settle));
        let shared = if settle == 5 { &new } else { &old };
        assert_eq!(world.token("/token?installation=1").await, *shared);
        assert_eq!(world.mints(), 2);
        world.advance(Duration::from_secs(age - settle));
        assert_eq!(minted(&call(world.address, "POST", path, "").await), new);
        // Octokit keeps what it got for 59 minutes, without a look at `expires_at`.
        world.advance(minutes(59));
        assert!(world.is_accepted(&new).await, "{path} {age}");
    }
}

#[tokio::test]
async fn the_minute_shrinks_for_tokens_of_short_life() {
    let world = apps().await;
    world.github.fault(Fault::new(Effect::Lifetime { seconds: 600 }));
    let first = minted(&call(world.address, "POST", MINT, "").await);
    world.advance(Duration::from_secs(9));
    assert_eq!(minted(&call(world.address, "POST", MINT, "").await), first);
    world.advance(Duration::from_secs(1));
    assert_ne!(minted(&call(world.address, "POST", MINT, "").await), first);
}

#[tokio::test]
async fn an_old_token_is_no_answer_when_a_new_one_cannot_be_had() {
    let world = apps().await;
    let old = world.token("/token?installation=1").await;
    world.advance(minutes(2));
    world.github.fault(Fault::new(Effect::Html { status: 503 }).on("POST", MINT));
    let reply = call(world.address, "POST", MINT, "").await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "github_unavailable"));
    assert!(reply.header("retry-after").is_some());
    assert_eq!(world.token("/token?installation=1").await, old, "nothing was lost on the failure");
}

#[tokio::test]
async fn a_token_that_was_shown_to_be_dead_is_not_given_to_be_kept() {
    let world = apps().await;
    let token = world.token("/token?installation=1").await;
    world.advance(Duration::from_secs(10));
    let rejected = format!("{{\"token\":\"{token}\"}}");
    assert_eq!(call(world.address, "POST", "/token/reject", &rejected).await.json()["outcome"], "evicted");
    world.github.fault(Fault::new(Effect::TruncatedBody).on("POST", MINT));
    let shared = world.get("/token?installation=1").await;
    assert_eq!(
        shared.header("ghtokend-token-state"),
        Some("stale"),
        "whoever asks each time gets it in need"
    );
    assert_eq!(call(world.address, "POST", MINT, "").await.status, 502);
}

#[tokio::test]
async fn a_mint_that_took_minutes_is_no_token_to_be_kept() {
    let world = apps().await;
    let hold = world.github.hold("POST", MINT);
    let address = world.address;
    let sdk = tokio::spawn(async move { call(address, "POST", MINT, "").await });
    hold.reached(1).await;
    // The machine sleeps while GitHub's answer is on its way.
    world.clock.advance(Duration::from_secs(200));
    hold.release();
    let token = minted(&sdk.await.unwrap());
    assert_eq!(world.mints(), 2);
    world.advance(minutes(59));
    assert!(world.is_accepted(&token).await);
}

#[tokio::test]
async fn short_lived_token_reaches_its_waiters() {
    let world = apps().await;
    world.github.fault(Fault::new(Effect::Lifetime { seconds: 60 }));
    let hold = world.github.hold("POST", MINT);
    let address = world.address;
    let sdk = tokio::spawn(async move { call(address, "POST", MINT, "").await });
    hold.reached(1).await;
    // Longer than a sixtieth of its life.
    world.advance(Duration::from_secs(3));
    hold.release();
    let token = minted(&sdk.await.unwrap());
    assert!(world.mints() == 1 && world.is_accepted(&token).await);
}

#[tokio::test]
async fn malformed_path_segment_is_404_without_a_call() {
    let world = apps().await;
    let before = world.github.counters().requests;
    for (method, path) in [
        ("GET", "/app/installations/abc"),
        ("GET", "/app/installations/0"),
        ("GET", "/orgs/a.b/installation"),
        ("GET", "/repos/acme/../installation"),
        ("GET", "/users/%2e%2e/installation"),
        ("POST", "/app/installations/1x/access_tokens"),
    ] {
        let reply = call(world.address, method, path, "").await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (404, "unknown_installation"),
            "{path}: {}",
            reply.text()
        );
    }
    assert_eq!(world.github.counters().requests, before);
}

#[tokio::test]
async fn other_calls_are_sent_to_github() {
    let world = apps().await;
    for path in [
        "/user",
        "/repos/acme/widgets",
        "/api/v3/repos/acme/widgets",
        "/app/hook/config",
        "/installation/repositories",
    ] {
        let reply = call(world.address, "GET", path, "").await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "not_found"));
        let says = format!(
            "ghtokend does not proxy the API: send this call to {} with the token",
            world.github.api_url()
        );
        assert!(reply.message().starts_with(&says), "{}", reply.message());
    }
    for (method, path, allow) in [
        ("DELETE", "/app/installations/1", "GET, HEAD"),
        ("GET", MINT, "POST"),
        ("POST", "/installation/token", "DELETE"),
    ] {
        let reply = call(world.address, method, path, "").await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    // The guards hold here as everywhere.
    let request = format!(
        "POST {MINT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic eDp5\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(send(world.address, &request).await.unwrap().status, 403);
}

#[tokio::test]
async fn revoked_token_leaves_the_cache() {
    let world = apps().await;
    let token = world.token("/token?installation=1").await;
    for authorization in [bearer(&token), format!("TOKEN {token}")] {
        let reply = call_as(world.address, &authorization, "DELETE", "/api/v3/installation/token", "").await;
        assert_eq!((reply.status, reply.text().as_str()), (204, ""), "already dead is done");
        assert_eq!(reply.header("content-type"), None);
    }
    assert!(!world.is_accepted(&token).await);
    let next = world.token("/token?installation=1").await;
    assert!(next != token && world.is_accepted(&next).await);
    assert_eq!((world.mints(), world.github.count("DELETE", "/installation/token")), (2, 2));
    for authorization in ["Bearer", "Bearer ", "Basic eDp5"] {
        let request = format!(
            "DELETE /installation/token HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: t\r\nAuthorization: {authorization}\r\nConnection: close\r\n\r\n"
        );
        let reply = send(world.address, &request).await.unwrap();
        assert_eq!((reply.status, reply.code().as_str()), (422, "invalid_request"), "{authorization}");
    }
}

#[tokio::test]
async fn token_being_revoked_is_not_vended() {
    let world = apps().await;
    let token = world.token("/token?installation=1").await;
    let hold = world.github.hold("DELETE", "/installation/token");
    let (address, authorization) = (world.address, bearer(&token));
    let revoking =
        tokio::spawn(
            async move { call_as(address, &authorization, "DELETE", "/installation/token", "").await },
        );
    until(async || world.github.count("DELETE", "/installation/token") == 1).await;
    let next = world.token("/token?installation=1").await;
    assert_ne!(next, token);
    drop(hold);
    assert_eq!(revoking.await.unwrap().status, 204);
    assert_eq!(world.token("/token?installation=1").await, next, "only the one that was given back is gone");
    assert_eq!(world.mints(), 2);
}

#[tokio::test]
async fn a_token_given_back_is_gone_here_whatever_github_answers() {
    for (effect, code) in [
        (Effect::Html { status: 503 }, "github_unavailable"),
        // GitHub has done it, and the answer is lost.
        (Effect::ResetAfter, "github_unavailable"),
        (Effect::Status { status: 403, body: "{}".into(), headers: [].into() }, "bad_upstream_response"),
        (Effect::Status { status: 404, body: "{}".into(), headers: [].into() }, "bad_upstream_response"),
    ] {
        let world = apps().await;
        let token = world.token("/token?installation=1").await;
        world.github.fault(Fault::new(effect.clone()).on("DELETE", "/installation/token"));
        let reply = call_as(world.address, &bearer(&token), "DELETE", "/installation/token", "").await;
        assert_eq!(reply.code(), code, "{effect:?}");
        world.github.fault(Fault::new(Effect::Html { status: 503 }).on("POST", MINT));
        assert_eq!(world.get("/token?installation=1").await.status, 503, "{effect:?}");
        world.github.clear_faults();
        world.advance(minutes(2));
        assert_ne!(world.token("/token?installation=1").await, token);
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_still_gives_its_token_back() {
    let world = apps().await;
    let token = world.token("/token?installation=1").await;
    let hold = world.github.hold("DELETE", "/installation/token");
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let request = format!(
        "DELETE /installation/token HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    until(async || world.github.count("DELETE", "/installation/token") == 1).await;
    drop(stream);
    assert_eq!(world.get("/status").await.json()["tokens"], json!([]));
    drop(hold);
    until(async || !world.is_accepted(&token).await).await;
}

#[tokio::test]
async fn the_preview_revokes_nothing_but_the_token_is_dropped_here() {
    let world = integrations().await;
    let token = world.token("/token?installation=1").await;
    let reply = call_as(world.address, &bearer(&token), "DELETE", "/installation/token", "").await;
    assert_eq!((reply.status, reply.code().as_str()), (422, "unsupported_upstream"));
    assert!(world.is_accepted(&token).await);
    assert_ne!(world.token("/token?installation=1").await, token);
}

/// A JWT as an SDK signs it, with a key that is worth nothing.
fn jwt(issuer: &Value) -> String {
    let claims = URL_SAFE_NO_PAD.encode(json!({"iat": 1, "exp": 2, "iss": issuer}).to_string());
    format!("Bearer eyJhbGciOiJSUzI1NiJ9.{claims}.c2ln")
}

#[tokio::test]
async fn the_issuer_or_the_header_chooses_among_several_apps() {
    let world = GithubWorld {
        apps: vec![App::new("release", 1001), App::new("triage", 2002)],
        accounts: vec![Account::Organization { login: "acme".into(), id: 1 }],
        installations: vec![Installation::new(1, "release", "acme"), Installation::new(2, "triage", "acme")],
        ..GithubWorld::default()
    };
    let options = Options { world, seed: Some(1), ..Options::default() };
    let github = ghtokend::fake_github::FakeGithub::start(options.clone()).await.unwrap();
    let keys = tempfile::tempdir().unwrap();
    let mut environment = vec![("GITHUB_APP_INSTALLATION_ID", String::new())];
    for (name, id, key) in [
        ("release", "GHTOKEND_APPS__RELEASE__ID", "GHTOKEND_APPS__RELEASE__PRIVATE_KEY_FILE"),
        ("triage", "GHTOKEND_APPS__TRIAGE__ID", "GHTOKEND_APPS__TRIAGE__PRIVATE_KEY_FILE"),
    ] {
        let app = github.app(name).unwrap();
        let file = keys.path().join(name);
        std::fs::write(&file, app.private_key_pem).unwrap();
        environment.extend([(id, app.client_id), (key, file.display().to_string())]);
    }
    // The same seed makes the same keys.
    let world =
        World::with(Setup { options, environment, without_default_installation: true, ..Setup::default() })
            .await;
    let (release, triage) =
        (jwt(&world.github.app("release").unwrap().client_id.into()), jwt(&json!("IV-NOBODY")));
    let triage_id = jwt(&world.github.app("triage").unwrap().client_id.into());
    let slug = async |authorization: &str, header: &str| {
        let request = format!(
            "GET /app HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n{header}Connection: close\r\n\r\n"
        );
        let reply = send(world.address, &request).await.unwrap();
        match reply.status {
            200 => reply.json()["slug"].as_str().unwrap().to_owned(),
            status => format!("{status} {}", reply.code()),
        }
    };
    assert_eq!(slug(&release, "").await, "release");
    assert_eq!(slug(&triage_id, "").await, "triage");
    assert_eq!(slug(&release, "Ghtokend-App: triage\r\n").await, "triage");
    assert_eq!(slug(&triage, "").await, "404 unknown_app");
    assert_eq!(slug("Bearer x", "").await, "422 invalid_request");
    // An installation of the one is nothing to the other, whatever is in the cache.
    let own = minted(&call_as(world.address, &release, "POST", MINT, "").await);
    let others = call_as(world.address, &triage_id, "POST", MINT, "").await;
    assert_eq!((others.status, others.code().as_str()), (404, "unknown_installation"));
    assert_eq!(world.token("/token?app=release&installation=1").await, own);
    for (authorization, id) in [(&release, 1), (&triage_id, 2)] {
        let list = call_as(world.address, authorization, "GET", "/app/installations", "").await.json();
        assert_eq!((list.as_array().unwrap().len(), &list[0]["id"]), (1, &json!(id)));
        let found = call_as(world.address, authorization, "GET", "/orgs/acme/installation", "").await.json();
        assert_eq!(found["id"], id);
    }
}

#[tokio::test]
async fn a_lookup_of_a_renamed_repository_says_so() {
    let world = apps().await;
    world.github.rename_repository("acme", "widgets", "gadgets");
    let reply = call(world.address, "GET", "/repos/acme/widgets/installation", "").await;
    assert_eq!((reply.status, reply.code().as_str()), (404, "unknown_installation"));
    assert!(reply.message().contains("renamed or moved"), "{}", reply.message());
}

#[tokio::test]
async fn github_endpoints_serve_head_and_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let environment = vec![("GHTOKEND_LISTEN__UNIX", socket.display().to_string())];
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    for (host, origin) in [
        ("Host: bots\r\n", "http://bots"),
        ("Host: [::1]:80\r\n", "http://[::1]:80"),
        ("", "http://localhost"),
        ("Host: me@evil\r\n", "http://localhost"),
        ("Host: a/b?c\r\n", "http://localhost"),
        ("Host: x\"y\r\n", "http://localhost"),
    ] {
        let request = format!("GET /orgs/acme/installation HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        let reply = crate::support::world::send_unix(&socket, &request).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["access_tokens_url"], format!("{origin}{MINT}"), "{host}");
    }
    for path in ["/app", "/app/installations", "/orgs/acme/installation"] {
        let reply = call(world.address, "HEAD", path, "").await;
        assert_eq!((reply.status, reply.text().as_str()), (200, ""), "{path}");
    }
}

#[tokio::test]
async fn objects_with_odd_members_are_passed_through() {
    let world = apps().await;
    for odd in [
        r#"{"id":1,"permissions":null}"#,
        r#"{"id":1,"permissions":{"contents":7}}"#,
        r#"{"id":1,"permissions":[]}"#,
    ] {
        let effect = Effect::Status { status: 200, body: format!("[{odd}]"), headers: [].into() };
        world.github.fault(Fault::new(effect).on("GET", "/app/installations").times(1));
        assert_eq!(call(world.address, "GET", "/app/installations", "").await.text(), format!("[{odd}]"));
        let effect = Effect::Status { status: 200, body: odd.into(), headers: [].into() };
        world.github.fault(Fault::new(effect).on("GET", "/app").times(1));
        assert_eq!(call(world.address, "GET", "/app", "").await.text(), odd);
        world.advance(minutes(1));
    }
}

#[tokio::test]
async fn a_link_that_goes_in_circles_is_followed_once() {
    let world = World::with(Setup { without_default_installation: true, ..Setup::default() }).await;
    let list = "/app/installations";
    until(async || world.get("/readyz").await.status == 200).await;
    for page in [2, 3, 2] {
        let next = format!("<{}{list}?page={page}>; rel=\"next\"", world.github.api_url());
        let headers = [("Link".to_owned(), next)].into();
        let effect = Effect::Status { status: 200, body: "[]".into(), headers };
        world.github.fault(Fault::new(effect).on("GET", list).times(1));
    }
    assert_eq!(world.get("/token").await.code(), "unknown_installation");
    assert_eq!(world.github.count("GET", list), 3);
}
