//! The house rules that a machine can hold: who may use whom, and how long a file may grow.

use std::collections::BTreeSet;
use std::path::Path;

/// What each module may use of this crate, beside itself, `model` and `clock`. Widening it is a commit of its own.
const MAY_USE: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("lib", &[]),
    ("cli", &["app", "client", "api", "settings", "telemetry", "shutdown", "secret_file", "fake_github"]),
    ("app", &["server", "broker", "github", "settings", "telemetry", "api", "policy", "shutdown"]),
    ("shutdown", &[]),
    ("server", &["api", "policy", "broker", "caller", "telemetry"]),
    ("caller", &[]),
    ("broker", &["github", "backoff", "single_flight", "jitter", "keyed_hash", "telemetry"]),
    ("policy", &[]),
    ("github", &["backoff", "single_flight", "jitter", "keyed_hash", "secret_file"]),
    ("backoff", &[]),
    ("single_flight", &[]),
    ("jitter", &[]),
    ("keyed_hash", &[]),
    ("model", &[]),
    ("clock", &[]),
    ("secret_file", &[]),
    ("settings", &["policy", "secret_file"]),
    ("telemetry", &[]),
    ("client", &["api"]),
    ("api", &[]),
    ("guide", &[]),
    ("fake_github", &[]),
];

/// Crates that a module must not know.
const MUST_NOT_KNOW: &[(&str, &[&str])] = &[
    ("main", &["hyper", "reqwest", "moka", "tokio"]),
    ("cli", &["hyper", "reqwest", "moka", "jsonwebtoken"]),
    ("server", &["reqwest", "jsonwebtoken", "moka", "aws_lc_rs"]),
    ("broker", &["hyper", "reqwest", "serde", "serde_json", "jsonwebtoken"]),
    ("caller", &["tokio", "reqwest", "moka", "serde_json", "tracing"]),
    ("policy", &["tokio", "hyper", "std::fs", "std::net"]),
    ("github", &["moka", "hyper"]),
    ("single_flight", &["hyper", "reqwest", "moka", "serde_json"]),
    ("model", &["tokio", "serde_json", "tracing", "hyper", "reqwest", "moka"]),
    ("clock", &["tokio", "serde_json", "tracing", "hyper", "reqwest", "moka"]),
    ("settings", &["hyper", "reqwest", "moka", "tokio"]),
    ("telemetry", &["hyper", "reqwest", "moka", "tokio"]),
    ("fake_github", &["reqwest", "moka", "config"]),
];

/// How names began before the field's terms took their place: limits are `MAX_` and `MIN_`, periods `_INTERVAL` and
/// `_TIMEOUT`, webhooks bring a `WebhookEvent`, and callers have a `Requirement`.
const RETIRED_WORDS: &[&str] = &[
    "LONGEST_",
    "MOST_",
    "LARGEST_",
    "SHORTEST_",
    "LEAST_",
    "BETWEEN_",
    "USUAL_",
    "UNNAMED_",
    "News",
    "Standing",
    "vouch_for",
    "Reaches",
    "InForce",
    "Remembrance",
    "remembrance",
    "Overtaken",
    "JustMinted",
    "LivesFor",
    "Doubtful",
    "NoneLivesLongEnough",
    "LifeTooLong",
    "Spoken",
    "Asker",
    "who_am_i",
    "can_serve",
    "dead_on_arrival",
    "learn_the_time",
    "tell_tale",
    "patience",
    "swept_by_hand",
    "must_be_there",
    "signs_anew",
    "resolve_anew",
    "SlotId",
    "Desk",
    "Invalidations",
    "DATE_GRAIN",
    "JUST_BEGUN",
    "in_need",
    "note_refusal",
];

/// The files that may look at a secret's value, and what for.
const MAY_EXPOSE: &[(&str, &str)] = &[
    ("src/app.rs", "a proxy's URL goes to the HTTP client"),
    ("src/app/keys.rs", "a key's text goes to its parser"),
    ("src/broker/cache/token_hash.rs", "the hash by which GitHub's audit log knows a token"),
    ("src/broker/cache/memory.rs", "the size of a token"),
    ("src/cli/exec.rs", "the token goes into the environment of a command"),
    ("src/client.rs", "the caller's secret goes into its header"),
    ("src/github/http/transport.rs", "the credential goes into its header"),
    ("src/github/dialect/integrations/wire.rs", "a nonce goes into its request, and out of its errors"),
    ("src/github/webhook.rs", "the webhook secret signs what GitHub says it has signed"),
    ("src/github/dialect/token_response.rs", "a token's bytes are checked"),
    ("src/model/secret.rs", "here it is defined"),
    ("src/server/git_credential.rs", "the token goes into its answer"),
    ("src/server/github_api/tokens.rs", "the token goes into its answer"),
    ("src/server/token.rs", "the token goes into its answer"),
    ("src/settings/", "variables and files are read"),
];

const MAX_FILE_LINES: usize = 400;

pub(super) struct Source {
    /// From the crate's root, such as `src/broker/cache/index.rs`.
    pub(super) path: String,
    /// Without tests.
    pub(super) code: String,
}

impl Source {
    /// The top-level module that it belongs to.
    fn module(&self) -> &str {
        self.path.trim_start_matches("src/").split(['/', '.']).next().unwrap()
    }

    /// Lines that are neither comment nor documentation.
    fn lines(&self) -> impl Iterator<Item = &str> {
        self.code.lines().map(str::trim).filter(|line| !line.starts_with("//"))
    }
}

pub(super) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut directories) = (Vec::new(), vec![root.join("src")]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("\n#[cfg(test)]\n").next().unwrap().to_owned();
                let path = path.strip_prefix(root).unwrap().display().to_string();
                found.push(Source { path, code });
            }
        }
    }
    assert!(found.len() > 40, "the sources were not found");
    found
}

fn listed<'a>(table: &[(&str, &'a [&'a str])], module: &str) -> &'a [&'a str] {
    table.iter().find(|(name, _)| *name == module).map_or(&[], |(_, list)| list)
}

/// The modules of this crate that a line names: `crate::x`, `ghtokend::x`, also within braces.
fn used_modules(line: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for root in ["crate::", "ghtokend::"] {
        for (at, _) in line.match_indices(root) {
            let rest = &line[at + root.len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(list) => list.split(['{', '}', ',']).map(str::trim).collect(),
                None => vec![rest],
            };
            let first = |name: &str| {
                name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned()
            };
            used.extend(names.into_iter().map(first).filter(|name| !name.is_empty()));
        }
    }
    used
}

#[test]
fn every_module_is_in_the_table() {
    let modules: BTreeSet<_> = sources().iter().map(|source| source.module().to_owned()).collect();
    for module in modules {
        assert!(
            MAY_USE.iter().any(|(name, _)| *name == module),
            "{module} is in no layer: add it to the table"
        );
    }
}

#[test]
fn modules_use_only_lower_layers() {
    for source in sources() {
        let module = source.module();
        let allowed = listed(MAY_USE, module);
        for line in
            source.lines().filter(|line| !line.starts_with("pub(in") && !line.contains("pub(crate)::"))
        {
            for used in used_modules(line) {
                let known = MAY_USE.iter().any(|(name, _)| *name == used);
                let below = [module, "model", "clock"].contains(&used.as_str()) && module != "fake_github";
                assert!(
                    !known
                        || below
                        || allowed.contains(&used.as_str())
                        || (module == "fake_github" && used == module),
                    "{}: {module} may not use {used}: {line}",
                    source.path
                );
            }
        }
    }
}

#[test]
fn modules_do_not_know_the_crates_of_other_layers() {
    for source in sources() {
        for foreign in listed(MUST_NOT_KNOW, source.module()) {
            let (path, braces) = (format!("{foreign}::"), format!("{foreign}::{{"));
            for line in source.lines() {
                let named = line.match_indices(&path).any(|(at, _)| {
                    at == 0 || !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                });
                assert!(
                    !named && !line.starts_with(&format!("use {braces}")),
                    "{} knows {foreign}: {line}",
                    source.path
                );
            }
        }
    }
}

#[test]
fn only_the_cache_knows_moka() {
    for source in sources().iter().filter(|source| !source.path.starts_with("src/broker/cache/")) {
        assert!(!source.lines().any(|line| line.contains("moka::")), "{} names moka", source.path);
    }
}

#[test]
fn secrets_are_exposed_in_known_places_only() {
    for source in sources().iter().filter(|source| source.module() != "fake_github") {
        let exposes = source.lines().any(|line| line.contains(".expose()") || line.contains("expose_secret"));
        let may = MAY_EXPOSE.iter().any(|(path, _)| source.path.starts_with(path));
        assert!(!exposes || may, "{} exposes a secret: say what for in the table", source.path);
    }
}

#[test]
fn retired_words_do_not_return() {
    for source in sources() {
        for line in source.lines() {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let mut names = line.split(|c| !is_part(c)).filter(|name| !name.is_empty());
            let retired = names.find(|name| RETIRED_WORDS.iter().any(|word| name.starts_with(word)));
            assert_eq!(retired, None, "{}: {line}", source.path);
        }
    }
}

#[test]
fn glossary_terms_stand_where_the_glossary_says() {
    let sources = sources();
    let lib = sources.iter().find(|source| source.path == "src/lib.rs").unwrap();
    let (_, glossary) = lib.code.split_once("//! | term | here | place |").unwrap();
    let rows = glossary.lines().skip(2).map_while(|line| line.strip_prefix("//! | "));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    assert!(rows.len() >= 25, "{rows:?}");
    for row in rows {
        let place = format!("src/{}", row[2].trim_matches([' ', '|', '`']));
        let source = sources.iter().find(|source| source.path == place);
        let text = source.unwrap_or_else(|| panic!("there is no {place}")).code.to_lowercase();
        for term in row[0].split(", ") {
            assert!(text.contains(&term.to_lowercase()), "{place} does not name {term:?}");
        }
    }
}

#[test]
fn file_has_at_most_400_lines_before_its_tests() {
    for source in sources() {
        let length = source.code.lines().count();
        assert!(length <= MAX_FILE_LINES, "{} has {length} lines: it is two files", source.path);
    }
}
