//! The daemon in the other dialect: the preview of 2016, which lists installations and knows users.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use ghtokend::clock::Clock as _;
use ghtokend::fake_github::{
    Account, Effect, FakeGithub, Fault, Flavour, Installation, JournalEntry, Mode, Options, Preview,
    WiderRepositories, World as GithubWorld, permissions,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::program::{borrowed, run, variables_for};
use crate::support::world::{Reply, Setup, World, get, send};

const LIST: &str = "/integration/installations";
const MINT_1: &str = "/installations/1/access_tokens";
const DIALECT: (&str, &str) = ("GHTOKEND_GITHUB__DIALECT", "integrations");
/// Users of the emulator's world: a member of `acme`, and one who is not.
const OCTOCAT: u64 = 2;
const HUBOT: u64 = 4;
const MONA: u64 = 5;

/// A daemon that speaks the preview, once GitHub has accepted it: that has cost one page of the list.
async fn world(options: Options, default: Fallback) -> World {
    let world = World::with(Setup {
        options,
        environment: vec![
            (DIALECT.0, DIALECT.1.to_owned()),
            ("GHTOKEND_GITHUB__WEB_URL", "https://git.example".to_owned()),
        ],
        without_default_installation: default == Fallback::None,
        ..Setup::default()
    })
    .await;
    while world.get("/readyz").await.status != 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lists(&world), 1);
    world
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fallback {
    Acme,
    None,
}

async fn usual() -> World {
    world(Options::default(), Fallback::Acme).await
}

async fn of_250() -> World {
    let github = GithubWorld::with_installations(250);
    world(Options { world: github, ..Options::default() }, Fallback::None).await
}

/// How many pages of the list were asked for.
fn lists(world: &World) -> usize {
    let asked = world.github.journal();
    asked.iter().filter(|entry| entry.method == "GET" && entry.path.contains(LIST)).count()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

fn answered(status: u16, body: &Value) -> Effect {
    Effect::Status { status, body: body.to_string(), headers: [].into() }
}

fn not_found() -> Effect {
    answered(404, &json!({"message": "Not Found"}))
}

fn outcome(reply: &Reply) -> (u16, String) {
    (reply.status, reply.code())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn user_tokens_have_their_own_cache_keys() {
    for flavour in [Flavour::Y2016, Flavour::Y2017] {
        let options = Options { preview: Preview { flavour, ..Preview::default() }, ..Options::default() };
        let world = world(options, Fallback::Acme).await;
        let plain = world.get("/token?owner=acme").await.json();
        assert_eq!((&plain["account"], &plain["installation_id"]), (&json!("acme"), &json!(1)));
        assert_eq!(plain.get("on_behalf_of"), Some(&Value::Null), "{flavour:?}");
        assert!(plain.get("permissions").is_none(), "what GitHub did not say is left out");
        let octocat = world.get(&format!("/token?owner=acme&user={OCTOCAT}")).await.json();
        assert_eq!(octocat["on_behalf_of"]["login"], "octocat");
        assert_eq!(octocat["on_behalf_of"].as_object().unwrap().len(), 17, "as GitHub gave it");
        let hubot = world.get(&format!("/token?owner=acme&user={HUBOT}")).await.json();
        assert_eq!(hubot["on_behalf_of"]["id"], HUBOT);
        let tokens: BTreeSet<_> =
            [&plain, &octocat, &hubot].map(|body| body["token"].as_str().unwrap()).into();
        assert_eq!(tokens.len(), 3);
        for token in &tokens {
            assert!(world.is_accepted(token).await);
        }
        // Each is kept under its own user.
        for (target, body) in [("", &plain), ("&user=2", &octocat), ("&user=4", &hubot)] {
            assert_eq!(&world.get(&format!("/token?owner=acme{target}")).await.json(), body);
        }
        let mints = world.github.counters().mints_by_scope;
        assert_eq!(
            mints,
            [("1", 1), ("1 user_id=2", 1), ("1 user_id=4", 1)].map(|(s, n)| (s.into(), n)).into()
        );
        let status = world.get("/status").await.json();
        let mut users: Vec<_> =
            status["tokens"].as_array().unwrap().iter().map(|t| t["user_id"].as_u64()).collect();
        users.sort_unstable();
        assert_eq!(users, [None, Some(OCTOCAT), Some(HUBOT)]);
    }
}

#[tokio::test]
async fn every_integrations_call_sends_the_preview_media_type() {
    let world = world(Options { mode: Mode::Ghes, ..Options::default() }, Fallback::Acme).await;
    world.token("/token").await;
    world.token("/token?user=2").await;
    let asked: Vec<JournalEntry> = world.github.journal();
    let paths: BTreeSet<_> = asked.iter().map(|entry| format!("{} {}", entry.method, entry.path)).collect();
    let expected =
        ["GET /api/v3/integration/installations?per_page=100", "POST /api/v3/installations/1/access_tokens"];
    assert_eq!(paths, expected.map(str::to_owned).into());
    // Without the preview's media type it would have been a 415.
    assert!(asked.iter().all(|entry| entry.status.is_some_and(|status| status < 300)), "{asked:?}");
    assert!(!asked.iter().any(|entry| entry.header_names.contains(&"x-github-api-version".into())));
}

#[tokio::test]
async fn unauthorized_user_gets_no_token() {
    let world = usual().await;
    for user in [MONA, 4711] {
        let reply = world.get(&format!("/token?user={user}")).await;
        assert_eq!(outcome(&reply), refused(422, "user_not_authorized"));
        assert!(
            reply.message().contains("check the number of the user, and that the user belongs"),
            "{}",
            reply.message()
        );
    }
}

#[tokio::test]
async fn a_token_that_is_not_the_users_is_not_handed_out() {
    let world = usual().await;
    let wider = Effect::WiderGrant { permissions: permissions(""), repositories: WiderRepositories::All };
    world.github.fault(Fault::new(wider).on("POST", MINT_1).times(1));
    let reply = world.get("/token?user=2").await;
    assert_eq!(outcome(&reply), refused(502, "bad_upstream_response"));
    assert!(reply.message().contains("not on behalf of the user that was asked for"), "{}", reply.message());
    let expires_at = (world.clock.wall() + jiff::SignedDuration::from_hours(1)).to_string();
    let other = json!({"token": "v1.x", "expires_at": expires_at, "on_behalf_of": {"id": HUBOT}});
    world.github.fault(Fault::new(answered(201, &other)).on("POST", MINT_1).times(2));
    world.advance(Duration::from_secs(1));
    for target in ["/token?user=2", "/token"] {
        assert_eq!(outcome(&world.get(target).await), refused(502, "bad_upstream_response"), "{target}");
    }
    world.advance(Duration::from_secs(2));
    assert_eq!(world.get("/token?user=2").await.status, 200);
}

#[tokio::test]
async fn installation_selected_by_owner_id_or_uniqueness() {
    let world = world(Options::default(), Fallback::None).await;
    let by_owner = world.token("/token?owner=aCmE").await;
    assert_eq!(world.token("/token?installation=1").await, by_owner);
    let several = world.get("/token").await;
    assert_eq!(outcome(&several), refused(400, "invalid_request"));
    assert!(
        several.message().contains("(acme, octocat): choose with owner=LOGIN or installation=ID, or"),
        "{}",
        several.message()
    );
    world.github.delete_installation(1);
    world.advance(minutes(11));
    assert_eq!(world.get("/token").await.json()["account"], "octocat");
    let options = Options { world: GithubWorld::with_installations(0), ..Options::default() };
    let nowhere = self::world(options, Fallback::None).await;
    assert_eq!(outcome(&nowhere.get("/token").await), refused(404, "unknown_installation"));
}

#[tokio::test]
async fn installation_list_of_250_is_read_once() {
    let world = of_250().await;
    for id in [1, 100, 101, 250] {
        let token = world.get(&format!("/token?owner=Org-{id:04}")).await.json();
        assert_eq!(
            (&token["installation_id"], &token["account"]),
            (&json!(id), &json!(format!("org-{id:04}")))
        );
        assert_eq!(world.get(&format!("/token?installation={id}")).await.json()["token"], token["token"]);
    }
    assert_eq!((lists(&world), world.mints()), (1 + 3, 4));
    let pages: Vec<_> = world.github.journal().into_iter().filter(|entry| entry.method == "GET").collect();
    let pages: Vec<_> =
        pages[1..].iter().map(|entry| entry.path.rsplit('=').next().unwrap().to_owned()).collect();
    assert_eq!(pages, ["100", "2", "3"]);
}

/// What comes of `targets`, asked together while the first page of the list is held back.
async fn together(world: &World, targets: Vec<String>) -> Vec<u16> {
    let hold = world.github.hold("GET", LIST);
    let asking = |target: String| {
        let address = world.address;
        tokio::spawn(async move { get(address, &target).await.status })
    };
    let requests: Vec<_> = targets.into_iter().map(asking).collect();
    hold.reached(1).await;
    hold.release();
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(request.await.unwrap());
    }
    statuses
}

#[tokio::test]
async fn fifty_first_requests_together_read_the_list_once() {
    let world = of_250().await;
    let by_owner = |id| format!("/token?owner=org-{id:04}");
    let statuses = together(
        &world,
        (1..=25).map(by_owner).chain((26..=50).map(|id| format!("/token?installation={id}"))).collect(),
    )
    .await;
    assert_eq!(statuses, [200; 50]);
    assert_eq!((lists(&world), world.mints()), (1 + 3, 50));
    // And once more when it has grown old.
    world.advance(minutes(10));
    assert_eq!(together(&world, (51..=100).map(by_owner).collect()).await, [200; 50]);
    assert_eq!((lists(&world), world.mints()), (1 + 3 + 3, 100));
}

#[tokio::test]
async fn failed_list_read_is_shared_by_waiters() {
    let world = of_250().await;
    world.github.fault(Fault::new(Effect::Html { status: 503 }).on("GET", LIST).times(3));
    let hold = world.github.hold("GET", LIST);
    let asking = [1, 2, 3].map(|id| format!("/token?owner=org-{id:04}"));
    let asking = asking.map(|target| tokio::spawn(get_owned(world.address, target)));
    hold.reached(1).await;
    hold.release();
    for asked in asking {
        assert_eq!(outcome(&asked.await.unwrap()), refused(503, "github_unavailable"));
    }
    assert_eq!(outcome(&world.get("/token?owner=org-0004").await), refused(503, "github_unavailable"));
    assert_eq!(lists(&world), 1 + 3);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.get("/token?owner=org-0001").await.status, 200);
    assert_eq!(lists(&world), 1 + 3 + 3);
}

#[tokio::test]
async fn list_that_breaks_off_half_way_is_not_kept() {
    let world = of_250().await;
    let hold = world.github.hold("GET", LIST);
    let first = tokio::spawn(get(world.address, "/token?owner=org-0001"));
    hold.reached(1).await;
    // The first page is on its way; the second will be a half one.
    world.github.fault(Fault::new(Effect::TruncatedBody).on("GET", LIST).times(1));
    hold.release();
    assert_eq!(outcome(&first.await.unwrap()), refused(502, "bad_upstream_response"));
    assert_eq!(lists(&world), 1 + 2);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.get("/token?owner=org-0001").await.status, 200);
    assert_eq!(lists(&world), 1 + 2 + 3);
}

#[tokio::test]
async fn new_installation_is_found_within_30_s() {
    let world = usual().await;
    world.token("/token?owner=acme").await;
    assert_eq!(lists(&world), 2);
    for (after, reads) in [(29, 2), (1, 3), (0, 3)] {
        world.advance(Duration::from_secs(after));
        for target in ["/token?owner=mona", "/token?installation=77"] {
            assert_eq!(outcome(&world.get(target).await), refused(404, "unknown_installation"), "{target}");
        }
        assert_eq!(lists(&world), reads);
    }
    assert_eq!(world.mints(), 1, "no mint for what is not in the list");
    let new =
        Installation { permissions: permissions("contents:read"), ..Installation::new(77, "demo", "mona") };
    world.github.add_installation(new).unwrap();
    world.advance(Duration::from_secs(30));
    assert_eq!(world.get("/token?owner=Mona").await.json()["installation_id"], 77);
    assert_eq!(world.get("/token?owner=octocat").await.status, 200);
    assert_eq!(lists(&world), 4, "found by reading the list once more, which then served octocat");
}

#[tokio::test]
async fn the_list_is_used_for_ten_minutes() {
    let world = usual().await;
    world.token("/token?owner=acme").await;
    world.advance(Duration::from_secs(569));
    world.token("/token?owner=octocat").await;
    assert_eq!(lists(&world), 2);
    // The machine's wall clock has no say in it.
    world.clock.set_wall_back(3_600_000);
    world.token("/token?installation=1&user=2").await;
    assert_eq!(lists(&world), 2);
    world.advance(Duration::from_secs(31));
    world.token("/token?installation=1&user=4").await;
    assert_eq!(lists(&world), 3);
}

#[tokio::test]
async fn unsupported_by_preview_is_refused_without_a_call() {
    let world = usual().await;
    world.token("/token?owner=acme").await;
    let before = world.github.journal().len();
    for (query, says) in [
        ("repo=acme/widgets", "as with owner=LOGIN"),
        ("repo=acme/widgets&user=2", "as with owner=LOGIN"),
        ("enterprise=acme-enterprise", "has no look-up by enterprise"),
        ("owner=acme&repositories=widgets", "leave repositories, repository_ids and permissions out"),
        ("owner=acme&repository_ids=1", "narrows no tokens"),
        ("owner=acme&permissions=contents:read", "narrows no tokens"),
        ("permissions=contents:read", "narrows no tokens"),
        ("installation=1&permissions=contents:write", "narrows no tokens"),
        ("owner=nobody&permissions=contents:write", "narrows no tokens"),
    ] {
        let reply = world.get(&format!("/token?{query}")).await;
        assert_eq!(outcome(&reply), refused(422, "unsupported_upstream"), "{query}");
        assert!(reply.message().contains(says), "{query}: {}", reply.message());
        assert_eq!(reply.json()["retryable"], false);
    }
    assert_eq!(world.github.journal().len(), before);
}

#[tokio::test]
async fn apps_dialect_refuses_user_tokens_without_a_call() {
    let world = World::start().await;
    while world.get("/readyz").await.status != 200 {
        tokio::task::yield_now().await;
    }
    let before = world.github.journal().len();
    for target in ["/token?user=2", "/token?owner=nobody&user=2", "/token?repo=acme/widgets&user=2"] {
        assert_eq!(outcome(&world.get(target).await), refused(422, "user_tokens_unsupported"), "{target}");
    }
    assert_eq!(world.github.journal().len(), before);
}

#[tokio::test]
async fn tokens_are_minted_at_the_listed_url_only() {
    let world = usual().await;
    let list = |url: &str| json!([{"id": "1", "account": {"login": "acme"}, "access_tokens_url": url}]);
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    let foreign = format!("http://{}/installations/1/access_tokens", stranger.local_addr().unwrap());
    let listed = |url: &str| Fault::new(answered(200, &list(url))).on("GET", LIST).times(1);
    world.github.fault(listed(&foreign));
    let reply = world.get("/token?owner=acme").await;
    assert_eq!(outcome(&reply), refused(502, "bad_upstream_response"));
    assert!(reply.message().contains("access_tokens_url of installation 1"), "{}", reply.message());
    assert_eq!(stranger.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody called");
    assert_eq!(world.mints(), 0);
    // A place that nobody could have guessed is followed.
    world.advance(minutes(10));
    world.github.fault(listed(&format!("{}/elsewhere/1", world.github.api_url())));
    assert_eq!(world.get("/token?owner=acme").await.status, 404);
    assert_eq!(world.github.count("POST", "/elsewhere/1"), 1);
}

#[tokio::test]
async fn a_list_that_leads_to_another_host_is_not_followed() {
    let world = usual().await;
    let headers = [("Link".to_owned(), "<http://127.0.0.1:1/x?page=2>; rel=\"next\"".to_owned())].into();
    let page = Effect::Status { status: 200, body: "[]".into(), headers };
    world.github.fault(Fault::new(page).on("GET", LIST));
    assert_eq!(outcome(&world.get("/token?owner=acme").await), refused(502, "bad_upstream_response"));
}

#[tokio::test]
async fn list_confirms_a_deleted_installation_first() {
    let world = usual().await;
    world.token("/token").await;
    world.token("/token?user=2").await;
    world.token("/token?owner=octocat").await;
    world.github.delete_installation(1);
    world.advance(minutes(56));
    let before = lists(&world);
    assert_eq!(outcome(&world.get("/token").await), refused(404, "unknown_installation"));
    assert_eq!(lists(&world), before + 2, "read as old, and once more before tokens are thrown away");
    let left = world.get("/status").await.json()["tokens"].as_array().unwrap().clone();
    assert_eq!(left.iter().map(|token| token["installation_id"].as_u64()).collect::<Vec<_>>(), [Some(2)]);
}

#[tokio::test]
async fn a_404_that_the_list_does_not_confirm_drops_nothing() {
    let world = usual().await;
    let token = world.token("/token").await;
    world.advance(minutes(56));
    for fault in [
        // The mint's alone.
        Fault::new(not_found()).on("POST", MINT_1).times(1),
        // That of a server which speaks no preview, or no longer: it has no list.
        Fault::new(not_found()).times(2),
    ] {
        world.github.fault(fault);
        let reply = world.get("/token").await;
        assert_eq!(reply.header("ghtokend-token-state"), Some("stale"));
        assert_eq!(reply.json()["token"], token.as_str());
        world.github.clear_faults();
        // Only then it is asked again.
        world.advance(Duration::from_secs(2));
    }
    assert_ne!(world.token("/token").await, token);
}

#[tokio::test]
async fn mint_404_triggers_one_fresh_lookup() {
    let world = usual().await;
    world.token("/token?owner=acme").await;
    world.github.delete_installation(1);
    let new =
        Installation { permissions: permissions("contents:read"), ..Installation::new(77, "demo", "acme") };
    world.github.add_installation(new).unwrap();
    // For another user, so that the token in hand does not serve.
    let before = lists(&world);
    assert_eq!(world.get("/token?owner=acme&user=2").await.json()["installation_id"], 77);
    assert!(lists(&world) <= before + 2, "{}", lists(&world) - before);
}

#[tokio::test]
async fn a_suspension_drops_the_tokens_of_that_installation_alone() {
    let world = usual().await;
    world.token("/token").await;
    world.token("/token?user=2").await;
    world.token("/token?owner=octocat").await;
    world.github.suspend(1);
    world.advance(minutes(56));
    assert_eq!(outcome(&world.get("/token").await), refused(403, "installation_suspended"));
    let left = world.get("/status").await.json()["tokens"].as_array().unwrap().clone();
    assert_eq!(left.iter().map(|token| token["installation_id"].as_u64()).collect::<Vec<_>>(), [Some(2)]);
}

#[tokio::test]
async fn server_without_the_preview_is_not_ready() {
    let options = Options { preview: Preview { retired: true, ..Preview::default() }, ..Options::default() };
    let environment = vec![(DIALECT.0, DIALECT.1.to_owned())];
    let world = World::with(Setup { options, environment, ..Setup::default() }).await;
    let reply = world.get("/token?owner=acme").await;
    assert_eq!(outcome(&reply), refused(502, "bad_upstream_response"));
    assert!(
        reply.message().contains("does not speak the preview: check github.api_url"),
        "{}",
        reply.message()
    );
    let ready = world.get("/readyz").await;
    assert_eq!(ready.status, 503);
    world.github.restore_preview();
    world.advance(Duration::from_secs(1));
    assert_eq!(world.get("/token?owner=acme").await.status, 200);
    assert_eq!(world.get("/readyz").await.status, 200, "a mint has shown it");
}

#[tokio::test]
async fn git_gets_the_plain_token_of_the_repositorys_owner() {
    let world = world(Options::default(), Fallback::None).await;
    let ask = async |target: &str, path: &str| {
        let body = format!("protocol=https\nhost=git.example\n{path}\n");
        let request = format!(
            "POST /git-credential/{target} HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: git\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let reply = send(world.address, &request).await.unwrap();
        (reply.status, reply.text())
    };
    let (status, credential) = ask("get", "path=Acme/widgets.git\n").await;
    let token = world.token("/token?owner=acme").await;
    assert!(status == 200 && credential.contains(&format!("password={token}\n")), "{credential}");
    assert_eq!(world.mints(), 1, "one and the same");
    let (_, credential) = ask("get?user=2", "path=acme/widgets.git\n").await;
    let token = world.token("/token?owner=acme&user=2").await;
    assert!(credential.contains(&format!("password={token}\n")), "{credential}");
    assert_eq!(ask("get", "path=nobody/nothing\n").await, (200, String::new()));
    // Whoever asks for less is told, and does not get more.
    for narrowing in ["get?permissions=contents:read", "get?repo=acme/widgets", "get?repositories=widgets"] {
        let (status, said) = ask(narrowing, "path=acme/widgets.git\n").await;
        assert!(status == 422 && said.contains("unsupported_upstream"), "{narrowing}: {said}");
    }
    let (status, said) = ask("get", "").await;
    assert!(status == 400 && said.contains("several installations"), "{said}");
}

async fn check(github: &FakeGithub, more: &[(&'static str, &str)]) -> (i32, String) {
    let mut variables = variables_for(github);
    variables.push((DIALECT.0, DIALECT.1.to_owned()));
    variables.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let (code, report, stderr) = run(&["check"], &borrowed(&variables)).await;
    assert_eq!(stderr, "");
    (code, report)
}

#[tokio::test]
async fn check_works_with_the_preview() {
    let options =
        Options { world: GithubWorld::with_installations(250), seed: Some(1), ..Options::default() };
    let github = FakeGithub::start(options).await.unwrap();
    let (code, report) = check(&github, &[("GITHUB_APP_INSTALLATION_ID", "250")]).await;
    assert_eq!(code, 0, "{report}");
    for says in [
        "dialect = \"integrations\"",
        "app default: GitHub accepts it\n",
        "app default has 250",
        "app default: 250 on org-0250\n",
        "requests that name no installation get 250",
        "Ready: the daemon would vend tokens.",
    ] {
        assert!(report.contains(says), "{says:?} is not in\n{report}");
    }
    let asked: BTreeSet<_> = github.counters().by_route.into_iter().collect();
    assert_eq!(asked, [("GET /integration/installations".to_owned(), 1 + 3)].into());
    let (code, report) = check(&github, &[("GITHUB_APP_INSTALLATION_ID", "251")]).await;
    assert!(code == 1 && report.contains("the app has no such installation"), "{report}");
    github.retire_preview();
    let (code, report) = check(&github, &[]).await;
    assert!(code == 1 && report.contains("does not speak the preview"), "{report}");
}

#[tokio::test]
async fn a_lost_account_has_tokens_by_its_installations_id() {
    let github = GithubWorld {
        apps: GithubWorld::demo().apps,
        installations: vec![Installation { account: None, ..Installation::new(9, "demo", "acme") }],
        accounts: vec![Account::Organization { login: "acme".into(), id: 1 }],
        ..GithubWorld::default()
    };
    let world = world(Options { world: github, ..Options::default() }, Fallback::None).await;
    assert_eq!(world.get("/token?installation=9").await.status, 200);
    assert_eq!(world.get("/token").await.json()["installation_id"], 9);
}

/// What callers and time do.
#[derive(Debug, Clone)]
enum Step {
    /// They ask together, each for an installation and a user.
    Ask(Vec<(u64, Option<u64>)>),
    Wait(u64),
    /// GitHub forgets the user of the next mint, or takes another.
    Confuse(Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    let wanted = (1..=2_u64, proptest::option::of(prop_oneof![Just(OCTOCAT), Just(HUBOT)]));
    prop_oneof![
        4 => proptest::collection::vec(wanted, 1..6).prop_map(Step::Ask),
        2 => (1..40_u64).prop_map(Step::Wait),
        1 => proptest::option::of(prop_oneof![Just(OCTOCAT), Just(HUBOT)]).prop_map(Step::Confuse),
    ]
}

/// No token is ever handed out for another installation, another user, or none, than it was minted for.
async fn every_token_stays_with_its_user(steps: Vec<Step>) {
    let world = usual().await;
    let mut owners = BTreeMap::new();
    let mut confused = 0;
    for step in steps {
        match step {
            Step::Wait(time) => world.advance(minutes(time)),
            Step::Confuse(user) => {
                confused += 1;
                let expires_at = (world.clock.wall() + jiff::SignedDuration::from_hours(1)).to_string();
                let body = json!({
                    "token": format!("v1.confused-{confused}"),
                    "expires_at": expires_at,
                    "on_behalf_of": user.map(|id| json!({"id": id}))
                });
                world.github.fault(Fault::new(answered(201, &body)).on("POST", "/installations").times(1));
            }
            Step::Ask(wanted) => {
                let ask = |(installation, user): (u64, Option<u64>)| {
                    let user = user.map(|user| format!("&user={user}")).unwrap_or_default();
                    get_owned(world.address, format!("/token?installation={installation}{user}"))
                };
                let asked: Vec<_> =
                    wanted.iter().map(|wanted| (*wanted, tokio::spawn(ask(*wanted)))).collect();
                for (wanted, reply) in asked {
                    let reply = reply.await.unwrap();
                    let body = reply.json();
                    if reply.status == 200 {
                        assert_eq!(body["installation_id"], wanted.0);
                        assert_eq!(body["on_behalf_of"]["id"].as_u64(), wanted.1, "{body}");
                        let token = body["token"].as_str().unwrap().to_owned();
                        assert_eq!(*owners.entry(token).or_insert(wanted), wanted);
                    } else {
                        assert!([422, 502].contains(&reply.status), "{body}");
                    }
                }
            }
        }
    }
}

async fn get_owned(address: SocketAddr, target: String) -> Reply {
    get(address, &target).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn tokens_of_one_user_are_never_anothers(steps in proptest::collection::vec(step(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(every_token_stays_with_its_user(steps));
    }
}

#[tokio::test]
async fn newer_list_outweighs_cached_look_ups() {
    let world = usual().await;
    world.token("/token?owner=acme").await;
    assert!(world.github.rename_account("acme", "renamed"));
    // Not in the cached list, which is therefore read again, and now knows of the new name.
    world.advance(Duration::from_secs(30));
    assert_eq!(world.get("/token?owner=nobody").await.status, 404);
    let mints = world.mints();
    let reply = world.get(&format!("/token?owner=acme&user={OCTOCAT}")).await;
    assert_eq!((reply.status, world.mints()), (404, mints), "{}", reply.text());
    assert_eq!(world.get("/token?owner=renamed").await.status, 200);
}
