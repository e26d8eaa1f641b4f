//! The tables of README.md, the manual and PROMISES.md say what is in the program and its tests.

use std::collections::BTreeSet;
use std::process::Command;

use ghtokend::client::{Address, Client, Response};
use ghtokend::fake_github::{Effect, Fault};
use ghtokend::model::ErrorCode;

use super::commands::{PROGRAM, demo};
use super::pages::{Page, all, blocks, code, guide, readme, root};
use crate::support::world::World;

/// What `ghtokend … --help` prints.
fn help(arguments: &[&str]) -> String {
    let output = Command::new(PROGRAM).args(arguments).arg("--help").env_clear().output().unwrap();
    assert!(output.status.success(), "{arguments:?} --help: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that there are.
fn commands() -> BTreeSet<String> {
    let all = help(&[]);
    let list = all.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

fn command_of(row: &[String]) -> &str {
    row[0].trim_matches('`').strip_prefix("ghtokend ").unwrap()
}

#[test]
fn command_tables_list_the_commands() {
    for page in [readme(), guide("cli")] {
        let table = page.rows("Command");
        assert_eq!(table.iter().map(|row| command_of(row).to_owned()).collect::<BTreeSet<_>>(), commands());
        for row in &table {
            let help = help(&[command_of(row)]);
            for flag in code(&row[1]).filter(|word| word.starts_with("--")) {
                assert!(help.contains(flag.split(' ').next().unwrap()), "{}: {}: {flag}", page.path, row[0]);
            }
        }
    }
    let help = help(&["fake-github"]);
    for row in guide("emulator").rows("Flag") {
        for flag in code(&row[0]) {
            assert!(help.contains(flag.split(' ').next().unwrap()), "fake-github has no {flag}");
        }
    }
}

#[test]
fn commands_in_prose_exist() {
    let there = commands();
    for page in all() {
        for word in
            page.prose().split("`ghtokend ").skip(1).map(|rest| rest.split([' ', '`']).next().unwrap())
        {
            let known = there.contains(word) || ["COMMAND", "…", "--version"].contains(&word);
            assert!(known, "{}: `ghtokend {word}` is no command", page.path);
        }
    }
}

#[test]
fn configuration_keys_in_prose_exist() {
    let defaults: toml::Table =
        std::fs::read_to_string(root().join("config/ghtokend.toml")).unwrap().parse().unwrap();
    for page in all() {
        let prose = page.prose();
        for word in code(&prose).map(|word| word.split(" = ").next().unwrap()) {
            let Some((section, key)) = word.split_once('.').filter(|_| word != "github.com") else {
                continue;
            };
            let Some(section) = defaults.get(section).and_then(toml::Value::as_table) else { continue };
            assert!(section.contains_key(key), "{}: {word} is no configuration key", page.path);
        }
    }
}

#[test]
fn error_table_lists_the_codes() {
    let table = guide("operations").rows("Status");
    let told: BTreeSet<_> =
        table.iter().map(|row| (row[0].clone(), row[1].trim_matches('`').to_owned())).collect();
    let pairs =
        ErrorCode::ALL.iter().flat_map(|code| code.statuses().iter().map(move |status| (status, code)));
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

/// The names of the metrics in a scrape.
fn metrics_in(scrape: &str) -> BTreeSet<String> {
    scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn documented_parameters_and_metrics_match() {
    let (_demo, _, address) = demo();
    let client = Client { address: Address::Tcp(address), app: None, secret: None };
    let get = async |target| -> Response { client.get(target, "application/json").await.unwrap() };

    assert_eq!(get("/token").await.status, 200);
    let scrape = String::from_utf8(get("/metrics").await.body.to_vec()).unwrap() + &limited().await;
    let there = metrics_in(&scrape);
    let table = guide("operations").rows("Metric");
    assert_eq!(table.iter().map(|row| row[0].trim_matches('`').to_owned()).collect::<BTreeSet<_>>(), there);
    for page in all() {
        for rest in page.text.split("ghtokend_").skip(1) {
            let name = rest.split(|c: char| c != '_' && !c.is_ascii_lowercase()).next().unwrap();
            let name = format!("ghtokend_{name}");
            assert!(there.contains(&name), "{}: {name} is no metric", page.path);
        }
    }
    assert!(blocks("yaml alerts")[0].matches("expr:").count() > 5);

    let refusal = get("/token?no_such=1").await.error();
    let list =
        ["there are ", "expected one of "].iter().find_map(|words| refusal.split_once(words)).unwrap().1;
    let there: BTreeSet<_> = list.split(", ").collect();
    for page in [readme(), guide("tokens")] {
        let table = page.rows("Parameter");
        let told =
            table.iter().flat_map(|row| code(&row[0])).filter_map(|code| Some(code.split_once('=')?.0));
        assert_eq!(told.collect::<BTreeSet<_>>(), there, "{}", page.path);
    }
}

#[test]
fn preview_lines_have_their_tests() {
    let table = Page::read("tests/it/PROMISES.md").rows("Line of the page");
    let told: BTreeSet<_> = table.iter().flat_map(|row| code(&row[1])).collect();
    assert_eq!(told, tests_in(include_str!("page.rs")));
}

#[test]
fn promises_have_their_tests() {
    let table = Page::read("tests/it/PROMISES.md").rows("What goes wrong");
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
    let rooms = std::fs::read_dir(root().join("tests/it")).unwrap().map(|room| room.unwrap().path());
    let mut files = rooms.chain([root().join("tests/system")]).map(|room| room.join(format!("{module}.rs")));
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
