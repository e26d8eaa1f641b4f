//! README.md and the pages of the manual, as the other tests here read them.

use std::path::{Path, PathBuf};

/// A page in Markdown.
pub struct Page {
    /// From the root of the repository, such as `src/guide/tokens.md`.
    pub path: String,
    pub text: String,
}

impl Page {
    pub fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(root().join(path));
        Self { path: path.to_owned(), text: text.unwrap_or_else(|error| panic!("{path}: {error}")) }
    }

    /// The fenced blocks: what stands behind the fence, and the block.
    pub fn fences(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        let mut is_inside = false;
        for line in self.text.lines() {
            match line.trim_start().strip_prefix("```") {
                Some(tag) if !is_inside => {
                    found.push((tag.to_owned(), String::new()));
                    is_inside = true;
                }
                Some(_) => is_inside = false,
                None if is_inside => {
                    let (_, block) = found.last_mut().unwrap();
                    block.push_str(line);
                    block.push('\n');
                }
                None => {}
            }
        }
        assert!(!is_inside, "{}: a fence is not closed", self.path);
        found
    }

    /// The text without the fenced blocks.
    pub fn prose(&self) -> String {
        let parts = self.text.split("```").step_by(2);
        parts.collect::<Vec<_>>().join("\n")
    }

    /// The anchors of its headings, as GitHub and rustdoc make them.
    pub fn anchors(&self) -> Vec<String> {
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
    }

    /// The rows of every table whose first column has the head `first`.
    pub fn rows(&self, first: &str) -> Vec<Vec<String>> {
        let cells =
            |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        let head = format!("| {first} |");
        let tables = self.text.split("\n\n").filter(|block| block.trim_start().starts_with(&head));
        let found: Vec<Vec<String>> =
            tables.flat_map(|table| table.trim().lines().skip(2).map(cells).collect::<Vec<_>>()).collect();
        assert!(!found.is_empty(), "{}: there is no table that begins with {first:?}", self.path);
        found
    }
}

fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

/// README.md.
pub fn readme() -> Page {
    Page::read("README.md")
}

/// A page of the manual.
pub fn guide(name: &str) -> Page {
    Page::read(&format!("src/guide/{name}.md"))
}

/// The pages of the manual, by name.
pub fn manual() -> Vec<Page> {
    let files = std::fs::read_dir(root().join("src/guide")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != RUSTDOC_LINKS).collect();
    names.sort();
    names.iter().map(|name| guide(name.strip_suffix(".md").unwrap())).collect()
}

/// README.md and the manual.
pub fn all() -> Vec<Page> {
    [readme()].into_iter().chain(manual()).collect()
}

/// What stands in all pages behind this tag, in their order, README.md first.
pub fn blocks(tag: &str) -> Vec<String> {
    let fences = all().into_iter().flat_map(|page| page.fences());
    let found: Vec<_> = fences.filter(|(found, _)| found == tag).map(|(_, block)| block).collect();
    assert!(!found.is_empty(), "no page has a block of {tag:?}");
    found
}

/// What stands between backticks.
pub fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The files below `dir` with this extension.
pub fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found
}

/// The root of the repository.
pub fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// Where links of the manual lead within rustdoc.
pub const RUSTDOC_LINKS: &str = "rustdoc-links.md";
