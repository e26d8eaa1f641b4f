//! The emulator in the dialect of 2016, the "Integrations" preview.

#![cfg(feature = "fake-github")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ghtokend::fake_github::{
    App, Effect, ErrorResponse, FakeGithub, Fault, Flavour, Installation, Member, Mode, Options, Preview,
    Repository, WiderRepositories, World,
};
use serde_json::{Value, json};

use crate::docs::page::PAGE_USER;
use crate::emulator::client::{
    Reply, UNDECODABLE, as_app, bearer, claims, control, demo, key, mint, send, signed, start, token,
    with_token,
};

pub const ACCEPT: &str = "application/vnd.github.machine-man-preview";
pub const MEDIA_TYPE: &str = "github.machine-man-preview; format=json";
const HARMLESS: &str = "github.v3; param=machine-man-preview; format=json";
pub const LIST: &str = "/integration/installations";
pub const MINT: &str = "/installations/1/access_tokens";
pub const IDENTITY: &str = "/integration/identity/user";
const REPOSITORIES: &str = "/installation/repositories";
const VALIDATION_FAILED: (u16, &str) = (422, "Validation Failed");

async fn with_preview(preview: Preview) -> FakeGithub {
    start(Options { preview, ..Options::default() }).await
}

pub async fn call(github: &FakeGithub, method: &str, path: &str, credential: &str, body: &str) -> Reply {
    let headers = [("authorization", credential), ("accept", ACCEPT)];
    send(method, &format!("{}{path}", github.api_url()), &headers, body).await
}

/// A call by the app `demo` in this dialect.
pub async fn as_integration(github: &FakeGithub, method: &str, path: &str, body: &str) -> Reply {
    call(github, method, path, &bearer(&signed(&key(github), &claims(1001))), body).await
}

/// A token in this dialect for installation 1.
async fn preview_token(github: &FakeGithub, body: &str) -> String {
    let minted = as_integration(github, "POST", MINT, body).await;
    assert_eq!(minted.status, 201, "{}", minted.text);
    minted.json()["token"].as_str().unwrap().to_owned()
}

/// The names of the repositories that a token sees.
async fn seen(github: &FakeGithub, token: &str, query: &str) -> Vec<String> {
    let list = call(github, "GET", &format!("{REPOSITORIES}{query}"), &bearer(token), "").await;
    assert_eq!(list.status, 200, "{}", list.text);
    assert_eq!(list.json()["total_count"], list.json()["repositories"].as_array().unwrap().len());
    let list = list.json()["repositories"].as_array().unwrap().clone();
    list.iter().map(|repository| repository["name"].as_str().unwrap().to_owned()).collect()
}

fn check_refused(reply: &Reply, (status, message): (u16, &str)) {
    assert_eq!((reply.status, reply.message().as_str()), (status, message), "{}", reply.text);
    assert!(reply.json().get("status").is_none(), "errors had none in 2016");
}

// The gate

#[tokio::test]
async fn preview_media_type_is_required() {
    let github = demo().await;
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    let plain = format!("{ACCEPT}+json");
    let doubled = format!("Accept: {plain}");
    let combined = format!("application/vnd.github.v3+json, {ACCEPT}.raw; q=0.5");
    let shouted = ACCEPT.to_uppercase();
    let nonce = || json!({ "nonce": github.create_nonce(1, "octocat") }).to_string();
    let repository = "/installations/2/repositories/4";
    let calls = [("GET", LIST, 200), ("POST", MINT, 201), ("POST", IDENTITY, 200), ("PUT", repository, 204)];
    for (method, path, status) in calls {
        let url = format!("{}{path}", github.api_url());
        for accept in [ACCEPT, &plain, &doubled, &combined, &shouted] {
            let headers = [("authorization", jwt.as_str()), ("accept", accept)];
            let reply = send(method, &url, &headers, &nonce()).await;
            assert_eq!(reply.status, status, "{method} {path} {accept}: {}", reply.text);
            assert_eq!(reply.header("x-github-media-type"), MEDIA_TYPE, "{accept}");
            assert!(!reply.headers.contains_key("x-github-api-version-selected"), "that came in 2022");
        }
        let twice = [("authorization", jwt.as_str()), ("accept", "*/*"), ("accept", ACCEPT)];
        assert_eq!(send(method, &url, &twice, &nonce()).await.status, status, "{method} {path}");
        for accept in ["", "*/*", "application/vnd.github+json", "application/vnd.github.machine-man"] {
            let headers = [("authorization", jwt.as_str()), ("accept", accept)];
            let reply = send(method, &url, &headers, &nonce()).await;
            check_refused(
                &reply,
                (
                    415,
                    "If you would like to help us test the Integrations API during its preview period, you must specify a custom media type in the 'Accept' header. Please see the docs for full details.",
                ),
            );
            let docs = reply.json()["documentation_url"].clone();
            assert_eq!(docs, "https://developer.github.com/v3/integrations/");
            assert_eq!(reply.header("x-github-media-type"), "github.v3; format=json");
        }
    }
    assert_eq!(github.counters().mints, 6, "nothing was done for those who were kept out");
}

#[tokio::test]
async fn preview_name_in_415_is_configurable() {
    let github = with_preview(Preview { name: "Robots".into(), ..Preview::default() }).await;
    let reply = as_app(&github, "GET", LIST, "").await;
    assert_eq!(reply.status, 415);
    assert!(reply.message().contains("test the Robots API during"), "{}", reply.text);
}

#[tokio::test]
async fn shared_route_answers_in_the_requested_dialect() {
    let github = demo().await;
    let secret = bearer(&token(&github, 1).await);
    let url = |query: &str| format!("{}{REPOSITORIES}{query}", github.api_url());
    let auth = ("authorization", secret.as_str());
    let version = ("x-github-api-version", "2022-11-28");
    let modern = send("GET", &url(""), &[auth], "").await;
    assert_eq!(modern.json()["repository_selection"], "all");
    assert!(modern.json()["repositories"][0]["node_id"].is_string());
    assert_eq!(modern.header("x-github-api-version-selected"), "2022-11-28");
    // A client that names a version is of today, whatever else it sends.
    let named = send("GET", &url("?user_id=4"), &[auth, version, ("accept", ACCEPT)], "").await;
    assert_eq!((named.header("x-github-media-type"), &named.text), (HARMLESS, &modern.text));
    let old = send("GET", &url(""), &[auth, ("accept", ACCEPT)], "").await;
    assert_eq!((old.status, old.header("x-github-media-type")), (200, MEDIA_TYPE));
    assert_eq!(old.header("x-ratelimit-limit"), "5000");
    assert_eq!(old.header("cache-control"), "private, max-age=60, s-maxage=60");
    let keys: Vec<String> = old.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["repositories", "total_count"]);
    assert!(!old.text.contains("node_id"), "{}", old.text);
    assert_eq!(old.json()["repositories"][0]["owner"]["type"], "Organization");
    // A filter that is ignored would tell too much.
    check_refused(&send("GET", &url("?user_id=4"), &[auth], "").await, (415, &old_415(&github).await));
}

async fn old_415(github: &FakeGithub) -> String {
    as_app(github, "GET", LIST, "").await.message()
}

#[tokio::test]
async fn the_jwt_is_checked_as_on_the_routes_of_today() {
    let github = demo().await;
    let good = signed(&key(&github), &claims(1001));
    for (method, path) in [("GET", LIST), ("POST", MINT), ("POST", IDENTITY)] {
        for credential in [String::new(), format!("token {good}"), bearer(&token(&github, 1).await)] {
            let reply = call(&github, method, path, &credential, "").await;
            check_refused(&reply, (401, UNDECODABLE));
            assert_eq!(reply.json()["documentation_url"], "https://developer.github.com/v3");
        }
    }
    let reply = call(&github, "GET", REPOSITORIES, &bearer(&good), "").await;
    assert_eq!(reply.status, 403);
    assert_eq!(call(&github, "GET", LIST, &bearer(&good), "").await.status, 200);
}

// Flavours

#[tokio::test]
async fn installations_of_2017_have_one_account_kind() {
    let github = with_preview(Preview { flavour: "2017".parse().unwrap(), ..Preview::default() }).await;
    let list = as_integration(&github, "GET", LIST, "").await.json();
    let keys: Vec<&String> = list[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["access_tokens_url", "account", "html_url", "id", "repositories_url"]);
    let web = github.api_url();
    assert_eq!(list[0]["html_url"], format!("{web}/organizations/acme/settings/installations/1"));
    assert_eq!(list[1]["html_url"], format!("{web}/settings/installations/2"));
    let simple: BTreeSet<String> =
        serde_json::from_str::<BTreeMap<String, Value>>(PAGE_USER).unwrap().into_keys().collect();
    for (at, kind) in [(0, "Organization"), (1, "User")] {
        let account = list[at]["account"].as_object().unwrap();
        assert_eq!(account.keys().cloned().collect::<BTreeSet<_>>(), simple);
        assert_eq!(account["type"], kind);
    }
}

#[tokio::test]
async fn in_2017_a_token_of_nobody_does_not_say_so() {
    let github = with_preview(Preview { flavour: Flavour::Y2017, ..Preview::default() }).await;
    let plain = as_integration(&github, "POST", MINT, "{}").await;
    let keys: Vec<String> = plain.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["expires_at", "token"]);
    assert_eq!(plain.header("content-length"), "91", "as recorded in March 2017");
    let of_user = as_integration(&github, "POST", MINT, r#"{"user_id": 2}"#).await.json();
    assert_eq!(of_user["on_behalf_of"]["login"], "octocat");
    assert_eq!(of_user["on_behalf_of"].as_object().unwrap().len(), 17);
}

#[tokio::test]
async fn accounts_of_2016_lack_later_fields() {
    let github = demo().await;
    let list = as_integration(&github, "GET", LIST, "").await;
    for item in list.json().as_array().unwrap() {
        let keys: Vec<&String> = item.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["access_tokens_url", "account", "id", "repositories_url"]);
    }
    assert!(!list.text.contains("node_id") && !list.text.contains("user_view_type"), "{}", list.text);
    assert_eq!(list.json()[1]["account"]["type"], "User", "an account on the page is of an organisation");
}

#[tokio::test]
async fn preview_omits_enterprises_but_allows_null_accounts() {
    let mut world = World::demo();
    world.installations.push(Installation { account: None, ..Installation::new(9, "demo", "acme") });
    let github = start(Options { world, ..Options::default() }).await;
    let list = as_integration(&github, "GET", LIST, "").await.json();
    let ids: Vec<_> = list.as_array().unwrap().iter().map(|item| item["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 9]);
    assert_eq!(list[2]["account"], Value::Null);
    let minted = as_integration(&github, "POST", "/installations/3/access_tokens", "").await;
    check_refused(&minted, (404, "Not Found"));
}

#[tokio::test]
async fn an_enterprise_server_speaks_it_under_its_prefix() {
    let github = start(Options { mode: Mode::Ghes, ..Options::default() }).await;
    let list = as_integration(&github, "GET", LIST, "").await.json();
    assert_eq!(list[0]["access_tokens_url"], format!("{}{MINT}", github.api_url()));
    assert!(github.api_url().ends_with("/api/v3"));
    assert_eq!(as_integration(&github, "POST", MINT, "").await.status, 201);
}

// Users

#[tokio::test]
async fn user_id_is_text_or_number_of_a_member() {
    let github = demo().await;
    for (body, login) in [
        (r#"{"user_id": "2"}"#, json!("octocat")),
        (r#"{"user_id": 2}"#, json!("octocat")),
        (r#"{"user_id": 4}"#, json!("hubot")),
        (r#"{"user_id": null}"#, Value::Null),
        (r#"{"permissions": {"contents": "read"}}"#, Value::Null),
    ] {
        let minted = as_integration(&github, "POST", MINT, body).await;
        assert_eq!((minted.status, &minted.json()["on_behalf_of"]["login"]), (201, &login), "{body}");
    }
    // A stranger, nobody, an organisation, and what is not an id at all.
    for id in ["5", "99", "1", "\"\"", "\"+2\"", "\"octocat\"", "2.0", "-2", "true", "[2]"] {
        let body = format!("{{\"user_id\": {id}}}");
        let refused = as_integration(&github, "POST", MINT, &body).await;
        check_refused(&refused, VALIDATION_FAILED);
        let errors = json!([{"resource": "InstallationToken", "field": "user_id", "code": "invalid"}]);
        assert_eq!(refused.json()["errors"], errors, "{body}");
    }
    for (body, message) in [("{", "Problems parsing JSON"), ("[]", "Body should be a JSON object")] {
        check_refused(&as_integration(&github, "POST", MINT, body).await, (400, message));
        check_refused(&as_integration(&github, "POST", IDENTITY, body).await, (400, message));
    }
    assert_eq!(github.counters().mints, 5);
    let own = as_integration(&github, "POST", "/installations/2/access_tokens", r#"{"user_id": 2}"#).await;
    assert_eq!(own.status, 201, "everybody belongs to their own account");
}

#[tokio::test]
async fn how_an_unknown_user_is_refused_is_an_option() {
    let unknown_user = ErrorResponse { status: 404, message: "Not Found".into() };
    let github = with_preview(Preview { unknown_user, ..Preview::default() }).await;
    let refused = as_integration(&github, "POST", MINT, r#"{"user_id": 99}"#).await;
    check_refused(&refused, (404, "Not Found"));
    assert!(refused.json().get("errors").is_none());
}

#[tokio::test]
async fn user_token_sees_the_intersection_of_repositories() {
    let mut world = World::demo();
    let names = BTreeSet::from(["plans".to_owned()]);
    world.members[1].repositories = Some(names);
    for (id, name) in [(5, "plans"), (6, "vault")] {
        let (owner, name) = ("acme".to_owned(), name.to_owned());
        world.repositories.push(Repository { id, owner, name, private: true });
    }
    let github = start(Options { world, ..Options::default() }).await;
    let [nobody, octocat, hubot] = ["{}", r#"{"user_id": "2"}"#, r#"{"user_id": 4}"#];
    let (nobody, octocat, hubot) = (
        preview_token(&github, nobody).await,
        preview_token(&github, octocat).await,
        preview_token(&github, hubot).await,
    );
    let everything = ["widgets", "gadgets", "secrets", "plans", "vault"];
    assert_eq!(seen(&github, &nobody, "").await, everything);
    assert_eq!(seen(&github, &octocat, "").await, everything, "nothing of the user's own");
    assert_eq!(seen(&github, &hubot, "").await, ["widgets", "gadgets", "plans"]);
    for (name, status) in [("plans", 200), ("vault", 404), ("widgets", 200)] {
        let reply = with_token(&github, &hubot, "GET", &format!("/repos/acme/{name}")).await;
        assert_eq!(reply.status, status, "{name}");
    }
    // By the same rules in the other dialect, and for names to come.
    let modern = with_token(&github, &hubot, "GET", REPOSITORIES).await;
    assert_eq!(modern.json()["total_count"], 3);
    assert!(github.rename_repository("acme", "plans", "dreams"));
    assert!(github.rename_account("acme", "acme-inc") && github.rename_account("hubot", "robot"));
    assert_eq!(seen(&github, &hubot, "").await, ["widgets", "gadgets", "dreams"]);
    // The filter narrows what the token sees and never widens it.
    assert_eq!(seen(&github, &nobody, "?user_id=4").await, ["widgets", "gadgets", "dreams"]);
    assert_eq!(seen(&github, &hubot, "?user_id=2").await, ["widgets", "gadgets", "dreams"]);
    assert_eq!(seen(&github, &nobody, "?user_id=5").await, ["widgets", "gadgets"], "a stranger");
    for id in ["99", "", "octocat"] {
        let path = format!("{REPOSITORIES}?user_id={id}");
        check_refused(&call(&github, "GET", &path, &bearer(&nobody), "").await, VALIDATION_FAILED);
    }
    let path = format!("{REPOSITORIES}?user_id=4&per_page=2");
    let paged = call(&github, "GET", &path, &bearer(&nobody), "").await;
    assert!(paged.header("link").contains("?user_id=4&per_page=2&page=2>; rel=\"next\""));
}

// Nonces

#[tokio::test]
async fn a_nonce_is_good_for_one_answer_within_ten_minutes() {
    let github = demo().await;
    let spend = async |nonce: &str| {
        as_integration(&github, "POST", IDENTITY, &json!({ "nonce": nonce }).to_string()).await
    };
    let dead = (404, "Not Found");
    let nonce = github.create_nonce(1, "hubot").unwrap();
    let identity = spend(&nonce).await;
    assert_eq!((identity.status, &identity.json()["user"]["id"]), (200, &json!(4)));
    let url = identity.json()["repositories_url"].as_str().unwrap().to_owned();
    assert_eq!(url, format!("{}{REPOSITORIES}?user_id=4", github.api_url()));
    check_refused(&spend(&nonce).await, dead);
    check_refused(&spend("abc123").await, dead);
    let (early, late) = (github.create_nonce(1, "hubot").unwrap(), github.create_nonce(1, "hubot").unwrap());
    assert_ne!(early, late);
    github.advance(Duration::from_secs(590));
    // Made with the clock ahead; the JWT is not.
    github.skew(-590);
    assert_eq!(spend(&early).await.status, 200);
    github.advance(Duration::from_secs(10));
    github.skew(-600);
    check_refused(&spend(&late).await, dead);
    assert_eq!(github.create_nonce(9, "hubot"), None, "no such installation");
    assert_eq!(github.create_nonce(1, "acme"), None, "no user");
    let deleted = github.create_nonce(1, "hubot").unwrap();
    github.delete_installation(1);
    check_refused(&spend(&deleted).await, dead);
    github.add_installation(Installation::new(1, "demo", "acme")).unwrap();
    check_refused(&spend(&deleted).await, dead);
    let gone = github.create_nonce(2, "octocat").unwrap();
    github.reset();
    check_refused(&spend(&gone).await, dead);
}

#[tokio::test]
async fn a_nonce_may_be_spent_by_an_answer_that_is_lost() {
    let github = demo().await;
    let body = json!({ "nonce": github.create_nonce(1, "hubot") }).to_string();
    github.fault(Fault::new(Effect::TruncatedBody).times(1).on("POST", IDENTITY));
    assert!(
        serde_json::from_str::<Value>(&as_integration(&github, "POST", IDENTITY, &body).await.text).is_err()
    );
    check_refused(&as_integration(&github, "POST", IDENTITY, &body).await, (404, "Not Found"));
}

#[tokio::test]
async fn a_missing_nonce_is_a_failed_validation() {
    let github = demo().await;
    for (body, code) in [
        ("", "missing_field"),
        ("{}", "missing_field"),
        (r#"{"nonce": null}"#, "missing_field"),
        (r#"{"nonce": ""}"#, "missing_field"),
        (r#"{"nonce": 7}"#, "invalid"),
        (r#"{"nonce": ["abc123"]}"#, "invalid"),
    ] {
        let refused = as_integration(&github, "POST", IDENTITY, body).await;
        check_refused(&refused, VALIDATION_FAILED);
        let errors = json!([{"resource": "Identity", "field": "nonce", "code": code}]);
        assert_eq!(refused.json()["errors"], errors, "{body}");
        assert_eq!(refused.json()["documentation_url"], "https://developer.github.com/v3/integrations/");
    }
}

#[tokio::test]
async fn nonces_follow_the_options() {
    let github = with_preview(Preview {
        nonce_lifetime: Duration::ZERO,
        dead_nonce: ErrorResponse::validation_failed(),
        missing_nonce: ErrorResponse { status: 400, message: "No nonce".into() },
        ..Preview::default()
    })
    .await;
    let body = json!({ "nonce": github.create_nonce(1, "hubot") }).to_string();
    let dead = as_integration(&github, "POST", IDENTITY, &body).await;
    check_refused(&dead, VALIDATION_FAILED);
    assert_eq!(dead.json()["errors"][0]["code"], "invalid");
    check_refused(&as_integration(&github, "POST", IDENTITY, "").await, (400, "No nonce"));
    let github = with_preview(Preview { identity_status: 201, ..Preview::default() }).await;
    let body = json!({ "nonce": github.create_nonce(1, "hubot") }).to_string();
    assert_eq!(as_integration(&github, "POST", IDENTITY, &body).await.status, 201);
    for (preview, words) in [
        (Preview { identity_status: 404, ..Preview::default() }, "`identity_status` must be from 200 to 299"),
        (
            Preview {
                dead_nonce: ErrorResponse { status: 200, message: String::new() },
                ..Preview::default()
            },
            "`dead_nonce` must be from 400 to 599",
        ),
    ] {
        let error = FakeGithub::start(Options { preview, seed: Some(1), ..Options::default() }).await;
        assert!(error.unwrap_err().to_string().contains(words));
    }
}

#[tokio::test]
async fn apps_have_neither_each_others_installations_nor_their_nonces() {
    let mut world = World::demo();
    world.apps.push(App::new("other", 2002));
    world.installations.push(Installation::new(50, "other", "acme"));
    let github = start(Options { world, ..Options::default() }).await;
    let pem = github.app("other").unwrap().private_key_pem;
    let other = bearer(&signed(&pem, &claims(2002)));
    let list = call(&github, "GET", LIST, &other, "").await.json();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["id"]), (1, &json!(50)));
    check_refused(&call(&github, "POST", MINT, &other, "").await, (404, "Not Found"));
    let body = json!({ "nonce": github.create_nonce(1, "octocat") }).to_string();
    check_refused(&call(&github, "POST", IDENTITY, &other, &body).await, (404, "Not Found"));
    assert_eq!(
        as_integration(&github, "POST", IDENTITY, &body).await.status,
        200,
        "a stranger did not use it up"
    );
}

// One store

#[tokio::test]
async fn token_lifetime_is_equal_in_both_dialects() {
    let github = demo().await;
    let (old, new) = (preview_token(&github, "").await, token(&github, 1).await);
    let statuses = async |expected: u16| {
        for token in [&old, &new] {
            assert_eq!(with_token(&github, token, "GET", REPOSITORIES).await.status, expected);
            assert_eq!(call(&github, "GET", REPOSITORIES, &bearer(token), "").await.status, expected);
        }
    };
    statuses(200).await;
    github.suspend(1);
    statuses(403).await;
    check_refused(
        &as_integration(&github, "POST", MINT, "").await,
        (403, "This installation has been suspended"),
    );
    github.unsuspend(1);
    github.advance(Duration::from_secs(3590));
    statuses(200).await;
    github.advance(Duration::from_secs(10));
    statuses(401).await;
    github.reset();
    let (old, kept) = (preview_token(&github, "").await, preview_token(&github, "").await);
    assert_eq!(with_token(&github, &old, "DELETE", "/installation/token").await.status, 204);
    assert_eq!(with_token(&github, &old, "DELETE", "/installation/token").await.status, 401);
    assert_eq!(call(&github, "GET", REPOSITORIES, &bearer(&kept), "").await.status, 200);
    github.delete_installation(1);
    assert_eq!(call(&github, "GET", REPOSITORIES, &bearer(&kept), "").await.status, 401);
    check_refused(&as_integration(&github, "POST", MINT, "").await, (404, "Not Found"));
    assert_eq!(mint(&github, 1, "").await.status, 404);
}

#[tokio::test]
async fn mint_counts_span_both_dialects() {
    let github = demo().await;
    for body in ["", r#"{"user_id": "2"}"#, r#"{"user_id": 2}"#, r#"{"user_id": 4}"#] {
        preview_token(&github, body).await;
    }
    let token = token(&github, 1).await;
    assert_eq!(as_integration(&github, "POST", MINT, r#"{"user_id": 99}"#).await.status, 422);
    seen(&github, &token, "?user_id=2").await;
    let counters = github.counters();
    assert_eq!((counters.mint_requests, counters.mints, counters.mints_in_flight_max), (6, 5, 1));
    assert_eq!(counters.mints_by_installation, BTreeMap::from([(1, 5)]));
    let scopes = [("1", 2), ("1 user_id=2", 2), ("1 user_id=4", 1)];
    assert_eq!(counters.mints_by_scope, scopes.map(|(scope, n)| (scope.to_owned(), n)).into());
    let routes = [
        ("POST /installations/{installation_id}/access_tokens", 5),
        ("POST /app/installations/{installation_id}/access_tokens", 1),
        ("GET /installation/repositories", 1),
    ];
    assert_eq!(counters.by_route, routes.map(|(route, n)| (route.to_owned(), n)).into());
    assert_eq!(github.count("POST", MINT), 5);
    let journal = github.journal();
    assert_eq!(journal[5].status, Some(422));
    assert_eq!(journal[6].path, "/installation/repositories?user_id=2");
    assert!(journal.iter().all(|entry| entry.credential_sha256.is_some()));
}

#[tokio::test]
async fn faults_happen_in_this_dialect_too() {
    let github = demo().await;
    let text = format!("v1.{}", "ab".repeat(20));
    github.fault(Fault::new(Effect::Token { value: text.clone() }).times(1));
    assert_eq!(preview_token(&github, r#"{"user_id": 4}"#).await, text);
    assert_eq!(seen(&github, &text, "").await, ["widgets", "gadgets"]);
    let wider = Effect::WiderGrant { permissions: Default::default(), repositories: WiderRepositories::All };
    github.fault(Fault::new(wider).times(1));
    let ignored = as_integration(&github, "POST", MINT, r#"{"user_id": 4}"#).await.json();
    assert_eq!(ignored["on_behalf_of"], Value::Null);
    let wide = ignored["token"].as_str().unwrap();
    assert_eq!(seen(&github, wide, "").await, ["widgets", "gadgets", "secrets"]);
    github.fault(Fault::new(Effect::Lifetime { seconds: -1 }).times(1));
    let dead = preview_token(&github, "").await;
    assert_eq!(with_token(&github, &dead, "GET", REPOSITORIES).await.status, 401);
    github.fault(Fault::new(Effect::ExpiresAt { value: None }).times(1));
    assert!(as_integration(&github, "POST", MINT, "").await.json().get("expires_at").is_none());
    github.fault(Fault::new(Effect::PrimaryLimit { status: 403, reset_seconds: 9 }).times(1));
    let limited = as_integration(&github, "POST", "/installations/2/access_tokens", "").await;
    assert_eq!(limited.message(), "API rate limit exceeded for installation ID 2.");
}

#[tokio::test]
async fn repositories_can_be_added_or_removed() {
    let mut world = World::demo();
    let spoon = Repository { id: 9, owner: "octocat".into(), name: "spoon-knife".into(), private: true };
    world.repositories.push(spoon);
    let github = start(Options { world, ..Options::default() }).await;
    let of_octocat = |id: u8| format!("/installations/2/repositories/{id}");
    let token = token(&github, 2).await;
    check_refused(&as_integration(&github, "DELETE", &of_octocat(9), "").await, (404, "Not Found"));
    check_refused(&as_integration(&github, "DELETE", &of_octocat(4), "").await, VALIDATION_FAILED);
    for _ in 0..2 {
        let added = as_integration(&github, "PUT", &of_octocat(9), "").await;
        assert_eq!((added.status, added.text.as_str()), (204, ""));
    }
    assert_eq!(seen(&github, &token, "").await, ["hello-world", "spoon-knife"]);
    assert_eq!(as_integration(&github, "DELETE", &of_octocat(4), "").await.status, 204);
    assert_eq!(seen(&github, &token, "").await, ["spoon-knife"]);
    check_refused(&as_integration(&github, "PUT", &of_octocat(1), "").await, (404, "Not Found"));
    check_refused(&as_integration(&github, "PUT", &of_octocat(99), "").await, (404, "Not Found"));
    check_refused(
        &as_integration(&github, "PUT", "/installations/9/repositories/1", "").await,
        (404, "Not Found"),
    );
    // An installation on everything keeps everything.
    assert_eq!(as_integration(&github, "PUT", "/installations/1/repositories/1", "").await.status, 204);
    let kept = as_integration(&github, "DELETE", "/installations/1/repositories/1", "").await;
    check_refused(&kept, VALIDATION_FAILED);
}

// Retirement

#[tokio::test]
async fn retired_preview_media_type_is_harmless() {
    let github = demo().await;
    let old = preview_token(&github, r#"{"user_id": 4}"#).await;
    let repository = "/installations/2/repositories/4";
    let calls =
        [("GET", LIST), ("POST", MINT), ("POST", IDENTITY), ("PUT", repository), ("DELETE", repository)];
    github.retire_preview();
    for (method, path) in calls {
        let gone = as_integration(&github, method, path, "").await;
        assert_eq!((gone.status, gone.message().as_str()), (404, "Not Found"), "{method} {path}");
        assert_eq!(as_app(&github, method, path, "").await.status, 404, "not 415");
    }
    for path in ["/app", "/app/installations"] {
        let modern = as_integration(&github, "GET", path, "").await;
        assert_eq!((modern.status, modern.header("x-github-media-type")), (200, HARMLESS), "{path}");
    }
    let minted = as_integration(&github, "POST", "/app/installations/1/access_tokens", "").await;
    assert_eq!((minted.status, minted.header("x-github-media-type")), (201, HARMLESS));
    let listed = call(&github, "GET", &format!("{REPOSITORIES}?user_id=99"), &bearer(&old), "").await;
    assert_eq!((listed.status, listed.header("x-github-media-type")), (200, HARMLESS));
    assert_eq!(listed.json()["repository_selection"], "all");
    assert_eq!(listed.json()["total_count"], 2, "the token still sees what it saw");
    github.restore_preview();
    assert_eq!(as_integration(&github, "GET", LIST, "").await.status, 200);
    let github = with_preview(Preview { retired: true, ..Preview::default() }).await;
    assert_eq!(as_integration(&github, "GET", LIST, "").await.status, 404);
    github.restore_preview();
    github.reset();
    assert_eq!(as_integration(&github, "GET", LIST, "").await.status, 404, "as at the start");
}

// The control endpoint, and worlds

#[tokio::test]
async fn control_endpoint_creates_nonces() {
    let github = demo().await;
    let made = control(&github, "POST", "/nonces", r#"{"installation": 1, "user": "octocat"}"#).await;
    assert_eq!(made.status, 200);
    let identity = as_integration(&github, "POST", IDENTITY, &made.text).await;
    assert_eq!(identity.json()["user"]["login"], "octocat");
    for (body, status, word) in [
        (r#"{"installation": 1, "user": "acme"}"#, 404, "no such user"),
        (r#"{"installation": 9, "user": "octocat"}"#, 404, "no such installation"),
        (r#"{"installation": 1}"#, 400, "`user`"),
        (r#"{"installation": "x", "user": "octocat"}"#, 400, "`installation`"),
    ] {
        let refused = control(&github, "POST", "/nonces", body).await;
        assert_eq!(refused.status, status);
        assert!(refused.json()["error"].as_str().unwrap().contains(word), "{}", refused.text);
    }
    assert_eq!(control(&github, "POST", "/preview/retire", "").await.status, 200);
    assert_eq!(as_integration(&github, "GET", LIST, "").await.status, 404);
    assert_eq!(control(&github, "POST", "/preview/restore", "").await.status, 200);
    assert_eq!(as_integration(&github, "GET", LIST, "").await.status, 200);
}

#[tokio::test]
async fn members_have_to_fit_into_the_world() {
    let check = async |change: fn(&mut World), words: &str| {
        let mut world = World::demo();
        change(&mut world);
        let error = FakeGithub::start(Options { world, seed: Some(1), ..Options::default() }).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    check(|world| world.members[0].account = "x".into(), "no account has the login `x`").await;
    check(|world| world.members[0].account = "acme-enterprise".into(), "the login `acme-enterprise`").await;
    check(|world| world.members[0].user = "acme".into(), "no user has the login `acme`").await;
    check(|world| world.members[0].user = "HUBOT".into(), "no user has the login `HUBOT`").await;
    check(|world| world.members[0].user = "hubot".into(), "acme/hubot appears twice").await;
    check(
        |world| world.members[0].repositories = Some(["hello-world".to_owned()].into()),
        "no repository `hello-world`",
    )
    .await;
    let json = r#"{"members": [{"account": "acme", "user": "octocat"}]}"#;
    let world: World = serde_json::from_str(json).unwrap();
    assert_eq!(world.members, [Member::new("acme", "octocat")]);
    assert!(serde_json::from_str::<World>("{}").unwrap().members.is_empty());
}
