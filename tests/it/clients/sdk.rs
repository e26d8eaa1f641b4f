//! Real SDKs: their app calls go to the daemon, their API calls to GitHub. What they run is in tests/sdk.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ghtokend::fake_github::{
    Account, App, FakeGithub, Installation, Mode, Options, Repository, World as GithubWorld,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::docs::pages::blocks;
use crate::support::world::{Setup, World, until};

/// Where the scripts are, and what they need.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

/// Node, with Octokit as tests/sdk/package-lock.json has it.
fn node() -> Command {
    interpreter("node".as_ref())
}

/// A Python with what tests/sdk/requirements.txt names.
fn python() -> Command {
    interpreter(scripts().join(".venv/bin/python").as_os_str())
}

/// An interpreter in the directory of the scripts.
fn interpreter(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    command.current_dir(scripts()).env_clear().env("PATH", inherited("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

#[expect(clippy::disallowed_methods, reason = "where programs are")]
fn inherited(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// What a script prints.
async fn output(command: &mut Command) -> String {
    let output = command.output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

async fn json_of(command: &mut Command) -> Value {
    let text = output(command).await;
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

fn daemon(world: &World) -> String {
    format!("http://{}", world.address)
}

async fn world_with(options: Options, environment: Vec<(&'static str, String)>) -> World {
    let world = World::with(Setup { options, environment, ..Setup::default() }).await;
    // So that the daemon's first question of its own is over.
    until(async || world.get("/readyz").await.status == 200).await;
    world
}

/// GitHub with 250 installations: three pages of them.
async fn crowded(mode: Mode) -> World {
    let options = Options { world: GithubWorld::with_installations(250), mode, ..Options::default() };
    world_with(options, Vec::new()).await
}

#[cfg_attr(not(has_octokit), ignore = "node, or npm ci in tests/sdk, is missing")]
#[tokio::test]
async fn octokit_mints_a_working_token_at_the_daemon() {
    let mut node = node();
    let world = World::start().await;
    let said = json_of(node.args(["mint.mjs".to_owned(), daemon(&world), world.github.api_url()])).await;
    let (whole, narrowed, by_id) = (&said["whole"], &said["narrowed"], &said["byId"]);
    assert_eq!(whole["sees"], json!(["acme/widgets", "acme/gadgets", "acme/secrets"]));
    assert_eq!(whole["repositorySelection"], "all");
    assert_eq!(whole["token"], world.token("/token?installation=1").await, "out of the same cache");
    assert_eq!(whole["token"], said["again"]["token"], "minted a moment ago, it is not minted again");
    assert_eq!(
        (&narrowed["sees"], &narrowed["repositoryNames"], &narrowed["permissions"]),
        (&json!(["acme/widgets"]), &json!(["widgets"]), &json!({"contents": "read", "metadata": "read"}))
    );
    assert_eq!((&by_id["sees"], &by_id["repositoryIds"]), (&json!(["acme/gadgets"]), &json!([2])));
    let scopes = [("1", 1), ("1 permissions=contents:read repositories=widgets", 1), ("1 repositories=2", 1)];
    let minted: Vec<_> = world.github.counters().mints_by_scope.into_iter().collect();
    assert_eq!(minted, scopes.map(|(scope, count)| (scope.to_owned(), count)));
    assert_eq!(world.mints(), 3);
}

#[cfg_attr(not(has_octokit), ignore = "node, or npm ci in tests/sdk, is missing")]
#[tokio::test]
async fn octokit_token_outlives_its_59_minute_cache() {
    let mut node = node();
    let world = World::start().await;
    let warm = world.token("/token?installation=1").await;
    world.advance(std::time::Duration::from_secs(30 * 60));
    assert_eq!(world.token("/token?installation=1").await, warm, "half an hour old, it is in service");

    node.args(["keep.mjs".to_owned(), daemon(&world), world.github.api_url()]);
    let mut octokit = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut clock = octokit.stdin.take().unwrap();
    let mut lines = BufReader::new(octokit.stdout.take().unwrap()).lines();
    let mut told = async |seconds: u64| -> String {
        if seconds > 0 {
            world.advance(std::time::Duration::from_secs(seconds));
            clock.write_all(format!("{seconds}\n").as_bytes()).await.unwrap();
        }
        let line = lines.next_line().await.unwrap().expect("the script has failed: see above");
        let told: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(told["status"], 200, "GitHub accepts it after {seconds} s");
        told["token"].as_str().unwrap().to_owned()
    };
    let first = told(0).await;
    assert_ne!(first, warm, "Octokit would keep that one for longer than it lives");
    assert_eq!(world.mints(), 2);
    assert_eq!(told(59 * 60 - 1).await, first, "kept, without a look at its end");
    assert_eq!(world.mints(), 2);
    assert_ne!(told(1).await, first);
    assert!(world.is_accepted(&first).await, "it outlives the 59 minutes");
    assert_eq!(world.mints(), 3);
}

#[cfg_attr(not(has_octokit), ignore = "node, or npm ci in tests/sdk, is missing")]
#[tokio::test]
async fn octokit_looks_up_at_the_daemon_through_all_pages() {
    let mut node = node();
    let world = crowded(Mode::Dotcom).await;
    let before = world.github.counters().requests;
    let said = json_of(node.args(["look_up.mjs", &daemon(&world), "1001", "org-0007"])).await;
    let expected = json!({
        "slug": "demo-app",
        "installations": (1..=250).collect::<Vec<_>>(),
        "tokensUrl": format!("{}/app/installations/1/access_tokens", daemon(&world)),
        "ofRepository": 7,
        "ofOrganization": 7,
        "nobody": {"status": 404, "code": "unknown_installation"},
        "token": world.token("/token?installation=1").await,
    });
    assert_eq!(said, expected);
    // Three pages, the app, one installation, a repository, two organisations, a token.
    assert_eq!((world.github.counters().requests - before, world.mints()), (9, 1));
}

#[cfg_attr(not(has_octokit), ignore = "node, or npm ci in tests/sdk, is missing")]
#[tokio::test]
async fn the_app_id_that_octokit_was_given_chooses_the_app() {
    let world = GithubWorld {
        apps: vec![App::new("release", 1001), App::new("triage", 2002)],
        accounts: vec![Account::Organization { login: "acme".into(), id: 1 }],
        repositories: vec![Repository { id: 1, owner: "acme".into(), name: "widgets".into(), private: true }],
        installations: vec![Installation::new(7, "release", "acme"), Installation::new(8, "triage", "acme")],
        ..GithubWorld::default()
    };
    let options = Options { world, seed: Some(1), ..Options::default() };
    // The same seed makes the same keys in the world below.
    let github = FakeGithub::start(options.clone()).await.unwrap();
    let key = |app: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, github.app(app).unwrap().private_key_pem).unwrap();
        file
    };
    let (release, triage) = (key("release"), key("triage"));
    let path = |file: &tempfile::NamedTempFile| file.path().display().to_string();
    let environment = vec![
        ("GITHUB_APP_INSTALLATION_ID", String::new()),
        ("GHTOKEND_APPS__RELEASE__ID", "1001".to_owned()),
        ("GHTOKEND_APPS__RELEASE__PRIVATE_KEY_FILE", path(&release)),
        ("GHTOKEND_APPS__TRIAGE__ID", "2002".to_owned()),
        ("GHTOKEND_APPS__TRIAGE__PRIVATE_KEY_FILE", path(&triage)),
    ];
    let world = world_with(options, environment).await;
    for (id, name, installation) in [("1001", "release", 7), ("2002", "triage", 8)] {
        let mut node = node();
        let said = json_of(node.args(["look_up.mjs", &daemon(&world), id, "acme"])).await;
        assert_eq!((&said["slug"], &said["installations"]), (&json!(name), &json!([installation])));
        assert_eq!(
            (&said["ofRepository"], &said["ofOrganization"]),
            (&json!(installation), &json!(installation))
        );
        let own = world.token(&format!("/token?app={name}&installation={installation}")).await;
        assert_eq!(said["token"], own);
    }
    assert_eq!(world.github.counters().mints_by_installation, BTreeMap::from([(7, 1), (8, 1)]));
}

#[cfg_attr(not(has_octokit), ignore = "node, or npm ci in tests/sdk, is missing")]
#[tokio::test]
async fn octokit_gives_a_token_back() {
    let mut node = node();
    let world = World::start().await;
    let token = world.token("/token?installation=1").await;
    let said = json_of(node.args(["revoke.mjs", &daemon(&world), &token])).await;
    assert_eq!(said, json!({"status": 204}));
    assert!(!world.is_accepted(&token).await);
    assert_ne!(world.token("/token?installation=1").await, token);
}

#[cfg_attr(not(has_octokit), ignore = "node, or npm ci in tests/sdk, is missing")]
#[tokio::test]
async fn nodes_own_fetch_passes_the_guards_with_a_client_header_only() {
    let mut node = node();
    let world = World::start().await;
    let said = json_of(node.args(["fetch.mjs", &daemon(&world)])).await;
    let (named, nameless) = (&said["named"], &said["nameless"]);
    assert_eq!((&named["status"], &named["body"]["installation_id"]), (&json!(200), &json!(1)));
    assert_eq!((&nameless["status"], &nameless["body"]["code"]), (&json!(403), &json!("caller_forbidden")));
    let why = nameless["body"]["message"].as_str().unwrap();
    assert!(why.contains("Ghtokend-Client"), "it is that header that is missing: {why}");
}

#[cfg_attr(not(has_pygithub), ignore = "the Python packages of tests/sdk are missing")]
#[tokio::test]
async fn pygithub_works_against_the_daemon() {
    let mut python = python();
    let world = World::start().await;
    let said = json_of(python.args(["pygithub.py".to_owned(), daemon(&world), world.github.api_url()])).await;
    let expected = json!({
        "slug": "demo-app",
        "installations": [1, 2, 3],
        "of_repository": 1,
        "of_organization": 1,
        "whole": {
            "token": world.token("/token?installation=1").await,
            "sees": ["acme/widgets", "acme/gadgets", "acme/secrets"],
        },
        "narrowed": {
            "token": world.token("/token?installation=1&permissions=contents:read").await,
            "permissions": {"contents": "read", "metadata": "read"},
        },
    });
    assert_eq!(said, expected);
    assert_eq!(world.mints(), 2);
}

/// A block of README.md or the manual with the addresses and names of `world`.
fn block(info: &str, world: &World) -> String {
    let found = blocks(info);
    assert_eq!(found.len(), 1, "{info}");
    with_addresses(&found[0], world)
}

/// `block` with the addresses and names of `world`.
fn with_addresses(block: &str, world: &World) -> String {
    [
        ("http://127.0.0.1:7171", daemon(world)),
        ("https://api.github.com", world.github.api_url()),
        ("123456", "1001".to_owned()),
        ("my-org", "acme".to_owned()),
    ]
    .iter()
    .fold(block.to_owned(), |block, (from, to)| block.replace(from, to))
}

#[cfg_attr(not(has_octokit), ignore = "node, or npm ci in tests/sdk, is missing")]
#[tokio::test]
async fn octokit_with_token_from_readme_runs() {
    for script in blocks("js token") {
        let mut node = node();
        let world = World::start().await;
        let script = format!(
            "{}\nconsole.log((await octokit.rest.apps.listReposAccessibleToInstallation()).data.total_count);",
            with_addresses(script.trim_end().trim_end_matches("console.log(data.total_count);"), &world)
        );
        assert_eq!(output(node.args(["--input-type=module", "--eval", &script])).await, "3\n");
    }
}

#[cfg_attr(not(has_octokit), ignore = "node, or npm ci in tests/sdk, is missing")]
#[tokio::test]
async fn octokit_snippet_in_docs_runs() {
    let mut node = node();
    let world = World::start().await;
    let script = block("js octokit", &world);
    assert_eq!(output(node.args(["--input-type=module", "--eval", &script])).await, "3\n");
    assert_eq!(world.mints(), 1);
}

#[cfg_attr(not(has_pygithub), ignore = "the Python packages of tests/sdk are missing")]
#[tokio::test]
async fn pygithub_snippet_in_docs_runs() {
    let mut python = python();
    let world = World::start().await;
    assert_eq!(output(python.args(["-c", &block("python", &world)])).await, "acme/widgets\n");
    assert_eq!(world.mints(), 1);
}

#[cfg_attr(not(has_octokit), ignore = "node, or npm ci in tests/sdk, is missing")]
#[tokio::test]
async fn fetch_snippet_in_docs_splits_app_calls_from_api_calls() {
    for mode in [Mode::Dotcom, Mode::Ghes] {
        let mut node = node();
        let world = crowded(mode).await;
        let script = block("js fetch", &world).replace("export ", "");
        let script = format!("{script}\n{}", include_str!("../../sdk/with_fetch.mjs"));
        let arguments = ["--input-type=module", "--eval", &script, &world.github.api_url()];
        let said = json_of(node.args(arguments)).await;
        let expected = json!({
            "installations": (1..=250).collect::<Vec<_>>(),
            "ofRepository": 7,
            "sees": ["org-0007/widgets"],
            "named": "org-0007/widgets",
            "token": said["token"],
            "revoked": 204,
        });
        assert_eq!(said, expected);
        assert_eq!(world.mints(), 1);
        let token = said["token"].as_str().unwrap();
        assert!(!world.is_accepted(token).await);
        assert_ne!(world.token("/token?installation=7").await, token, "the daemon has dropped it too");
    }
}
