//! The page of 2016, line by line: <https://web.archive.org/web/20161114184934/https://developer.github.com/v3/integrations/>.
//! PROMISES.md has a table of its lines and these tests.

#![cfg(feature = "fake-github")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

use std::sync::Arc;

use ghtokend::app;
use ghtokend::clock::SystemClock;
use ghtokend::fake_github::{Account, FakeGithub, Installation, Member, Options, World};
use ghtokend::github::{Demand, Requester};
use ghtokend::model::{AppName, ClientId, Priority, Secret, TokenKey, UserId};
use ghtokend::settings::{Environment, Settings, Sources};
use serde_json::{Value, json};

use crate::emulator::client::{Reply, bearer, claims, key, signed, start};
use crate::emulator::preview::{ACCEPT, IDENTITY, LIST, MEDIA_TYPE, MINT, as_integration, call};
use crate::support::program::variables_for;
use crate::support::world::{self, Setup};

// What the page shows, to the letter.
const PAGE_LINK: &str = r#"<https://api.github.com/resource?page=2>; rel="next", <https://api.github.com/resource?page=5>; rel="last""#;
const PAGE_INSTALLATIONS: &str = r#"[
{
"id": 1,
"account": {
"login": "github",
"id": 1,
"url": "https://api.github.com/orgs/github",
"repos_url": "https://api.github.com/orgs/github/repos",
"events_url": "https://api.github.com/orgs/github/events",
"hooks_url": "https://api.github.com/orgs/github/hooks",
"issues_url": "https://api.github.com/orgs/github/issues",
"members_url": "https://api.github.com/orgs/github/members{/member}",
"public_members_url": "https://api.github.com/orgs/github/public_members{/member}",
"avatar_url": "https://github.com/images/error/octocat_happy.gif",
"description": "A great organization"
},
"access_tokens_url": "https://api.github.com/installations/1/access_tokens",
"repositories_url": "https://api.github.com/installation/repositories"
}
]"#;
const PAGE_TOKEN: &str = r#"{
"token": "v1.1f699f1069f60xxx",
"expires_at": "2016-07-11T22:14:10Z",
"on_behalf_of": null
}"#;
/// What is sent for a token on behalf of a user, and to learn who one is.
const PAGE_INPUT: &str = "{\n\"user_id\": \"42\"\n}";
const PAGE_NONCE: &str = "{\n\"nonce\": \"abc123\"\n}";
pub const PAGE_USER: &str = r#"{
"login": "octocat",
"id": 1,
"avatar_url": "https://github.com/images/error/octocat_happy.gif",
"gravatar_id": "",
"url": "https://api.github.com/users/octocat",
"html_url": "https://github.com/octocat",
"followers_url": "https://api.github.com/users/octocat/followers",
"following_url": "https://api.github.com/users/octocat/following{/other_user}",
"gists_url": "https://api.github.com/users/octocat/gists{/gist_id}",
"starred_url": "https://api.github.com/users/octocat/starred{/owner}{/repo}",
"subscriptions_url": "https://api.github.com/users/octocat/subscriptions",
"organizations_url": "https://api.github.com/users/octocat/orgs",
"repos_url": "https://api.github.com/users/octocat/repos",
"events_url": "https://api.github.com/users/octocat/events{/privacy}",
"received_events_url": "https://api.github.com/users/octocat/received_events",
"type": "User",
"site_admin": false
}"#;
const PAGE_TOKEN_OF_USER: &str = r#"{
"token": "v1.1f699f1069f60xxx",
"expires_at": "2016-07-11T22:14:10Z",
"on_behalf_of": USER
}"#;
const PAGE_IDENTITY: &str = r#"{
"user": USER,
"repositories_url": "https://api.github.com/installation/repositories?user_id=1"
}"#;

/// The world of the page: the organisation `github`, of which the user `octocat` is a member.
fn world_of_the_page() -> World {
    World {
        apps: World::demo().apps,
        accounts: vec![
            Account::Organization { login: "github".into(), id: 1 },
            Account::User { login: "octocat".into(), id: 1 },
        ],
        installations: vec![Installation::new(1, "demo", "github")],
        members: vec![Member::new("github", "octocat")],
        ..World::default()
    }
}

/// What the page shows, as this emulator has to write it: on its host, and without line breaks.
fn on_the_page(github: &FakeGithub, text: &str) -> String {
    let text = text.replace("USER", PAGE_USER).replace(": ", ":").replace('\n', "");
    let api = text.replace("https://api.github.com", &github.api_url());
    api.replace("https://github.com", &github.api_url())
}

/// The keys and values of `reply` are those of `expected`, and in the same order.
fn check_like(reply: &Reply, expected: &str) {
    let (own, page): (Value, Value) = (reply.json(), serde_json::from_str(expected).unwrap());
    for (name, value) in page.as_object().into_iter().flatten() {
        assert_eq!(own.get(name), Some(value), "{name}");
    }
    assert_eq!(own, page);
    assert_eq!(reply.text, expected);
}

// Between a client and the fake GitHub
#[tokio::test]
async fn installations_are_listed_as_on_the_page() {
    let github = start(Options { world: world_of_the_page(), ..Options::default() }).await;
    let list = as_integration(&github, "GET", LIST, "").await;
    assert_eq!(list.status, 200);
    assert_eq!(list.header("x-github-media-type"), MEDIA_TYPE);
    check_like(&list, &on_the_page(&github, PAGE_INSTALLATIONS));
    let account = list.json()[0]["access_tokens_url"].as_str().unwrap().to_owned();
    assert!(account.ends_with(MINT));
}

#[tokio::test]
async fn first_of_five_pages_links_next_and_last() {
    let github = start(Options { world: World::with_installations(150), ..Options::default() }).await;
    let first = as_integration(&github, "GET", LIST, "").await;
    let resource = format!("{}{LIST}", github.api_url());
    assert_eq!(first.header("link"), PAGE_LINK.replace("https://api.github.com/resource", &resource));
    let last = as_integration(&github, "GET", &format!("{LIST}?page=5"), "").await;
    assert_eq!(last.json()[29]["id"], 150);
    assert_eq!(
        last.header("link"),
        format!("<{resource}?page=4>; rel=\"prev\", <{resource}?page=1>; rel=\"first\"")
    );
}

#[tokio::test]
async fn tokens_are_given_as_on_the_page() {
    let github = start(Options { world: world_of_the_page(), ..Options::default() }).await;
    for (body, page) in [("", PAGE_TOKEN), ("{}", PAGE_TOKEN), (r#"{"user_id":"1"}"#, PAGE_TOKEN_OF_USER)] {
        let minted = as_integration(&github, "POST", MINT, body).await;
        assert_eq!((minted.status, minted.header("x-github-media-type")), (201, MEDIA_TYPE));
        let token = minted.json()["token"].as_str().unwrap().to_owned();
        let digits = token.strip_prefix("v1.").unwrap();
        assert!(digits.len() == 40 && digits.bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
        let expires_at = minted.json()["expires_at"].as_str().unwrap().to_owned();
        let instant: jiff::Timestamp = expires_at.parse().unwrap();
        let date = jiff::fmt::rfc2822::parse(minted.header("date")).unwrap().timestamp();
        assert_eq!(instant.as_second() - date.as_second(), 3600);
        let page = on_the_page(&github, page).replace("v1.1f699f1069f60xxx", &token);
        check_like(&minted, &page.replace("2016-07-11T22:14:10Z", &expires_at));
    }
    // As recorded in September 2016.
    assert_eq!(as_integration(&github, "POST", MINT, "").await.header("content-length"), "111");
}

#[tokio::test]
async fn identity_request_follows_the_preview_page() {
    let github = start(Options { world: world_of_the_page(), ..Options::default() }).await;
    let nonce = github.create_nonce(1, "octocat").unwrap();
    let identity = as_integration(&github, "POST", IDENTITY, &json!({ "nonce": nonce }).to_string()).await;
    assert_eq!((identity.status, identity.header("x-github-media-type")), (200, MEDIA_TYPE));
    check_like(&identity, &on_the_page(&github, PAGE_IDENTITY));
}

#[tokio::test]
async fn without_the_media_type_of_the_page_there_is_nothing() {
    let github = start(Options { world: world_of_the_page(), ..Options::default() }).await;
    let jwt = bearer(&signed(&key(&github), &claims(1001)));
    for (method, path, body, status) in [("GET", LIST, "", 200), ("POST", MINT, "", 201)] {
        assert_eq!(call(&github, method, path, &jwt, body).await.status, status);
        let url = format!("{}{path}", github.api_url());
        let plain = [("authorization", jwt.as_str()), ("accept", "application/json")];
        assert_eq!(crate::emulator::client::send(method, &url, &plain, body).await.status, 415);
    }
}

// Between the daemon's own client and the fake GitHub

#[tokio::test]
async fn the_client_reads_the_page_as_it_is_written() {
    let github = start(Options { world: world_of_the_page(), ..Options::default() }).await;
    let mut variables = variables_for(&github);
    variables.push(("GHTOKEND_GITHUB__DIALECT", "integrations".to_owned()));
    let sources = Sources { environment: Environment::from_iter(variables), ..Sources::default() };
    let settings = Settings::load(&sources).unwrap();
    let keys = app::load_keys(&settings).unwrap();
    let upstream = app::upstream(&settings, &keys, Arc::new(SystemClock)).unwrap();
    let app = AppName::default();
    let demand = || Demand::of(Requester::caller(ClientId::new(1), Priority::New));

    let list = upstream.github().installations(&app, usize::MAX, demand()).await.unwrap();
    let objects: Vec<_> = list.iter().map(|installation| installation.json.as_str()).collect();
    assert_eq!(format!("[{}]", objects.join(",")), on_the_page(&github, PAGE_INSTALLATIONS));
    assert_eq!((list[0].id.get(), list[0].account.as_deref()), (1, Some("github")));

    for (user, page) in [(None, PAGE_TOKEN), (Some("1"), PAGE_TOKEN_OF_USER)] {
        let user = user.map(|user| user.parse().unwrap());
        let key = TokenKey { app: app.clone(), installation: list[0].id, user, scope: Arc::default() };
        let token = upstream.github().mint(&key, demand()).await.unwrap().token;
        let (secret, body) = (token.secret.expose(), token.json.expose());
        let page = on_the_page(&github, page).replace("v1.1f699f1069f60xxx", secret);
        assert_eq!(body, page.replace("2016-07-11T22:14:10Z", &token.expires_at).as_bytes());
        let on_behalf_of = token.on_behalf_of.map(|user| user.json);
        assert_eq!(on_behalf_of, user.map(|_: UserId| on_the_page(&github, PAGE_USER)));
    }

    let nonce = github.create_nonce(1, "octocat").unwrap();
    let identity = upstream.github().identify(&app, &Secret::from(nonce), ClientId::new(1)).await.unwrap();
    let body =
        format!("{{\"user\":{},\"repositories_url\":\"{}\"}}", identity.user.json, identity.repositories_url);
    assert_eq!(body, on_the_page(&github, PAGE_IDENTITY));
    let asked: Vec<_> =
        github.journal().into_iter().map(|entry| format!("{} {}", entry.method, entry.path)).collect();
    let expected = [
        &format!("GET {LIST}?per_page=100"),
        &format!("POST {MINT}"),
        &format!("POST {MINT}"),
        &format!("POST {IDENTITY}"),
    ];
    assert_eq!(asked.iter().collect::<Vec<_>>(), expected);
}

// Between curl and the daemon, and between the daemon and the fake GitHub

/// A daemon before a GitHub that speaks the preview.
async fn daemon(github: World) -> world::World {
    let environment = vec![("GHTOKEND_GITHUB__DIALECT", "integrations".to_owned())];
    let options = Options { world: github, ..Options::default() };
    let world = world::World::with(Setup { options, environment, ..Setup::default() }).await;
    world::until(async || world.get("/readyz").await.status == 200).await;
    world
}

/// What curl shows of an answer of the daemon to a request as on the page: the first line, the `Link`, the body.
async fn curl(world: &world::World, arguments: &[&str], path: &str) -> (String, Option<String>, String) {
    let accept = format!("Accept: {ACCEPT}");
    let mut command = tokio::process::Command::new("curl");
    command.args(["-sS", "-i", "-H", &accept, "-H", "Authorization: Bearer any"]).args(arguments);
    let output = command.arg(format!("http://{}{path}", world.address)).env_clear().output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let link = head.lines().find_map(|line| line.strip_prefix("link: ").map(str::to_owned));
    (head.lines().next().unwrap().to_owned(), link, body.to_owned())
}

/// The text of the page, as a daemon has to write it whose GitHub is `world.github`.
fn from_the_daemon(world: &world::World, text: &str) -> String {
    let here = format!("http://{}/installations", world.address);
    on_the_page(&world.github, text).replace(&format!("{}/installations", world.github.api_url()), &here)
}

#[cfg_attr(not(has_curl), ignore = "curl is not installed")]
#[tokio::test]
async fn curl_lists_installations_as_on_the_page() {
    let world = daemon(world_of_the_page()).await;
    let (status, link, body) = curl(&world, &[], LIST).await;
    assert_eq!((status.as_str(), link), ("HTTP/1.1 200 OK", None));
    assert_eq!(body, from_the_daemon(&world, PAGE_INSTALLATIONS));
    let asked: Vec<_> = world.github.journal();
    let media_type = asked.iter().all(|entry| entry.status == Some(200));
    assert!(
        media_type && asked.iter().all(|entry| entry.path == format!("{LIST}?per_page=100")),
        "{asked:?}"
    );
}

#[cfg_attr(not(has_curl), ignore = "curl is not installed")]
#[tokio::test]
async fn curl_pagination_follows_the_preview_page() {
    let world = daemon(World::with_installations(150)).await;
    let (_, link, _) = curl(&world, &[], LIST).await;
    let resource = format!("http://{}{LIST}", world.address);
    assert_eq!(link.unwrap(), PAGE_LINK.replace("https://api.github.com/resource", &resource));
}

#[cfg_attr(not(has_curl), ignore = "curl is not installed")]
#[tokio::test]
async fn curl_gets_tokens_as_on_the_page() {
    let mut github = world_of_the_page();
    github.accounts.push(Account::User { login: "hubot".into(), id: 42 });
    github.members.push(Member::new("github", "hubot"));
    let world = daemon(github).await;
    for (input, page, scope) in
        [(None, PAGE_TOKEN, "1"), (Some(PAGE_INPUT.replace("42", "1")), PAGE_TOKEN_OF_USER, "1 user_id=1")]
    {
        let arguments = input.as_ref().map_or(vec!["-X", "POST"], |input| vec!["-d", input.as_str()]);
        let (status, _, body) = curl(&world, &arguments, MINT).await;
        assert_eq!(status, "HTTP/1.1 201 Created");
        let minted: Value = serde_json::from_str(&body).unwrap();
        let page = on_the_page(&world.github, page);
        let page = page.replace("v1.1f699f1069f60xxx", minted["token"].as_str().unwrap());
        assert_eq!(body, page.replace("2016-07-11T22:14:10Z", minted["expires_at"].as_str().unwrap()));
        assert!(world.is_accepted(minted["token"].as_str().unwrap()).await);
        assert_eq!(world.github.counters().mints_by_scope.get(scope), Some(&1));
    }
    // The very input of the page.
    let (status, _, body) = curl(&world, &["-d", PAGE_INPUT], MINT).await;
    let on_behalf_of = &serde_json::from_str::<Value>(&body).unwrap()["on_behalf_of"];
    assert_eq!((status.as_str(), &on_behalf_of["id"]), ("HTTP/1.1 201 Created", &json!(42)));
    assert_eq!(world.mints(), 3);
}

#[cfg_attr(not(has_curl), ignore = "curl is not installed")]
#[tokio::test]
async fn curl_identity_follows_the_preview_page() {
    let world = daemon(world_of_the_page()).await;
    let nonce = world.github.create_nonce(1, "octocat").unwrap();
    let (status, _, body) = curl(&world, &["-d", &PAGE_NONCE.replace("abc123", &nonce)], IDENTITY).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(body, on_the_page(&world.github, PAGE_IDENTITY));
    // The very input of the page: nobody came by with that one.
    let (status, _, _) = curl(&world, &["-d", PAGE_NONCE], IDENTITY).await;
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    assert_eq!(world.github.count("POST", IDENTITY), 2);
}
