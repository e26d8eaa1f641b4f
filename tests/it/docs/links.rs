//! Links of README.md and the manual lead somewhere, and every fence has a tag that says what becomes of it.

use std::collections::{BTreeMap, BTreeSet};

use super::pages::{Page, RUSTDOC_LINKS, all, code, files, manual, readme, root};
use crate::support::world::World;

/// The tags of fences, and why no test runs what stands behind one. `""`: a test does, and names the tag.
const TAGS: &[(&str, &str)] = &[
    ("sh demo", ""),
    ("sh real", ""),
    ("sh socket", ""),
    ("sh webhook", ""),
    ("sh fake-github", ""),
    ("sh fake", ""),
    ("sh cargo", "cargo runs the tests, and the demo is run as a program by them"),
    ("sh cluster", "needs a cluster, Docker or systemd"),
    ("sh needs-gh", "needs gh; the same command is run with another program"),
    ("gitconfig", ""),
    ("toml", ""),
    ("yaml", "`.ci/manifests` prints it for a validator"),
    ("yaml alerts", ""),
    ("yaml compose", "needs Docker"),
    ("ini systemd", "needs systemd"),
    ("json", "is what a program prints"),
    ("json ready", ""),
    ("js token", ""),
    ("js octokit", ""),
    ("js fetch", ""),
    ("js part", "is a part of a program"),
    ("python", ""),
    ("rust,ignore", "needs octocrab"),
    ("text", "is a drawing"),
];

const MAX_README_LINES: usize = 200;

#[test]
fn readme_is_one_front_page() {
    let lines = readme().text.lines().count();
    assert!(
        lines <= MAX_README_LINES,
        "README.md has {lines} lines: what is not for everybody goes into src/guide"
    );
}

#[test]
fn fences_have_known_tags() {
    for page in all() {
        for (tag, block) in page.fences() {
            let known = TAGS.iter().any(|(known, _)| *known == tag);
            assert!(
                known,
                "{}: the tag {tag:?} is not in the table: say what becomes of\n{block}",
                page.path
            );
        }
    }
}

#[test]
fn tags_are_used_by_pages_and_tests() {
    let used: BTreeSet<_> = all().iter().flat_map(Page::fences).map(|(tag, _)| tag).collect();
    let tests = files(&root().join("tests/it"), "rs");
    let tests = tests.iter().filter(|path| !path.ends_with("docs/links.rs"));
    let tests: String = tests.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for (tag, reason) in TAGS {
        assert!(used.contains(*tag), "no page has a block of {tag:?}");
        assert!(
            !reason.is_empty() || tests.contains(&format!("\"{tag}\"")),
            "no test runs blocks of {tag:?}"
        );
    }
}

#[test]
fn inline_links_lead_somewhere() {
    let (promises, how_to_test) = (Page::read("tests/it/PROMISES.md"), Page::read("tests/README.md"));
    for page in all().into_iter().chain([promises, how_to_test]) {
        let prose = page.prose();
        for link in prose.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            check_link(&page, link);
        }
    }
}

#[test]
fn references_of_the_manual_are_defined_once() {
    let mut targets = BTreeMap::new();
    for page in manual() {
        let prose = page.prose();
        let used: BTreeSet<_> =
            prose.split("][").skip(1).map(|rest| rest.split(']').next().unwrap()).collect();
        let defined = definitions(&page);
        assert_eq!(used, defined.keys().map(String::as_str).collect(), "{}: used, and defined", page.path);
        for (label, target) in defined {
            check_link(&page, &target);
            assert_eq!(label, label_of(&label, &target), "{}: labels are what they lead to", page.path);
            targets.insert(label, target);
        }
    }
    let here = definitions(&Page::read(&format!("src/guide/{RUSTDOC_LINKS}")));
    let expected = targets.into_iter().map(|(label, target)| (label, in_rustdoc(&target)));
    assert_eq!(here, expected.collect(), "src/guide/{RUSTDOC_LINKS} says where links lead in rustdoc");
}

/// `[label]: target` at the end of a page.
fn definitions(page: &Page) -> BTreeMap<String, String> {
    let lines = page.text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    let lines = lines.filter(|(label, _)| !label.contains(']'));
    lines.map(|(label, target)| (label.to_owned(), target.to_owned())).collect()
}

/// What a link to `target` is called; the web's have names.
fn label_of(label: &str, target: &str) -> String {
    match target.strip_prefix("../../") {
        Some(path) => format!("file:{path}"),
        None if target.starts_with("https://") => label.to_owned(),
        None => target.replacen(".md", "", 1),
    }
}

/// Where `target` leads in rustdoc, for which a page is a module.
fn in_rustdoc(target: &str) -> String {
    match target.strip_prefix("../../") {
        Some(path) => format!("{}/blob/HEAD/{path}", env!("CARGO_PKG_REPOSITORY")),
        None if target.starts_with("https://") => target.to_owned(),
        None => {
            let (page, anchor) = target.split_once(".md").unwrap();
            format!("crate::guide::{}{anchor}", page.replace('-', "_"))
        }
    }
}

fn check_link(page: &Page, link: &str) {
    if link.starts_with("https://") {
        return;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let file = match path {
        "" => root().join(&page.path),
        path => root().join(&page.path).with_file_name("").join(path),
    };
    assert!(file.exists(), "{}: {link}", page.path);
    if !anchor.is_empty() {
        let text = std::fs::read_to_string(file).unwrap();
        let anchors = Page { path: path.to_owned(), text }.anchors();
        assert!(
            anchors.iter().any(|found| found == anchor),
            "{}: {link} leads to none of {anchors:?}",
            page.path
        );
    }
}

#[test]
fn paths_in_documents_exist() {
    let tops = ["src/", "config/", "deploy/", "tests/", ".ci/"];
    for page in all().into_iter().chain([Page::read("tests/README.md")]) {
        let prose = page.prose();
        for path in code(&prose).filter(|path| tops.iter().any(|top| path.starts_with(top))) {
            assert!(root().join(path).exists(), "{}: {path}", page.path);
        }
    }
}

#[test]
fn modules_are_on_the_map_of_the_crate() {
    let map = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        let is_on_it = ["main", "lib"].contains(&module) || map.contains(&format!("`{module}`"));
        assert!(is_on_it, "src/{name} is not in the table of src/lib.rs");
    }
}

#[tokio::test]
async fn errors_point_to_the_manual() {
    let world = World::start().await;
    let error = world.get("/nothing").await.json();
    let url = error["documentation_url"].as_str().unwrap();
    let path = url.strip_prefix(concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/HEAD/"));
    check_link(&readme(), path.unwrap_or_else(|| panic!("{url} is not in the repository")));
}

#[test]
fn log_messages_in_the_manual_exist() {
    let sources = files(&root().join("src"), "rs");
    let sources: String = sources.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for page in all() {
        for message in
            page.prose().split("the log says \"").skip(1).map(|rest| rest.split('"').next().unwrap())
        {
            assert!(sources.contains(message), "{}: the log never says {message:?}", page.path);
        }
    }
}
