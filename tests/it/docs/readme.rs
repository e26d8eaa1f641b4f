//! README.md, run: its commands, tables and snippets against the program itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use ghtokend::client::{Address, Answer, Client};
use ghtokend::fake_github::{Effect, Fault};
use ghtokend::model::ErrorCode;
use ghtokend::settings::{Settings, Sources};

use serde_json::Value;

use crate::support::world::World;

const README: &str = include_str!("../../../README.md");
const PROGRAM: &str = env!("CARGO_BIN_EXE_ghtokend");

/// A process of ours, ended with the test.
struct Running {
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
fn demo() -> (Running, Vec<String>, String) {
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

/// Whether there is a curl. Without one, what needs it is left out, but not in CI.
pub fn has_curl() -> bool {
    has("curl", "--version")
}

fn has(tool: &str, version: &str) -> bool {
    let found = Command::new(tool).arg(version).output().is_ok_and(|output| output.status.success());
    assert!(found || inherited("CI").is_none(), "{tool} is missing: install it");
    if !found {
        eprintln!("\n!!! {tool} is missing: the commands of README.md are NOT tested. Install {tool}.\n");
    }
    found
}

/// The fenced blocks with this info string.
pub fn blocks(info: &str) -> Vec<String> {
    let fence = format!("\n```{info}\n");
    let found = README.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned());
    let found: Vec<_> = found.collect();
    assert!(!found.is_empty(), "README.md has no block of {info:?}");
    found
}

/// The text below a heading.
fn section(heading: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

/// The cells of the rows of every table in `text` whose head begins with `first`.
fn rows(text: &str, first: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let tables = text.split("\n\n").filter(|block| block.trim_start().starts_with(&format!("| {first} |")));
    let found: Vec<Vec<String>> =
        tables.flat_map(|table| table.trim().lines().skip(2).map(cells).collect::<Vec<_>>()).collect();
    assert!(!found.is_empty(), "there is no table that begins with {first:?}");
    found
}

/// What stands between backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn what_the_demo_prints_and_what_is_written_about_it_runs() {
    if !has_curl() {
        return;
    }
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

#[test]
fn the_way_to_the_real_github_works() {
    if !has_curl() {
        return;
    }
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
    for line in script.lines() {
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

#[test]
fn the_webhook_is_told_what_is_written() {
    if !has_curl() || !has("openssl", "version") {
        return;
    }
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

#[test]
fn the_fake_github_does_what_is_written() {
    if !has_curl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (_fake, ready) = fake_github(dir.path());
    let line = blocks("json").into_iter().find(|block| block.contains("\"api_url\"")).unwrap();
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

/// Starts it with the command that README.md shows, on free ports.
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
fn the_commands_are_those_that_there_are() {
    let help = |arguments: &[&str]| {
        let output = Command::new(PROGRAM).args(arguments).arg("--help").env_clear().output().unwrap();
        assert!(output.status.success(), "{arguments:?} --help: {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    };
    let all = help(&[]);
    let list = all.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let there: BTreeSet<_> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    let table = rows(section("Commands"), "Command");
    let told: BTreeSet<_> =
        table.iter().map(|row| row[0].trim_matches('`').strip_prefix("ghtokend ").unwrap()).collect();
    assert_eq!(told, there);
    for row in &table {
        let help = help(&[row[0].trim_matches('`').strip_prefix("ghtokend ").unwrap()]);
        for flag in code(&row[1]).filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag.split(' ').next().unwrap()), "{}: {flag}", row[0]);
        }
    }
    for (at, _) in README.match_indices("`ghtokend ") {
        let word = README[at + "`ghtokend ".len()..].split([' ', '`']).next().unwrap();
        assert!(there.contains(word) || word == "COMMAND", "`ghtokend {word}` is no command");
    }
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
fn what_git_is_told_is_gits_language() {
    let dir = tempfile::tempdir().unwrap();
    for block in blocks("gitconfig") {
        let file = dir.path().join("config");
        std::fs::write(&file, &block).unwrap();
        run(&mut shell("git config --file config credential.https://github.com.helper", dir.path()));
    }
}

#[test]
fn the_errors_are_those_that_the_server_can_answer() {
    let told: BTreeSet<(String, String)> = rows(section("Errors"), "Status")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].trim_matches('`').to_owned()))
        .collect();
    let pairs =
        ErrorCode::ALL.into_iter().flat_map(|code| code.statuses().iter().map(move |status| (status, code)));
    let there = pairs.map(|(status, code)| (status.to_string(), code.as_str().to_owned()));
    assert_eq!(told, there.collect());
}

/// The metrics of a daemon whose app GitHub limits: some have no value before that.
async fn limited() -> String {
    let world = World::start().await;
    world.github.fault(Fault::new(Effect::SecondaryLimit { status: 429, retry_after: Some(60) }));
    for _ in 0..2 {
        assert_eq!(world.get("/token").await.code(), "rate_limited");
    }
    world.get("/metrics").await.text()
}

#[tokio::test]
async fn parameters_and_metrics_are_those_of_the_daemon() {
    let (_demo, _, address) = demo();
    let client = Client { address: Address::Tcp(address), app: None, secret: None };
    let get = async |target| -> Answer { client.get(target, "application/json").await.unwrap() };

    assert_eq!(get("/token").await.status, 200);
    let scrape = String::from_utf8(get("/metrics").await.body.to_vec()).unwrap() + &limited().await;
    let there: BTreeSet<_> = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned))
        .collect();
    let table = rows(section("Metrics"), "Metric");
    assert_eq!(table.iter().map(|row| row[0].trim_matches('`').to_owned()).collect::<BTreeSet<_>>(), there);

    let refusal = get("/token?no_such=1").await.error();
    let there: BTreeSet<_> = refusal.split_once("there are ").unwrap().1.split(", ").collect();
    let table = rows(section("GET /token"), "Parameter");
    let told = table.iter().flat_map(|row| code(&row[0])).filter_map(|code| Some(code.split_once('=')?.0));
    assert_eq!(told.collect::<BTreeSet<_>>(), there);
}

#[test]
fn every_line_of_the_page_of_2016_has_its_tests() {
    let table = rows(section("Other endpoints"), "Line of the page");
    let told: BTreeSet<_> = table.iter().flat_map(|row| code(&row[1])).collect();
    assert_eq!(told, tests_in(include_str!("page.rs")));
}

#[test]
fn every_promise_has_its_tests() {
    let table = rows(section("What it survives"), "What goes wrong");
    let mut told = BTreeSet::new();
    for row in &table {
        for test in code(&row[3]) {
            let (module, name) = test.split_once("::").unwrap();
            let source = source_of(module);
            assert!(tests_in(&source).contains(name), "there is no test {test}");
            told.extend((module == "faults").then_some(name));
        }
        assert!(row.len() == 4 && code(&row[3]).count() > 0, "{row:?}");
    }
    assert_eq!(told, tests_in(include_str!("../upstream/faults.rs")), "faults.rs is there for the table");
}

/// The file of a module, in whichever room it is.
fn source_of(module: &str) -> String {
    let rooms = std::fs::read_dir(root().join("tests/it")).unwrap();
    let mut files = rooms.map(|room| room.unwrap().path().join(format!("{module}.rs")));
    let file = files.find(|file| file.exists()).unwrap_or_else(|| panic!("no room has {module}.rs"));
    std::fs::read_to_string(file).unwrap()
}

/// The names of the tests in a file.
fn tests_in(source: &str) -> BTreeSet<&str> {
    let after = source.lines().zip(source.lines().skip(1));
    let tests = after.filter(|(line, _)| *line == "#[test]" || line.starts_with("#[tokio::test"));
    tests
        .map(|(_, line)| {
            line.trim_start_matches("async ").trim_start_matches("fn ").split('(').next().unwrap()
        })
        .collect()
}

#[test]
fn links_and_paths_lead_somewhere() {
    let anchor = |heading: &str| {
        let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
        heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
    };
    let anchors: BTreeSet<_> = README
        .lines()
        .filter_map(|line| line.strip_prefix("##"))
        .map(|heading| anchor(heading.trim_start_matches('#').trim()))
        .collect();
    for link in README.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        match link.strip_prefix('#') {
            Some(to) => assert!(anchors.contains(to), "{link}"),
            None if link.starts_with("https://") => {}
            None => assert!(root().join(link).exists(), "{link}"),
        }
    }
    // What the daemon's errors point to.
    assert!(anchors.contains("errors"));

    let tops = ["src/", "config/", "deploy/", "tests/", ".ci/"];
    let paths: Vec<_> = code(section("How it is built"))
        .chain(code(section("How to test")))
        .filter(|path| tops.iter().any(|top| path.starts_with(top)))
        .collect();
    for path in &paths {
        assert!(root().join(path).exists(), "{path}");
    }
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        let told = [format!("src/{module}/"), format!("src/{module}.rs")];
        let told = paths.iter().any(|path| told.iter().any(|told| told == path));
        assert!(told, "src/{name} is not on the map of README.md");
    }
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}
