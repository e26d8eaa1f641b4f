//! git asks us for credentials: over HTTP as from a container with curl alone, and by our own command.

use std::path::{Path, PathBuf};
use std::process::Output;

use ghtokend::fake_github::{Effect, FakeGithub, Fault, Options};
use tokio::process::Command;

use crate::support::git_server::GitServer;
use crate::support::program::{Daemon, borrowed, program, run, variables_for};
use crate::support::world::{Setup, World, send};

/// What the helper answers to git's `lines` for a daemon whose git host is `https://git.example:8443`.
async fn ask(world: &World, operation: &str, lines: &str) -> (u16, String) {
    let request = format!(
        "POST /git-credential/{operation} HTTP/1.1\r\nHost: localhost\r\nGhtokend-Client: git\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{lines}",
        lines.len()
    );
    let reply = send(world.address, &request).await.unwrap();
    (reply.status, reply.text())
}

async fn world() -> World {
    let environment = vec![("GHTOKEND_GITHUB__WEB_URL", "https://git.example:8443".to_owned())];
    World::with(Setup { environment, ..Setup::default() }).await
}

#[tokio::test]
async fn credential_is_narrowed_to_the_path() {
    let world = world().await;
    let (status, credential) = ask(
        &world,
        "get",
        "protocol=https\nhost=git.example:8443\npath=acme/widgets.git\nwwwauth[]=Basic\n\n",
    )
    .await;
    let token = world.get("/token?repo=acme/widgets").await.json();
    let expiry = token["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    let token = token["token"].as_str().unwrap();
    assert_eq!(
        (status, credential),
        (200, format!("username=x-access-token\npassword={token}\npassword_expiry_utc={expiry}\n"))
    );
    assert_eq!(world.mints(), 1, "the same token as by GET /token");
    let (_, whole) = ask(&world, "get", "protocol=https\nhost=git.example:8443\n").await;
    assert!(whole.contains(&format!("password={}\n", world.token("/token").await)));
    let (_, read) = ask(
        &world,
        "get?permissions=contents:read",
        "protocol=https\nhost=git.example:8443\npath=acme/widgets\n",
    )
    .await;
    let narrowed = world.token("/token?repo=acme/widgets&permissions=contents:read").await;
    assert!(read.contains(&format!("password={narrowed}\n")));
}

#[tokio::test]
async fn a_path_narrows_whatever_else_chose_the_installation() {
    let world = world().await;
    let at = |path: &str| format!("protocol=https\nhost=git.example:8443\npath={path}\n");
    for query in ["owner=acme", "owner=ACME", "installation=1"] {
        let (_, credential) = ask(&world, &format!("get?{query}"), &at("acme/widgets.git")).await;
        let narrowed = world.token(&format!("/token?{query}&repositories=widgets")).await;
        assert!(credential.contains(&format!("password={narrowed}\n")), "{query}");
    }
    assert_eq!(ask(&world, "get?owner=acme", &at("octocat/hello-world")).await, (200, String::new()));
    let (_, chosen) = ask(&world, "get?owner=acme&repositories=gadgets", &at("acme/widgets.git")).await;
    assert!(chosen.contains(&world.token("/token?owner=acme&repositories=gadgets").await));
    let (_, whole) = ask(&world, "get", &at("")).await;
    assert!(whole.contains(&world.token("/token").await), "an empty path is none");
}

#[tokio::test]
async fn foreign_host_is_left_to_the_next_helper() {
    let world = world().await;
    let ours = "protocol=https\nhost=git.example:8443\n";
    for lines in [
        "",
        "\n",
        "protocol=https\nhost=git.example\n",
        "protocol=https\nhost=git.example:8443.evil\n",
        "protocol=https\nhost=git.example.evil:8443\n",
        "protocol=https\nhost=git.example:8444\n",
        "protocol=http\nhost=git.example:8443\n",
        "protocol=https\nhost=git.example%0d:8443\n",
        "protocol=https\nhost=evil\npath=git.example:8443\n",
        &format!("{ours}path=nobody/nothing.git\n"),
        &format!("{ours}path=acme\n"),
        &format!("{ours}path=acme/../widgets\n"),
        &format!("{ours}path=acme/a%2fb\n"),
    ] {
        assert_eq!(ask(&world, "get", lines).await, (200, String::new()), "{lines:?}");
    }
    for lines in [
        "protocol=https\nhost=evil.example\nhost=git.example:8443\npath=acme/widgets\n",
        "protocol=https\nhost=git.example:8443\n\n.evil.example\npath=acme/widgets\n",
        "protocol=https\r\nhost=git.example:8443\n",
        "host=git.example\0:8443\n",
        "nonsense\n",
    ] {
        let (status, body) = ask(&world, "get", lines).await;
        assert!(status == 400 && body.contains("invalid_request"), "{lines:?}: {body}");
    }
    for operation in ["store", "capability", "Whatever_2"] {
        assert_eq!(ask(&world, operation, ours).await, (200, String::new()));
    }
    assert_eq!(world.mints(), 0);
}

#[tokio::test]
async fn credential_failure_is_an_error_not_an_empty_reply() {
    let world = World::with(Setup {
        environment: vec![("GHTOKEND_GITHUB__WEB_URL", "https://git.example".to_owned())],
        without_default_installation: true,
        ..Setup::default()
    })
    .await;
    let (status, body) = ask(&world, "get", "protocol=https\nhost=git.example\n").await;
    assert!(status == 400 && body.contains("several installations"), "{body}");
    world.github.fault(Fault::new(Effect::Html { status: 503 }));
    let (status, body) = ask(&world, "get", "protocol=https\nhost=git.example\npath=acme/widgets\n").await;
    assert!(status == 503 && body.contains("github_unavailable"), "{body}");
}

#[tokio::test]
async fn erase_rejects_the_token_of_our_host_alone() {
    let world = world().await;
    let token = world.token("/token").await;
    world.advance(std::time::Duration::from_secs(6));
    let credential =
        |host: &str| format!("protocol=https\nhost={host}\nusername=x-access-token\npassword={token}\n");
    assert_eq!(ask(&world, "erase", &credential("evil.example")).await, (200, String::new()));
    assert_eq!(world.token("/token").await, token);
    assert_eq!(ask(&world, "erase", &credential("git.example:8443")).await, (200, String::new()));
    assert_ne!(world.token("/token").await, token);
}

/// A git host with the repository acme/widgets, a daemon for it, and a place for git to be at home.
struct Forge {
    github: FakeGithub,
    git: GitServer,
    daemon: Daemon,
    home: tempfile::TempDir,
}

impl Forge {
    async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let github = FakeGithub::start(Options { seed: Some(1), ..Options::default() }).await.unwrap();
        let address = github.api_url().trim_start_matches("http://").to_owned();
        let root = home.path().join("server");
        let git = GitServer::start(root.clone(), address).await;
        let mut variables = variables_for(&github);
        variables.push(("GHTOKEND_GITHUB__WEB_URL", git.url.clone()));
        let daemon = Daemon::serve(&[], &borrowed(&variables)).await;
        let forge = Self { github, git, daemon, home };
        let bare = root.join("acme/widgets.git");
        forge.git(&["init", "--quiet", "--bare", "--initial-branch=main", bare.to_str().unwrap()]).await;
        forge.git(&["-C", bare.to_str().unwrap(), "config", "http.receivepack", "true"]).await;
        forge
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    async fn try_git(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("git");
        let path = std::path::Path::new(env!("CARGO_BIN_EXE_ghtokend")).parent().unwrap();
        command.args(arguments).env("HOME", self.home.path()).env("GIT_CONFIG_NOSYSTEM", "1");
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("GHTOKEND_URL", &self.daemon.url);
        command.env("DAEMON", &self.daemon.url).env("HELPERS", path).env_remove("XDG_CONFIG_HOME");
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "test")
                .env(format!("GIT_{role}_EMAIL"), "test@example.com");
        }
        command.output().await.unwrap()
    }

    async fn git(&self, arguments: &[&str]) -> String {
        let output = self.try_git(arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "git {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes `helper` the one that git asks about the host.
    async fn use_helper(&self, helper: &str) {
        for (key, value) in [("helper", helper), ("useHttpPath", "true")] {
            self.git(&["config", "--global", &format!("credential.{}.{key}", self.git.url), value]).await;
        }
    }

    fn tokens(&self) -> Vec<String> {
        self.git.accepted.lock().unwrap().clone()
    }
}

const CURL_HELPER: &str =
    "!f() { curl -fsS -H 'Ghtokend-Client: git' --data-binary @- $DAEMON/git-credential/$1; }; f";
const COMMAND_HELPER: &str = "!$HELPERS/ghtokend git-credential";

async fn clone_push_and_fetch(helper: &str) {
    let forge = Forge::start().await;
    forge.use_helper(helper).await;
    let url = format!("{}/acme/widgets.git", forge.git.url);
    let (one, other) = (forge.path("one"), forge.path("other"));
    let at = |path: &Path| path.display().to_string();
    forge.git(&["clone", "--quiet", &url, &at(&one)]).await;
    std::fs::write(one.join("README"), "hello").unwrap();
    forge.git(&["-C", &at(&one), "add", "README"]).await;
    forge.git(&["-C", &at(&one), "commit", "--quiet", "-m", "Say hello"]).await;
    forge.git(&["-C", &at(&one), "push", "--quiet", "origin", "HEAD:main"]).await;
    forge.git(&["clone", "--quiet", &url, &at(&other)]).await;
    assert_eq!(std::fs::read_to_string(other.join("README")).unwrap(), "hello");
    std::fs::write(one.join("README"), "hello again").unwrap();
    forge.git(&["-C", &at(&one), "commit", "--quiet", "-am", "Say it again"]).await;
    forge.git(&["-C", &at(&one), "push", "--quiet", "origin", "HEAD:main"]).await;
    forge.git(&["-C", &at(&other), "fetch", "--quiet"]).await;
    let log = forge.git(&["-C", &at(&other), "log", "--format=%s", "origin/main"]).await;
    assert_eq!(log, "Say it again\nSay hello\n");
    let tokens = forge.tokens();
    assert!(tokens.len() > 5 && tokens.iter().all(|token| *token == tokens[0]), "{} requests", tokens.len());
    assert_eq!(forge.github.counters().mint_requests, 1);

    let filled = format!("url={url}\n\n");
    let credential = fill(&forge, &filled).await;
    assert!(
        credential.contains("username=x-access-token\n") && credential.contains("password_expiry_utc="),
        "{credential}"
    );
}

async fn fill(forge: &Forge, lines: &str) -> String {
    let file = forge.path("lines");
    std::fs::write(&file, lines).unwrap();
    let output = Command::new("sh")
        .args(["-c", "git credential fill < \"$LINES_FILE\""])
        .env("LINES_FILE", &file)
        .env("HOME", forge.home.path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("DAEMON", &forge.daemon.url)
        .env("GHTOKEND_URL", &forge.daemon.url)
        .env("HELPERS", Path::new(env!("CARGO_BIN_EXE_ghtokend")).parent().unwrap())
        .output()
        .await
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[cfg_attr(not(has_git), ignore = "git is not installed")]
#[cfg_attr(not(has_curl), ignore = "curl is not installed")]
#[tokio::test]
async fn git_works_with_curl_as_credential_helper() {
    clone_push_and_fetch(CURL_HELPER).await;
}

#[cfg_attr(not(has_git), ignore = "git is not installed")]
#[cfg_attr(not(has_curl), ignore = "curl is not installed")]
#[tokio::test]
async fn git_works_with_our_credential_command() {
    clone_push_and_fetch(COMMAND_HELPER).await;
}

#[cfg_attr(not(has_git), ignore = "git is not installed")]
#[cfg_attr(not(has_curl), ignore = "curl is not installed")]
#[tokio::test]
async fn git_erase_of_a_revoked_token_heals_the_next_clone() {
    let forge = Forge::start().await;
    let environment = variables_for(&forge.github);
    let mut variables = borrowed(&environment);
    variables.push(("GHTOKEND_CACHE__SETTLE", "0s"));
    variables.push(("GHTOKEND_GITHUB__WEB_URL", &forge.git.url));
    let forge = Forge { daemon: Daemon::serve(&[], &variables).await, ..forge };
    forge.use_helper(COMMAND_HELPER).await;
    let url = format!("{}/acme/widgets.git", forge.git.url);
    forge.git(&["ls-remote", &url]).await;
    assert!(forge.github.revoke_token(&forge.tokens()[0]));
    let refused = forge.try_git(&["ls-remote", &url]).await;
    assert!(!refused.status.success());
    forge.git(&["clone", "--quiet", &url, forge.path("clone").to_str().unwrap()]).await;
    assert_eq!(forge.github.counters().mints, 2);
}

#[tokio::test]
async fn credential_command_fails_with_one_stderr_line() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}");
    let (code, stdout, stderr) = run(&["git-credential", "get", "--url", &url], &[]).await;
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (1, "", 1), "{stderr}");
    for operation in ["store", "whatever"] {
        assert_eq!(
            run(&["git-credential", operation, "--url", &url], &[]).await,
            (0, String::new(), String::new())
        );
    }
}

#[tokio::test]
async fn exec_lets_no_inherited_host_or_token_through() {
    let github = FakeGithub::start(Options { seed: Some(1), ..Options::default() }).await.unwrap();
    let mut environment = variables_for(&github);
    environment.push(("GHTOKEND_GITHUB__WEB_URL", "https://github.com".to_owned()));
    let daemon = Daemon::serve(&[], &borrowed(&environment)).await;
    let inherited =
        [("GH_HOST", "evil.example"), ("GH_ENTERPRISE_TOKEN", "old"), ("GITHUB_ENTERPRISE_TOKEN", "old")];
    let script = "echo [$GH_HOST$GH_ENTERPRISE_TOKEN$GITHUB_ENTERPRISE_TOKEN]";
    let arguments = ["exec", "--url", &daemon.url, "--owner", "acme", "--", "/bin/sh", "-c", script];
    assert_eq!(run(&arguments, &inherited).await.1, "[]\n");
}

#[tokio::test]
async fn exec_passes_token_exit_code_and_signals() {
    let github = FakeGithub::start(Options { seed: Some(1), ..Options::default() }).await.unwrap();
    let environment = variables_for(&github);
    let daemon = Daemon::serve(&[], &borrowed(&environment)).await;
    let exec = |script: &'static str| {
        let url = daemon.url.clone();
        async move { run(&["exec", "--url", &url, "--owner", "acme", "--", "/bin/sh", "-c", script], &[]).await }
    };
    let (_, token, _) = run(&["token", "--url", &daemon.url, "--owner", "acme"], &[]).await;
    let (code, stdout, _) =
        exec("echo $GH_TOKEN; echo $GITHUB_TOKEN; echo $GH_ENTERPRISE_TOKEN; exit 7").await;
    assert_eq!((code, stdout), (7, token.repeat(3)));
    let host = github.api_url().trim_start_matches("http://").to_owned();
    assert_eq!(exec("echo $GH_HOST").await.1.trim(), host);
    let (code, stdout, stderr) =
        run(&["exec", "--url", &daemon.url, "--owner", "nobody", "--", "/bin/echo", "ran"], &[]).await;
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    let (code, _, stderr) =
        run(&["exec", "--url", &daemon.url, "--owner", "acme", "--", "/no/such/command"], &[]).await;
    assert!(code == 127 && stderr.contains("/no/such/command"), "{stderr}");
    let script = "trap 'exit 9' TERM; echo up; read x";
    let mut child =
        program(&["exec", "--url", &daemon.url, "--owner", "acme", "--", "/bin/sh", "-c", script], &[]);
    let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
    crate::support::program::lines_of(&mut child).next_line().await.unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(9), "the signal reaches the command itself");
}
