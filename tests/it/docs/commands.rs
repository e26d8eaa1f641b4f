//! The commands and snippets of README.md and the manual, run against the program itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use ghtokend::settings::{Settings, Sources};

use serde_json::Value;

use super::pages::blocks;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ghtokend");

/// A process of ours, ended with the test.
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, stdout: BufReader::new(stdout), stderr: BufReader::new(stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines up to the one that has `last` in it.
fn lines_until(output: &mut BufReader<impl Read>, last: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert!(output.read_line(&mut line).unwrap() > 0, "no line has {last:?} in it: {lines:?}");
        lines.push(line.trim_end().to_owned());
        if line.contains(last) {
            return lines;
        }
    }
}

/// The demo, and the address of its daemon.
pub fn demo() -> (Running, Vec<String>, String) {
    let mut demo = Running::start(Command::new(PROGRAM).arg("demo").env_clear());
    let lines = lines_until(&mut demo.stdout, "README.md");
    let address = lines[0].split_once("http://").unwrap().1.split_once(',').unwrap().0.to_owned();
    (demo, lines, address)
}

/// A shell in `dir` that knows `ghtokend` and nothing of this process's environment.
fn shell(script: &str, dir: &Path) -> Command {
    let mut path = OsString::from(Path::new(PROGRAM).parent().unwrap());
    path.push(":");
    path.push(inherited("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(dir).env_clear().env("PATH", path).stdin(Stdio::null());
    command
}

/// Runs what must succeed and print something.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success()
            && (!output.stdout.is_empty() || format!("{command:?}").contains("healthcheck")),
        "{command:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[expect(clippy::disallowed_methods, reason = "a shell needs PATH, and only CI must have curl")]
fn inherited(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

#[cfg_attr(not(has_curl), ignore = "curl is not installed")]
#[test]
fn demo_commands_in_docs_run() {
    let (_demo, lines, address) = demo();
    let dir = tempfile::tempdir().unwrap();
    let shown: Vec<_> = lines.iter().filter(|line| line.starts_with("curl ")).collect();
    assert!(shown.len() >= 3, "{lines:?}");
    for line in shown {
        run(&mut shell(line, dir.path()));
    }
    for block in blocks("sh demo") {
        run(&mut shell(&block.replace("127.0.0.1:7171", &address), dir.path()));
    }
}

#[cfg_attr(not(has_curl), ignore = "curl is not installed")]
#[test]
fn the_way_to_the_real_github_works() {
    let dir = tempfile::tempdir().unwrap();
    let (_fake, ready) = fake_github(dir.path());
    let socket = dir.path().join("socket");
    let mut environment = BTreeMap::from([
        ("GITHUB_API_URL".to_owned(), text(&ready["api_url"])),
        ("GHTOKEND_LISTEN__TCP".to_owned(), "127.0.0.1:0".to_owned()),
        ("GHTOKEND_LISTEN__UNIX".to_owned(), socket.display().to_string()),
    ]);
    let mut replacements = vec![
        ("123456", ready["apps"][0]["id"].to_string()),
        ("my-app.private-key.pem", text(&ready["apps"][0]["private_key_file"])),
        ("my-org", "acme".to_owned()),
        ("/run/ghtokend/ghtokend.sock", socket.display().to_string()),
    ];
    let git_host = text(&ready["api_url"]).replace("://", "\\nhost=");
    replacements.push(("https\\nhost=github.com", git_host));
    let mut daemon = None;
    let script = blocks("sh real").into_iter().chain(blocks("sh socket")).collect::<Vec<_>>().join("\n");
    for line in script.lines().filter(|line| !line.is_empty()) {
        let line = replacements.iter().fold(line.to_owned(), |line, (from, to)| line.replace(from, to));
        if let Some((name, value)) = line.strip_prefix("export ").and_then(|line| line.split_once('=')) {
            environment.insert(name.to_owned(), value.to_owned());
        } else if line == "ghtokend serve" {
            let mut serve = Running::start(shell("exec ghtokend serve", dir.path()).envs(&environment));
            let log = lines_until(&mut serve.stderr, "\"listening\"");
            let listening: Value = serde_json::from_str(log.last().unwrap()).unwrap();
            let address = text(&listening["tcp"]);
            environment.insert("GHTOKEND_URL".to_owned(), format!("http://{address}"));
            replacements.push(("127.0.0.1:7171", address));
            daemon = Some(serve);
        } else if line.contains("--socket") {
            run(shell(&line, dir.path()).envs(&environment).env_remove("GHTOKEND_URL"));
        } else {
            run(shell(&line, dir.path()).envs(&environment));
        }
    }
    assert!(daemon.is_some(), "no line is `ghtokend serve`");
}

#[cfg_attr(not(has_curl), ignore = "curl is not installed")]
#[cfg_attr(not(has_openssl), ignore = "openssl is not installed")]
#[test]
fn webhook_commands_in_docs_run() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "a secret of two parties").unwrap();
    let environment = [
        ("GITHUB_API_URL", "http://127.0.0.1:9".to_owned()),
        ("GITHUB_APP_ID", "1".to_owned()),
        ("GITHUB_APP_PRIVATE_KEY_FILE", format!("{}/tests/it/keys/rsa.pem", env!("CARGO_MANIFEST_DIR"))),
        ("GHTOKEND_WEBHOOK__SECRET_FILE", secret.display().to_string()),
        ("SECRET", "a secret of two parties".to_owned()),
    ];
    let mut serve = shell("exec ghtokend serve --listen 127.0.0.1:0", dir.path());
    let mut serve = Running::start(serve.envs(environment.clone()));
    let listening: Value =
        serde_json::from_str(lines_until(&mut serve.stderr, "\"listening\"").last().unwrap()).unwrap();
    let told = blocks("sh webhook").remove(0).replace("127.0.0.1:7171", listening["tcp"].as_str().unwrap());
    assert_eq!(run(shell(&told, dir.path()).envs(environment)), "{\"outcome\":\"applied\"}\n");
}

#[cfg_attr(not(has_curl), ignore = "curl is not installed")]
#[test]
fn fake_github_commands_in_docs_run() {
    let dir = tempfile::tempdir().unwrap();
    let (_fake, ready) = fake_github(dir.path());
    let line = blocks("json ready").remove(0);
    let shown: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(names(&shown), names(&ready));
    assert_eq!(names(&shown["apps"][0]), names(&ready["apps"][0]));
    let address = |name: &str| text(&ready[name]).trim_start_matches("http://").to_owned();
    for block in blocks("sh fake") {
        let script = block.replace("127.0.0.1:8080", &address("api_url"));
        let script = script.replace("127.0.0.1:8081", &address("control_url"));
        run(&mut shell(&script, dir.path()));
    }
}

/// Starts it with the command that the pages show, on free ports.
fn fake_github(dir: &Path) -> (Running, Value) {
    let command = blocks("sh fake-github").remove(0).replace(":8080", ":0").replace(":8081", ":0");
    let mut fake = Running::start(&mut shell(&format!("exec {command}"), dir));
    let line = lines_until(&mut fake.stdout, "{").remove(0);
    (fake, serde_json::from_str(&line).unwrap())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn names(value: &Value) -> BTreeSet<&String> {
    value.as_object().unwrap().keys().collect()
}

#[test]
fn the_snippets_of_configuration_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for block in blocks("toml") {
        let file = dir.path().join("ghtokend.toml");
        std::fs::write(&file, &block).unwrap();
        let settings = Settings::load(&Sources { file: Some(file), ..Sources::default() });
        settings.unwrap_or_else(|error| panic!("{error}\n{block}")).require_apps().unwrap();
    }
}

#[test]
fn git_snippet_in_docs_works() {
    let dir = tempfile::tempdir().unwrap();
    for block in blocks("gitconfig") {
        let file = dir.path().join("config");
        std::fs::write(&file, &block).unwrap();
        run(&mut shell("git config --file config credential.https://github.com.helper", dir.path()));
    }
}
